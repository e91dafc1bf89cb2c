"""How fast questions are answered when there are ten million requests, and what that costs ingest.

`python benchmarks/lookups.py --help` runs it; docs/usage-speed.md says what came out.
"""
