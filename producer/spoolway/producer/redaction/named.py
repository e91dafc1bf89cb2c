"""A secret's name and what follows it: the value that is to be replaced, if there is one."""

import re
from typing import Final, NamedTuple

from spoolway.producer.redaction import extent
from spoolway.producer.redaction.names import NameRules, Verdict
from spoolway.producer.redaction.patterns import LOGPROB, PAIR, QUOTE, REDACTED, SEPARATOR
from spoolway.producer.redaction.scanned import Scanned, Span
from spoolway.producer.redaction.values import is_chosen, is_code, is_nothing, is_prose, is_schema

_NAME_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_LONGEST_NAME: Final = 100
_BYTES_PER_STEP: Final = 32
_SHORTEST: Final = 3
"""Bytes of a value without quotation marks that may be a secret, and not a number in code."""
_REST: Final = re.compile(
    rb"(?P<close>%b)?\]?(?:(?P<pair>%b)|(?P<sign>%b))" % (QUOTE, PAIR, SEPARATOR)
)
_OPEN: Final = re.compile(rb"b?\\*([\"'`])")
_NUMBER: Final = re.compile(rb"-?[0-9][0-9.eE+-]*")
_SCHEME: Final = re.compile(
    rb"(?i:bearer|basic|digest|token|api-?key|key|negotiate|ntlm|oauth|dpop|hawk|aws4-[\w-]+|aws"
    rb"|sharedkey\w*|hmac[\w-]*|googlelogin|signature) +"
)
_COOKIE: Final = re.compile(rb"""[^\s=;:"'\\\[]{1,100}=""")
# A pair in a list of pairs, and not two words of a list.
_PAIR_BEGINS: Final = re.compile(rb"[\[(,]\s*[\[(]\s*b?\\*[\"']$")
_PAIR_ENDS: Final = re.compile(rb"\\*[\"']\s*[\])]")
_CHOSEN_BEFORE: Final = re.compile(rb'log[pP]rob[a-z]*\\*"\s*:\s*-?[\d.eE+-]+,\s*\\*"$')


class _Named(NamedTuple):
    """A name, where it begins, what it says, and what stands between it and its value."""

    start: int
    name: bytes
    verdict: Verdict
    rest: re.Match[bytes]


def named_value(line: Scanned, begins: int, ends: int, names: NameRules) -> Span | None:
    """Return what to replace behind the name whose end was found there; None: nothing."""
    start, name = _whole_name(line.data, begins, ends)
    verdict = names.judge(name)
    rest = _REST.match(line.data, ends)
    if verdict is Verdict.PLAIN or rest is None:
        return None
    named = _Named(start, name, verdict, rest)
    value = rest.end()
    if opened := _OPEN.match(line.data, value):
        return _quoted(line, named, opened)
    if line.data[value : value + 1] in (b"{", b"["):
        return _container(line, verdict, rest)
    if rest["close"]:
        number = _NUMBER.match(line.data, value) if verdict is Verdict.SECRET else None
        return number and (value, number.end(), _in_quotes(line.data, rest))
    return _bare(line, named, names)


def _whole_name(line: bytes, begins: int, ends: int) -> tuple[int, bytes]:
    """Return where the name begins, of which the end was found, and the name."""
    before = line[max(begins - _LONGEST_NAME, 0) : begins]
    more = len(before) - len(before.rstrip(_NAME_BYTES))
    start = begins - more
    if line[start - 1 : start] == b"\\" and line[start : start + 1] in b"nrtbf":
        start += 1  # the end of a line, and no letter of the name
    return start, line[start:ends].lstrip(b" \"'`{[(,;&?<>=:|!@#$%^*+~/\\\t")


def _quoted(scanned: Scanned, named: _Named, opened: re.Match[bytes]) -> Span | None:
    start, name, verdict, rest = named
    line, begin, quote = scanned.data, opened.end(), opened[1]
    if quote == b'"':
        own = extent.level(line, begin - 1)
        if own == 0 and not _is_json_key(line, rest):
            return None  # the string that all this is in ends here
        end = extent.quoted(line, begin, own, scanned.spend)
    elif quote == b"'":
        end = extent.single_quoted(line, begin, scanned.spend)
    else:
        end = extent.backticked(line, begin)
    value = line[begin:end]
    if is_nothing(value):
        return None
    if rest["pair"] and b"value" not in rest["pair"]:
        before = line[max(start - 20, 0) : start]
        if not (_PAIR_BEGINS.search(before) and _PAIR_ENDS.match(line, end)):
            return None
    if verdict is Verdict.TOKEN and _is_of_language(line, start, name, value, end):
        return None
    return begin, end, REDACTED


def _is_json_key(line: bytes, rest: re.Match[bytes]) -> bool:
    return (
        rest["close"] is not None
        and rest["close"].endswith(b'"')
        and extent.level(line, rest.end("close") - 1) == 0
    )


def _is_of_language(line: bytes, start: int, name: bytes, value: bytes, end: int) -> bool:
    """Tell whether a token is one of a language model's, and opens no door."""
    if value[:1] == b"<" or b" " in value or REDACTED in value:
        return True
    if name.lower() != b"token":
        return False
    before = line[max(start - 60, 0) : start]
    return LOGPROB.match(line, end) is not None or _CHOSEN_BEFORE.search(before) is not None


def _container(line: Scanned, verdict: Verdict, rest: re.Match[bytes]) -> Span | None:
    value = rest.end()
    close = rest["close"]
    if not close or rest["pair"] or line.data.startswith(REDACTED, value):
        return None
    if is_schema(line.data, value) or (verdict is Verdict.TOKEN and is_chosen(line.data, value)):
        return None
    own = extent.level(line.data, rest.end("close") - 1) if close.endswith(b'"') else None
    try:
        end = (
            extent.json_container(line.text, value)
            if own == 0
            else extent.container(line.data, value, own, line.spend)
        )
    except (ValueError, RecursionError):  # it looks like JSON itself, and is text
        end = extent.container(line.data, value, own, line.spend)
    return value, end, _in_quotes(line.data, rest)


def _in_quotes(line: bytes, rest: re.Match[bytes]) -> bytes:
    """Return the replacement of what was no string, in such quotation marks as its name has."""
    own = extent.level(line, rest.end("close") - 1)
    quote = b"\\" * ((1 << own) - 1) + rest["close"][-1:]
    return quote + REDACTED + quote


def _bare(scanned: Scanned, named: _Named, names: NameRules) -> Span | None:
    start, name, verdict, rest = named
    line, value = scanned.data, rest.end()
    lower = name.lower()
    if lower.endswith((b"cookie", b"cookies")):
        return (
            (value, extent.rest_of_line(line, value), REDACTED)
            if _COOKIE.match(line, value)
            else None
        )
    if lower.endswith((b"authorization", b"authorisation")) and _SCHEME.match(line, value):
        return value, extent.rest_of_line(line, value), REDACTED
    end = extent.bare(line, value)
    scanned.spend((end - value) // _BYTES_PER_STEP)
    if is_nothing(line[value:end]) or end - value < _SHORTEST or b"==" in rest["sign"]:
        return None
    in_url = line[start - 1 : start] in (b"?", b"&")
    if not in_url:
        if verdict is Verdict.TOKEN and not _may_be_token(line[value:end], rest["sign"]):
            return None
        is_variable = name.isupper() and rest["sign"] == b"="
        if not is_variable and (
            is_code(line, value, end, names)
            or (b":" in rest["sign"] and is_prose(line, value, end))
        ):
            return None
        if lower == b"pwd" and line[value : value + 1] in (b"/", b"~"):
            return None  # the working directory
    if scheme := _SCHEME.match(line, value):  # "token: Bearer …"
        end = max(end, extent.bare(line, scheme.end()))
    return value, end, REDACTED


def _may_be_token(value: bytes, sign: bytes) -> bool:
    """Tell whether it may open a door: not a number, nor behind a colon a word."""
    if re.fullmatch(rb"-?[\d.,eE+-]+", value):
        return False
    return b":" not in sign or (len(value) >= 8 and re.search(rb"\d", value) is not None)
