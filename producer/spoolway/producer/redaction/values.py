"""What stands under a secret's name and is none: nothing, code, prose, the schema of a tool."""

import re
from typing import Final

from spoolway.producer.redaction.names import NameRules, Verdict
from spoolway.producer.redaction.patterns import REDACTED

_NOTHING: Final = frozenset(
    b"null none nil undefined true false yes no on off redacted str string int integer number "
    b"float bool boolean bytes any optional text varchar object secretstr required inherit".split()
)
_SAYS: Final = re.compile(rb"[A-Za-z0-9\x80-\xff]")
_CALL: Final = re.compile(rb"[A-Za-z_][\w.]*[(\[{]")
_PATH: Final = re.compile(rb"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)")
_WORD: Final = re.compile(rb"[A-Za-z]+[.,;:!?]*")
_GOES_ON: Final = re.compile(rb"[ \t]+[A-Za-z(\[]")
_SCHEMA_BYTES: Final = 400
_SCHEMA: Final = re.compile(
    rb'\\*["\'](?:\$ref|type\\*["\']\s*:\s*(?:\[|\\*["\']'
    rb'(?:string|number|integer|boolean|array|object|null)\\*["\']))'
)
_CHOSEN: Final = re.compile(rb'\\*"log[pP]rob')


def is_nothing(value: bytes) -> bool:
    """Tell whether there is nothing to hide: no value, a mask, a type's name."""
    return (
        value.startswith(REDACTED)
        or _SAYS.search(value) is None
        or value.lower().rstrip(b".,;:") in _NOTHING
    )


def is_code(line: bytes, start: int, end: int, names: NameRules) -> bool:
    """Tell whether a value without quotation marks is an expression, such as a variable's name."""
    if _CALL.match(line, start):
        return True
    path = _PATH.fullmatch(line, start, end)
    return path is not None and names.judge(path[1]) is not Verdict.PLAIN


def is_prose(line: bytes, start: int, end: int) -> bool:
    """Tell whether it is a word, and a sentence goes on behind it."""
    return _WORD.fullmatch(line, start, end) is not None and _GOES_ON.match(line, end) is not None


def is_schema(line: bytes, start: int) -> bool:
    """Tell whether an object describes a parameter, and holds no value of it."""
    return _SCHEMA.search(line, start, start + _SCHEMA_BYTES) is not None


def is_chosen(line: bytes, start: int) -> bool:
    """Tell whether an object is a token that a language model has chosen."""
    return _CHOSEN.search(line, start, start + _SCHEMA_BYTES) is not None
