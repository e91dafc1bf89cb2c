"""The OpenAPI document: made from the endpoints' own declarations, so that it cannot lag behind."""

from collections.abc import Iterable
from typing import Any, Final

from spoolway.worker.serve.endpoint import NDJSON, Endpoint
from spoolway.worker.serve.parameters import Parameter
from spoolway.worker.serve.schemas import ERROR
from spoolway.worker.serve.status import VERSION

_ABOUT: Final = (
    "What an LLM proxy's users did: usage, cost and footprint, and every logged request and error. "
    "Nothing can be changed here. Times are UTC; a period is from its start until before its end; "
    "null is what is not known."
)
_STATUSES: Final = {
    400: "Asked wrongly; the message names the parameter",
    401: "No token, or none that is known",
    403: "Not for this token; or, without tokens, not from this machine",
    404: "There is no such thing, or this token does not see it",
    405: "Another method than GET, HEAD and OPTIONS",
    414: "A URL that is too long",
    429: "Too many requests a minute; Retry-After says when to ask again",
    500: "A mistake of Spoolway's",
    503: "The database cannot be asked now, or too much is asked at once",
    504: "The answer takes longer than a question may",
}
_ALL: Final = (400, 401, 403, 405, 414, 429, 500)
"""What any path may answer."""
_OF_DATABASE: Final = (503, 504)


def document_of(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spoolway",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": {endpoint.path: {"get": _operation(endpoint)} for endpoint in endpoints},
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where no token is set, it answers to this machine alone.",
                }
            },
            "responses": {
                str(status): {
                    "description": said,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}
                    },
                }
                for status, said in _STATUSES.items()
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": endpoint.schema}}
    if endpoint.streams:
        content |= {
            NDJSON: {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
        }
    statuses = sorted({*_ALL, *endpoint.errors, *(_OF_DATABASE if endpoint.asks_database else ())})
    return {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": [
            *(_parameter(each, "path") for each in endpoint.path_parameters),
            *(_parameter(each, "query") for each in endpoint.parameters),
        ],
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{str(each): {"$ref": f"#/components/responses/{each}"} for each in statuses},
        },
    }


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    schema: Any = parameter.schema
    if parameter.is_repeatable:
        schema = {"type": "array", "items": schema, "maxItems": 100}
    found = {
        "name": parameter.name,
        "in": place,
        "description": parameter.description,
        "required": place == "path",
        "schema": schema,
    }
    return found | ({"style": "form", "explode": True} if parameter.is_repeatable else {})
