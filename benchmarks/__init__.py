"""Benchmarks: what the system does on this machine, beside what it could and what others do.

`make bench` runs `ingest.py`. How it measures is in docs/benchmarks.md. Nothing here is installed.
"""
