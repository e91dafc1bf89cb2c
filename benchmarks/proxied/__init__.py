"""What a proxy loses by being recorded: the parts of `benchmarks/proxy.py`.

A load generator asks a real proxy under a real server, which asks a real upstream: three processes,
HTTP between them. The proxy is the same for all contestants but for who records.
"""
