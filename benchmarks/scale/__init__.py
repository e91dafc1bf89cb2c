"""How the cost of an event grows: with workers, rows, backlog and size; and what that foretells.

`make bench-scale` runs it by way of `benchmarks/capacity.py`. docs/capacity.md has its figures.
"""
