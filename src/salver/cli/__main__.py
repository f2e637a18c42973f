"""`python -m salver.cli`, which is `salver`."""

from salver.cli import main

main()
