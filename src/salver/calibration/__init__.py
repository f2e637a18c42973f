"""`salver calibrate`: what a model's confidence is worth, and limits that keep promises.

From held-out rows to a calibration in use, and a report. It does not know how a calibration is
applied.
"""
