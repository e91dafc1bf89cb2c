"""A proxy in Flask, recorded by Spoolway's WSGI middleware; Django's `application` is wrapped alike.

    export REDIS_URL=redis://127.0.0.1:6379/0 SPOOLWAY_DIR=var
    python -m examples.flask_proxy --port 8080

Answers go through as they come. `OPENAI_URL` names another backend.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import httpx
from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

from spoolway.producer import Producer
from spoolway.producer.wsgi import SpoolwayMiddleware

BACKEND: Final = os.environ.get("OPENAI_URL", "https://api.openai.com")
PASSED_ON: Final = ("Authorization", "Content-Type", "X-Request-Id")

client = httpx.Client(timeout=600)
app = Flask(__name__)
app.wsgi_app = SpoolwayMiddleware(app.wsgi_app, producer=Producer())  # type: ignore[method-assign]  # as Flask's documentation says


@app.post("/v1/<path:path>")
def pass_on(path: str) -> Response | tuple[Response, int]:
    """Ask the backend, and pass its answer on."""
    outgoing = client.build_request(
        "POST",
        f"{BACKEND}/v1/{path}",
        content=request.get_data(),
        headers={name: request.headers[name] for name in PASSED_ON if name in request.headers},
    )
    record = request.environ["spoolway"]  # of this request: add what only the proxy knows
    try:
        answer = client.send(outgoing, stream=True)
    except httpx.RequestError as error:
        record.attempt("openai", error)
        return jsonify(error={"type": "no_backend", "message": "no answer"}), 502
    kind = answer.headers.get("content-type")
    if answer.is_error:
        answer.read()
        record.attempt("openai", http_status=answer.status_code, response=answer.text)
        return Response(answer.content, answer.status_code, content_type=kind)
    record.attempt("openai", http_status=answer.status_code)
    return Response(_parts(answer), answer.status_code, content_type=kind)


def _parts(answer: httpx.Response) -> Iterator[bytes]:
    with closing(answer):  # also when the client hangs up
        yield from answer.iter_bytes()


def main() -> None:
    """Serve until Ctrl-C; in production, a WSGI server of yours does."""
    parser = argparse.ArgumentParser(prog="python -m examples.flask_proxy", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="on 127.0.0.1")
    make_server("127.0.0.1", parser.parse_args().port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
