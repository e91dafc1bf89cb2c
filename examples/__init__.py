"""Spoolway in use: a proxy that records its requests, and the demo that shows the rows arriving."""
