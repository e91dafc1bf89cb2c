"""The column `query`: parameters without the values of the secret ones."""

from collections.abc import Mapping
from typing import Any, Final

from spoolway.producer.redaction.headers import REDACTED
from spoolway.producer.redaction.names import NameRules, Verdict

_SHORT_CODE: Final = 8
"""Characters of a `code` that says what happened; one that opens a door is longer."""


def sanitised_query(query: object, names: NameRules) -> object:
    """Return the query as it was, with the values of secret names replaced.

    Takes text or bytes as they stand in a URL, a mapping, or a list of pairs.
    """
    match query:
        case str():
            return _replaced(query, names)
        case bytes() | bytearray():
            return _replaced(query.decode("latin-1"), names)
        case Mapping():
            return {name: _value(name, value, names) for name, value in query.items()}
        case list() | tuple():
            return [
                (pair[0], _value(pair[0], pair[1], names))
                if isinstance(pair, (list, tuple)) and len(pair) == 2
                else pair
                for pair in query
            ]
    return query


def _replaced(query: str, names: NameRules) -> str:
    if "=" not in query:
        return query
    begin, sign = "", query[:1]
    if sign == "?":
        begin, query = sign, query[1:]
    parts: list[str] = []
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        clean = _value(name, value, names) if value else value
        parts.append(f"{name}{equals}{clean}")
    return begin + "&".join(parts)


def _value(name: Any, value: Any, names: NameRules) -> Any:
    raw = name if isinstance(name, bytes) else str(name).encode(errors="replace")
    if names.judge(raw, in_query=True) is Verdict.PLAIN:
        return value
    if raw.lower() == b"code" and len(str(value)) < _SHORT_CODE:
        return value
    return REDACTED
