"""The careful look at a line in which the search has found something: what is secret, and how far.

Values are replaced where they stand, byte by byte, so that all else stays as it was, and the line
stays JSON.
"""

import re
from collections.abc import Callable
from typing import Final

from spoolway.producer.redaction import extent
from spoolway.producer.redaction.engine import Engine, Find, finder
from spoolway.producer.redaction.families import END_OF_KEY, INSIDE, PREFIXED, Family
from spoolway.producer.redaction.named import named_value
from spoolway.producer.redaction.names import NameRules, Verdict
from spoolway.producer.redaction.patterns import REDACTED, Patterns
from spoolway.producer.redaction.scanned import Scanned, Span

_QUERY: Final = re.compile(rb"(?:[?&;]|\\u0026)([^=]+)=([^&\s\"'\\#<>()\[\]{}`]*)")
_USERINFO: Final = re.compile(rb":\\*/\\*/([^:]*):((?:[^\s\"'\\/@,;<>]{1,300}@)+)")
_LONG_USER: Final = 20
"""Characters of a user's name that may be a key itself, as in `https://<key>:x@`."""
_SHORT_CODE: Final = 8
_BLOCK: Final = b"-----BEGIN"
_INSIDE_BYTES: Final = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~-",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~-+/=",
)
_LONGEST_BEFORE: Final = 256


class SecretsInText:
    """Takes secrets out of encoded lines. Shared by all threads."""

    def __init__(self, patterns: Patterns, names: NameRules, engine: Engine | None = None) -> None:
        self._match = patterns.kinds.match
        self._families = patterns.families
        self._names = names
        self.engine, self._find = finder(patterns.whole, engine)
        self._may_find = patterns.may_find
        self.first: Find = self._find if self.engine == "re2" else self._by_hint
        """Where the first candidate begins, or -1. Only `re` is slow enough to ask the hint first."""

    def without(self, data: bytes, start: int = 0) -> bytes:
        """Return the line without the secrets that are in it from `start` on.

        Raises:
            TooMany: looking at all of them would take too long.
        """
        at = self._find(data, start)
        if at < 0:
            return data
        line = Scanned(data)
        kept: list[bytes] = []
        done = 0
        while at >= 0:
            line.spend(1)
            found = self._match(data, at)
            # Both engines match at the same places: one of them may not know all of `re`.
            again = at + 1
            if found is not None and (span := self._span(line, found, done)):
                begin, end, instead = span
                if (block := data.find(_BLOCK, begin, end)) >= 0:
                    end = max(end, _end_of_block(data, block))
                kept += data[done:begin], instead
                done = end
                again = max(end, again)
            elif found is not None and found.lastgroup in _NAMED:
                again = found.end(found.lastgroup)
            at = self._find(data, again)
        return b"".join((*kept, data[done:])) if kept else data

    def _by_hint(self, data: bytes, start: int) -> int:
        return self._find(data, start) if self._may_find(data, start) else -1

    def _span(self, line: Scanned, found: re.Match[bytes], done: int) -> Span | None:
        kind = found.lastgroup or ""
        if kind in _NAMED:
            return named_value(line, found.start(kind), found.end(kind), self._names)
        if kind in _KINDS:
            return _KINDS[kind](line.data, found, self._names)
        if kind[0] == "f":
            at = int(kind[1:])
            return _of_family(line.data, self._families[at], at, found.start(kind), done)
        if kind[0] == "t":
            return line.inside_a_string(*found.span(kind))
        return None


def _of_family(data: bytes, family: Family, at: int, start: int, done: int) -> Span | None:
    if at >= len(PREFIXED) and family in INSIDE:
        before = data[max(start - _LONGEST_BEFORE, done) : start]
        more = len(before) - len(before.rstrip(_INSIDE_BYTES[INSIDE.index(family)]))
        start -= more
        if more and data[start - 1 : start] == b"\\":
            start += 1  # the end of a line, and no letter of the key
    whole = family.whole.match(data, start)
    if whole is None:
        return None
    begin, end = whole.span(whole.re.groups)
    if family.check and not family.check(data[begin:end]):
        return None
    return begin, end, REDACTED


def _query(data: bytes, found: re.Match[bytes], names: NameRules) -> Span | None:
    parameter = _QUERY.match(data, found.start())
    if parameter is None or names.judge(parameter[1], in_query=True) is Verdict.PLAIN:
        return None
    begin, end = parameter.span(2)
    if parameter[1].lower() == b"code" and end - begin < _SHORT_CODE:
        return None
    return begin, end, REDACTED


def _userinfo(data: bytes, found: re.Match[bytes], _names: NameRules) -> Span | None:
    userinfo = _USERINFO.match(data, found.start())
    if userinfo is None:
        return None
    user = userinfo.end(1) - userinfo.start(1)
    return userinfo.start(1 if user >= _LONG_USER else 2), userinfo.end() - 1, REDACTED


def _block(data: bytes, found: re.Match[bytes], _names: NameRules) -> Span | None:
    return found.start(), _end_of_block(data, found.start()), REDACTED


def _end_of_block(data: bytes, begin: int) -> int:
    """Return where a key of many lines ends that begins there; if it was cut off, the string."""
    end_of_string = extent.end_of_string(data, begin)
    last = END_OF_KEY.search(data, begin, end_of_string)
    return last.end() if last else end_of_string


_NAMED: Final = frozenset({"name", "own", "token", "lone", "model"})
_KINDS: Final[dict[str, Callable[[bytes, re.Match[bytes], NameRules], Span | None]]] = {
    "query": _query,
    "url": _userinfo,
    "block": _block,
}
