"""Programs that predict every row of a CSV file to Parquet, one per system, each a process.

`bench.offline` runs them and reads what they wrote: the columns of the input, `prediction`, and the
probabilities, as a struct or as a column per class. They know no more of the harness than their
arguments say.
"""
