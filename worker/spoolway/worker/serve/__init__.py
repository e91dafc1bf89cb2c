"""The HTTP API and the page: what happened, for whoever may know.

Reads like a question's way: `server` (the socket, and what bounds a client), `app` (who may ask, how
often, and what is said of a failure), `tokens`, `limits`, `parameters` (what may be asked), `endpoints`
(one module for each topic, calling `spoolway.worker.reading`), `answers` and `export` (what is sent).
`openapi` describes the endpoints from the same declarations. Nothing here writes anything.
"""
