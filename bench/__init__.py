"""The measurements: Salver, its rivals and the bare limits, on one machine in alternating rounds.

Run as ``python -m bench`` from the repository's root. It does not know how any server answers; a
server is one module of ``bench.systems``.
"""
