"""What secrets look like by themselves: keys and tokens with a form of their own.

Each family has a beginning, of a bounded length, which is looked for, and a whole. Both are written
in what RE2 and `re` have in common, for bytes of encoded JSON.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final, NamedTuple


class Family(NamedTuple):
    """Secrets of one form."""

    begins: bytes
    """What the search looks for: no longer than it needs to be rare."""
    whole: re.Pattern[bytes]
    """What is replaced, from the same place on; if it has a group, that group."""
    check: Callable[[bytes], bool] | None = None
    """Tells what is to be replaced from what looks like it."""


def _is_random(found: bytes) -> bool:
    """Tell a key from words: it has digits, or capitals among small letters."""
    value = found[3:]
    has_digit = re.search(rb"\d", value) is not None
    return (has_digit and len(value) >= 4) or (
        len(value) >= 16 and value.lower() != value and value.upper() != value
    )


def _has_digit(found: bytes) -> bool:
    return re.search(rb"\d", found) is not None


def _is_bearer(found: bytes) -> bool:
    word = found.rstrip(b".,;:!?")
    return (
        re.search(rb"\d", word) is not None
        or (len(word) >= 16 and word[1:].lower() != word[1:] and not word.isupper())
        or len(word) >= 24
    )


def _is_basic(found: bytes) -> bool:
    """Tell whether it is the base64 of `user:password`."""
    padded = found.rstrip(b"=") + b"=" * (-len(found.rstrip(b"=")) % 4)
    try:
        return b":" in base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        return False


_WORD: Final = rb"[A-Za-z0-9_-]"
_ALNUM: Final = rb"[A-Za-z0-9]"


def _prefixed(prefix: bytes, characters: bytes, least: int) -> Family:
    return Family(
        prefix + characters + b"{%d}" % min(least, 16),
        re.compile(prefix + characters + b"{%d,}" % least),
    )


PREFIXED: Final = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek, LiteLLM, Langfuse and many more
    Family(rb"sk-[a-z_-]{0,24}[A-Z0-9]", re.compile(rb"sk-[A-Za-z0-9_-]+"), _is_random),
    Family(rb"pk-lf-[a-z0-9]", re.compile(rb"pk-lf-[A-Za-z0-9_-]+")),
    # JSON web tokens, and encrypted ones
    Family(
        rb"eyJ[A-Za-z0-9_-]{8}", re.compile(rb"eyJ[A-Za-z0-9_-]{8,2048}+(?:\.[A-Za-z0-9_-]*){2,4}")
    ),
    _prefixed(rb"(?:AKIA|ASIA|ABIA|ACCA)", rb"[A-Z0-9]", 16),
    _prefixed(rb"AIza", _WORD, 30),
    _prefixed(rb"ya29\.", rb"[A-Za-z0-9_.-]", 20),
    _prefixed(rb"GOCSPX-", _WORD, 20),
    _prefixed(rb"gh[pousr]_", _ALNUM, 20),
    _prefixed(rb"github_pat_", rb"[A-Za-z0-9_]", 20),
    _prefixed(rb"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt)-", rb"[A-Za-z0-9_.-]", 16),
    _prefixed(rb"glsa_", rb"[A-Za-z0-9_]", 20),
    _prefixed(rb"xox[abeoprs]-", _WORD, 10),
    _prefixed(rb"xapp-", _WORD, 10),
    _prefixed(rb"hooks\.slack\.com/services/", rb"[A-Za-z0-9/_]", 10),
    _prefixed(rb"hf_", _ALNUM, 20),
    _prefixed(rb"gsk_", _ALNUM, 20),
    _prefixed(rb"xai-", _ALNUM, 20),
    _prefixed(rb"pplx-", _ALNUM, 20),
    _prefixed(rb"nvapi-", _WORD, 20),
    _prefixed(rb"r8_", _ALNUM, 20),
    _prefixed(rb"fw_", _ALNUM, 20),
    _prefixed(rb"tgp_v1_", _WORD, 20),
    _prefixed(rb"tvly-", _WORD, 16),
    _prefixed(rb"jina_", _ALNUM, 20),
    _prefixed(rb"pcsk_", rb"[A-Za-z0-9_]", 20),
    _prefixed(rb"lsv2_[a-z]{2}_", rb"[a-f0-9_]", 20),
    _prefixed(rb"[srp]k_(?:live|test)_", _ALNUM, 10),
    _prefixed(rb"whsec_", rb"[A-Za-z0-9+/=]", 16),
    _prefixed(rb"npm_", _ALNUM, 30),
    _prefixed(rb"pypi-AgE", _WORD, 20),
    Family(rb"SG\.[A-Za-z0-9_-]{16}", re.compile(rb"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}")),
    _prefixed(rb"hvs\.", _WORD, 20),
    _prefixed(rb"dapi", rb"[a-f0-9]", 32),
    _prefixed(rb"do[opr]_v1_", rb"[a-f0-9]", 32),
    _prefixed(rb"shp(?:at|ca|pa|ss)_", rb"[A-Fa-f0-9]", 16),
    _prefixed(rb"lin_api_", _ALNUM, 20),
    _prefixed(rb"sq0[a-z]{3}-", _WORD, 20),
    _prefixed(rb"AGE-SECRET-KEY-1", rb"[A-Z0-9]", 20),
)
"""They begin where a word begins."""

_SPACE: Final = rb"(?: {1,4}|%20|\+)"

ANYWHERE: Final = (
    Family(
        rb"(?i:bearer)" + _SPACE + rb"[A-Za-z0-9._~+/=-]{8}",
        re.compile(rb"(?i:bearer)" + _SPACE + rb"([A-Za-z0-9._~+/=-]{8,})"),
        _is_bearer,
    ),
    Family(
        rb"(?i:basic)" + _SPACE + rb"[A-Za-z+/]{0,64}(?:[0-9=]|[a-z][A-Z])",
        re.compile(rb"(?i:basic)" + _SPACE + rb"([A-Za-z0-9+/]{8,}={0,2})"),
        _is_basic,
    ),
)
PRIVATE_KEY: Final = rb"-----BEGIN [A-Z ]{0,24}PRIVATE KEY"
"""It begins a block of many lines."""
END_OF_KEY: Final = re.compile(rb"-----END [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----")

_ELLIPSIS: Final = rb"(?:\xe2\x80\xa6|\\{1,7}u2026)"
INSIDE: Final = (
    # Azure's keys of 84 characters
    Family(rb"JQQJ99[A-Za-z0-9]{8}", re.compile(rb"[A-Za-z0-9]{20,}")),
    # Entra's client secrets
    Family(rb"[0-9]Q~[A-Za-z0-9_.~-]{8}", re.compile(rb"[A-Za-z0-9_.~-]{20,}")),
    # The last word of a text that somebody has cut off: it may be the first half of a key.
    Family(
        rb"[A-Za-z0-9+/_=.~-]{4}" + _ELLIPSIS + rb"\\{0,7}\"",
        re.compile(rb"([A-Za-z0-9+/_=.~-]{8,})" + _ELLIPSIS),
        _has_digit,
    ),
)
"""What gives them away is in their middle: the whole begins before it."""
