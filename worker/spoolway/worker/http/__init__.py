"""Health and metrics over HTTP, in the worker's event loop.

Reads like a question's way: `listening` (the socket), `server` (what bounds a
client), `app` (the
three paths), `health` (what is alive and ready), `families` and `metrics` (what Prometheus gets),
`monitor`, `sample` and `sources` (what has to be asked for first). It only looks: nothing here
changes what the worker does, and whatever fails here, draining goes on.
"""
