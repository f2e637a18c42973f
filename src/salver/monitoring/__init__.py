"""The whole of `salver report` and `salver feedback`.

`salver report` shows the live account, on a terminal and as a page; `salver feedback` adds true
classes to it. Neither knows how rows are put on record, nor how an account is judged.
"""
