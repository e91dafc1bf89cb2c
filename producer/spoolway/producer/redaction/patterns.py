r"""The one pattern that says where in a line a secret may be, and which kind it would be.

It is written in what RE2 and `re` have in common, and nothing in it runs to an end that may not be
there: searching is linear. It finds more than there is, `SecretsInText` looks closely. What an
ordinary event is full of does not match: `"authorization":"[redacted]"`, `"max_tokens":4096`,
`"api_key_id":"…"`, a language model's `{"token":"Hello","logprob":-0.1}`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from spoolway.producer.redaction.families import ANYWHERE, INSIDE, PREFIXED, PRIVATE_KEY
from spoolway.producer.redaction.hint import hint
from spoolway.producer.redaction.names import QUERY_WORDS, WORDS, words

REDACTED: Final = b"[redacted]"
TRUNCATED: Final = "… [truncated: ".encode()
"""What comes where a text was cut off."""

_ESCAPED: Final = rb"\\[nrtbf]|\\u00[01][0-9a-f]|%[0-9A-Fa-f]{2}"
_BOUND: Final = rb"(?:[^A-Za-z0-9]|" + _ESCAPED + rb")"


def _any_case(pattern: str) -> bytes:
    """Return the pattern for letters of any case. Sets are what `re` skips quickest."""
    parts = re.split(r"(\[[^\]]*\])", pattern)
    return "".join(
        part
        if part.startswith("[") and not part.isalpha() and not re.search("[a-z]", part)
        else part.replace("sz", "sSzZ")
        if part.startswith("[")
        else re.sub(r"[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", part)
        for part in parts
    ).encode()


def _not_redacted() -> bytes:
    """Return a pattern for how a value begins that is neither empty nor replaced already."""
    rest = b""
    for byte in reversed(REDACTED[1:]):
        sign = re.escape(bytes([byte]))
        rest = rb"(?:[^%b]|%b%b)" % (sign, sign, rest) if rest else rb"[^%b]" % sign
    return rb"(?:[^\"'\\\[]|\\[^\"'\\]|\\\\|\[%b)" % rest


QUOTE: Final = rb"\\*[\"'`]"
SEPARATOR: Final = rb"[ \t]{0,8}(?::=|[:=]{1,2}>?|%3[Dd])[ \t]{0,8}"
PAIR: Final = rb",[ \t]{0,4}(?:\\*[\"']value\\*[\"'] {0,4}: {0,4})?"
_TEXT: Final = rb"b?\\*[\"'`]" + _not_redacted()
_CONTAINER: Final = rb"(?:\{ {0,4}[^} ]|\[(?:[^\]r]|r[^e]))"
_BARE: Final = rb"[A-Za-z0-9$_/+~.!@#%^*-]"
_NUMBER: Final = rb"-?[0-9]"


def _valued(quote: bytes, values: bytes) -> bytes:
    """Return what follows a name: it was in quotation marks, or was not."""
    return rb"(?:%b(?:\]?%b(?:%b)|%b%b)" % (
        quote,
        SEPARATOR,
        values,
        PAIR,
        _TEXT,
    ) + rb"|%b(?:%b|%b|%b))" % (SEPARATOR, _TEXT, _CONTAINER, _BARE)


_NAMED: Final = _valued(QUOTE, b"|".join((_TEXT, _CONTAINER, _NUMBER)))
_TOKENED: Final = _valued(QUOTE, b"|".join((_TEXT, _CONTAINER)))
# Alone and in JSON's own quotation marks, "token" has its own pattern, `_IN_QUOTES`.
_TOKENED_ALONE: Final = (
    _valued(rb"(?:\\+\"|\\*['`])", b"|".join((_TEXT, _CONTAINER)))
    + rb"|\" {0,4}: {0,4}"
    + _CONTAINER
)
_TOKEN: Final = _any_case("token")


def _other_than(*keys: bytes) -> bytes:
    """Return a pattern for the beginning of a key that is none of these."""
    firsts: dict[bytes, list[bytes]] = {}
    for key in keys:
        firsts.setdefault(key[:1], []).append(key[1:])
    others = rb"[^%b]" % b"".join(firsts)
    return rb"(?:%b)" % b"|".join(
        [
            others,
            *(first + _other_than(*rest) for first, rest in firsts.items() if all(rest)),
        ]
    )


_AFTER_TOKEN: Final = (b"logprob", b"logProb", b'bytes"', b'tokenId"')
_IN_QUOTES: Final = (
    rb"\" {0,4}: {0,4}\"%b[^\"\\]*(?:\\.[^\"\\]*)*\"(?:[^,]|, {0,4}[^\" ]|, {0,4}\"%b)"
    % (_not_redacted(), _other_than(*_AFTER_TOKEN))
)
LOGPROB: Final = re.compile(rb'\\*["\']?\s*,\s*\\*["\'](?:log[pP]rob|bytes\\*"|tokenId\\*")')
"""What follows a token that a language model has chosen."""

_QUERY_NAME: Final = rb"[A-Za-z0-9_.~-]{0,40}"
_QUERY: Final = (
    rb"(?:[?&;]|\\u0026)(?:%b(?:%b)|%b%%[0-9A-Fa-f]{2}[A-Za-z0-9_.~%%-]{0,60})=[^&\s\"'\[]"
    % (_QUERY_NAME, b"|".join(map(_any_case, QUERY_WORDS)), _QUERY_NAME)
)
_URL: Final = rb":\\*/\\*/[^\s\"'\\/@?#:]{0,100}:[^\s\"'\\/@?#\[][^\s\"'\\/@?#]{0,200}@"
_HEADERS: Final = rb"[hH][eE][aA][dD][eE][rR][sS]\"\s{0,8}:\s{0,8}[\[{]"
_CUT: Final = rb'"_truncated":true|' + re.escape(TRUNCATED)


class Patterns:
    """The pattern with what a policy adds to it."""

    def __init__(
        self, names: Iterable[str], name_patterns: Iterable[str], tokens: Sequence[bytes]
    ) -> None:
        """Join the parts: names of the owner's own, ends of such names, and tokens."""
        own = [r"[ _.-]?".join(map(re.escape, words(name))).encode() for name in names]
        own += [rb"(?:%b)[A-Za-z0-9_.-]{0,40}" % pattern.encode() for pattern in name_patterns]
        core = rb"|".join([*map(_any_case, WORDS)])
        parts: list[tuple[str, bytes, bytes]] = [("name", core, _NAMED)]
        if own:
            parts.append(("own", rb"(?i:%b)" % b"|".join(own), _NAMED))
        parts += [
            ("token", rb"[A-Za-z0-9_-]" + _TOKEN, _TOKENED),
            ("lone", rb"[^A-Za-z0-9_-]" + _TOKEN, rb"(?:%b)" % _TOKENED_ALONE),
            ("model", rb'"' + _TOKEN, _IN_QUOTES),
            ("query", _QUERY, b""),
            ("url", _URL, b""),
        ]
        self.families = [*PREFIXED, *ANYWHERE, *INSIDE]
        prefixed = b"|".join(
            rb"(?P<f%d>%b)" % (at, family.begins) for at, family in enumerate(PREFIXED)
        )
        others = [
            rb"(?P<f%d>%b)" % (at, family.begins)
            for at, family in enumerate((*ANYWHERE, *INSIDE), len(PREFIXED))
        ]
        named = [rb"(?P<%b>%b)%b" % (kind.encode(), what, then) for kind, what, then in parts]
        own_tokens = [rb"(?P<t%d>%b)" % (at, token) for at, token in enumerate(tokens)]
        flags = [
            rb"(?P<block>%b)" % PRIVATE_KEY,
            rb"(?P<headers>%b)" % _HEADERS,
            rb"(?P<cut>%b)" % _CUT,
        ]
        whole = b"|".join([*named, rb"%b(?:%b)" % (_BOUND, prefixed), *others, *own_tokens, *flags])
        self.kinds = re.compile(whole)
        """Matches where the search has found something; its last group says what."""
        self.whole = re.sub(rb"\(\?P<\w+>", b"(?:", whole)
        self.may_find = hint(own, tokens)
