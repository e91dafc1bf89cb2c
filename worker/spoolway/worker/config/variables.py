"""`${VAR}` and `${VAR:-default}` in a value that has been parsed already.

Being put into a value and not into the file, a variable may hold any character. `$${` is `${`;
a `$` that no `{` follows is a dollar sign.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from spoolway.worker.config.addresses import end_of_userinfo

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)(?P<closed>\})?")
_INSIDE: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BARE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_STAND_IN: Final = "\0"


def fill(text: str, variables: Mapping[str, str]) -> str:
    """Put the variables in. In a URL's user and password they are percent-encoded.

    There a `%40` stays what it is, an `@`, as whoever wrote the variable for a URL meant it.

    Raises:
        ValueError: a variable that is not set, named; or a `${` that names none.
    """
    if "${" not in text:
        return text
    values: list[str | None] = []  # None: not a variable, but `${` itself

    def look_up(match: re.Match[str]) -> str:
        values.append(None if match[0] == "$${" else _value(match, variables))
        return _STAND_IN

    masked = _REFERENCE.sub(look_up, text.replace(_STAND_IN, ""))
    encode, until = _encoding(masked)
    filled, at = [], 0
    for piece, value in zip(masked.split(_STAND_IN), [*values, ""], strict=True):
        at += len(piece)
        put = "${" if value is None else value
        filled += [piece, encode(put) if at < until else put]
        at += 1
    return "".join(filled)


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    inside = _INSIDE.fullmatch(match["inside"])
    if inside is None or not match["closed"]:
        raise ValueError(
            "has a ${ that no name of a variable and } follow: write $${ if the characters are meant"
        )
    name, default = inside["name"], inside["default"]
    value = variables.get(name)
    if default is None:
        if value is None:
            raise ValueError(
                f"needs the variable {name}, which is not set: set it in the environment or in "
                f".env, or give a default, ${{{name}:-default}}"
            )
        return value
    if "${" in default:
        raise ValueError(f"has a default of {name} that is a variable itself: write it out")
    return value or default


def _encoding(masked: str) -> tuple[Callable[[str], str], int]:
    """Return how to encode what is put in before which position: that of a URL's `@`."""
    scheme = _SCHEME.match(masked)
    end = end_of_userinfo(masked[scheme.end() :]) if scheme else -1
    if scheme is None or end < 0:
        return str, 0
    userinfo = masked[scheme.end() : scheme.end() + end]
    # One variable for both, `${USER_AND_PASSWORD}@`, brings its colon along.
    safe = "%" if ":" in userinfo else "%:"
    return (
        lambda value: quote(_BARE_PERCENT.sub("%25", value), safe=safe, errors="surrogateescape"),
        scheme.end() + end,
    )
