"""What a request asks for: the model, a stream or not, and for whom."""

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from spoolway.producer.answers.ends import joined
from spoolway.producer.answers.shapes import mapping, parsed, text

_GEMINI: Final = re.compile(
    r"/(?:models|tunedModels|endpoints)/([^/]+):((?:stream)?(?:[gG]enerateContent|[rR]awPredict)"
    r"|embedContent|batchEmbedContents|countTokens|predict)$"
)
"""Also Vertex AI's paths of Google's, Anthropic's and other models."""
_AZURE: Final = re.compile(r"/openai/deployments/([^/]+)/")
_OLLAMA: Final = ("/api/chat", "/api/generate")
"""They stream unless told not to."""
_BOUNDARY: Final = re.compile(r'(?i)\bboundary=(?:"([^"]+)"|([^\s;,]+))')
_NAME: Final = re.compile(rb'(?i)\bname="([^"]*)"')
_FILENAME: Final = re.compile(rb'(?i)\bfilename="([^"]*)"')
_MOST_PARTS: Final = 100
"""Of a form; what comes after is not looked at."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request's body and path say."""

    model_name: str | None
    is_stream: bool
    user: str | None
    """OpenAI's `user` or `safety_identifier`, Anthropic's `metadata.user_id`."""
    content: Any
    """The parsed JSON; of a form its fields, with name and bytes of each file; other text as it
    is; None for anything else, and for an empty body."""


def asked_of(body: bytes, content_type: str, path: str, tail: bytes = b"") -> Asked:
    """Read a request; whatever it holds. A model in the path is what the server goes by.

    Of a body that is too large to be kept, `body` and `tail` are its first and last bytes.
    """
    content = joined(body, tail) if tail else _content(body, content_type)
    fields = mapping(content)
    metadata = mapping(fields.get("metadata"))
    in_gemini, in_azure = _GEMINI.search(path), _AZURE.search(path)
    in_path = in_gemini or in_azure
    return Asked(
        model_name=unquote(in_path[1]) if in_path else text(fields.get("model")),
        is_stream=_is_stream(fields, path, in_gemini[2] if in_gemini else ""),
        user=text(fields.get("user"))
        or text(fields.get("safety_identifier"))
        or text(metadata.get("user_id")),
        content=content,
    )


def _is_stream(fields: dict[str, Any], path: str, verb: str) -> bool:
    stream = fields.get("stream")
    if stream is None and fields and path.endswith(_OLLAMA):
        return True
    return verb.startswith("stream") or stream is True or stream == "true"


def _content(body: bytes, content_type: str) -> Any:
    if content_type.lower().startswith("multipart/form-data"):
        boundary = _BOUNDARY.search(content_type)
        return (
            _form(body, (boundary[1] or boundary[2]).encode(errors="replace")) if boundary else None
        )
    # Whatever the type says: clients are careless with it.
    content = parsed(body)
    if content is None and body.strip() != b"null":
        try:
            return body.decode() or None
        except UnicodeDecodeError:
            return None
    return content


def _form(body: bytes, boundary: bytes) -> dict[str, object] | None:
    """Return a form's fields (RFC 7578). Files are measured, not copied."""
    fields: dict[str, object] = {}
    delimiter = b"\r\n--" + boundary
    start = len(delimiter) - 2 if body.startswith(delimiter[2:]) else -1
    while start >= 0 and len(fields) < _MOST_PARTS:
        end = body.find(delimiter, start)
        value_at = body.find(b"\r\n\r\n", start, end if end >= 0 else len(body)) + 4
        if end < 0 or value_at < 4:
            break
        head = body[start:value_at]
        if name := _NAME.search(head):
            file = _FILENAME.search(head)
            fields[_decoded(name[1])] = (
                {"filename": _decoded(file[1]), "bytes": end - value_at}
                if file
                else _decoded(body[value_at:end])
            )
        start = end + len(delimiter)
    return fields or None


def _decoded(data: bytes) -> str:
    return data.decode(errors="replace")
