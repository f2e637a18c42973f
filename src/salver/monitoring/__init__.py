"""`salver report`: how the live account is shown, on a terminal and as a page.

It does not know how the account was kept or judged.
"""
