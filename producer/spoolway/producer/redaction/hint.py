"""What `re` is asked first: whether a line has what every candidate for a secret has.

`re` needs most of a millisecond to look for all patterns in an event of 4 KB. Each candidate has a
sign, or a few letters in a row, that can be looked for quickly, and looked around from. What is
found here need not be a candidate; where nothing is, there is none.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

_NAMES_END: Final = (
    *("key", "keys", "authorization", "authorisation", "bearer", "credential", "credentials"),
    *(
        "cookie",
        "cookies",
        "string",
        "strings",
        "jwt",
        "password",
        "passwords",
        "passwd",
        "passwds",
    ),
    *("passphrase", "passphrases", "passcode", "passcodes", "pwd", "secret", "secrets", "url"),
    *("pass", "token", "headers", "truncated", "sig", "signature", "auth", "code"),
)
_WIDTH: Final = 6
"""Characters of a name's end that are compared: looking back is for a fixed number of them."""
_PREFIXES_END: Final = (
    *(
        "sk-",
        "-lf-",
        "ya29.",
        "SPX-",
        "h[pousr]_",
        "_pat_",
        "glpat-",
        "gl[dr]t-",
        "glcbt-",
        "glptt-",
        "glft-",
    ),
    *(
        "soat-",
        "agent-",
        "gloas-",
        "glimt-",
        "lsa_",
        "ox[a-z]-",
        "app-",
        "hf_",
        "gsk_",
        "xai-",
        "plx-",
    ),
    *("vapi-", "r8_", "fw_", "_v1_", "vly-", "ina_", "csk_", "v2_", "_live_", "_test_", "sec_"),
    *(
        "npm_",
        "pypi-",
        "SG.",
        "hvs.",
        "hp[acs][tas]_",
        "_api_",
        "q0[a-z][a-z][a-z]-",
        "KEY-",
        "-----",
    ),
)
_AFTER_ELLIPSIS: Final = ("… [truncated: ".encode(), '…"'.encode(), "…\\".encode())
_GUARD: Final = 3
"""Last characters in which nearly every other name differs from all of them."""


def _behind(names: Sequence[str], after: bytes, *, any_case: bool = False) -> bytes:
    """Return a pattern that looks back for one of these endings, with something after it."""
    ends: dict[int, set[bytes]] = {}
    guards: dict[bytes, set[bytes]] = {}
    for name in names:
        units = [
            f"[{unit}{unit.upper()}]"
            if any_case and unit.isalpha()
            else re.escape(unit)
            if len(unit) == 1
            else unit
            for unit in re.findall(r"\[[^\]]*\]|.", name)[-_WIDTH:]
        ]
        ends.setdefault(len(units), set()).add("".join(units).encode())
        first, *rest = units[-_GUARD:]
        guards.setdefault(first.encode(), set()).add("".join(rest).encode())
    guard = b"|".join(b"%b(?:%b)" % (first, b"|".join(sorted(guards[first]))) for first in guards)
    # Python looks back for a fixed number of characters only.
    return b"(?<=(?:%b)%b)(?:%b)" % (
        guard,
        after,
        b"|".join(b"(?<=(?:%b)%b)" % (b"|".join(sorted(same)), after) for same in ends.values()),
    )


def _name(after: bytes) -> bytes:
    return _behind(_NAMES_END, after, any_case=True)


def _letters(after: bytes) -> bytes:
    """Return a pattern that looks back for letters that a name may end with: quick to refute."""
    last = zip(*(name[-_GUARD:] for name in _NAMES_END), strict=True)
    sets = ("".join(sorted({*letters})) for letters in last)
    return b"(?<=%b%b)" % ("".join(f"[{some}{some.upper()}]" for some in sets).encode(), after)


# The name, in quotation marks that are quoted once or not at all; more are rare enough.
_QUOTED: Final = (
    rb"(?<=[\"'`].)(?!\"\[redacted\])(?:"
    + _letters(b"..")
    + _name(b"..")
    + rb"|(?<=\\..)(?:"
    + _name(rb"\\..")
    + rb"|(?<=\\\\..)))"
)
_BARE: Final = (
    rb"(?<=[A-Za-z\] \t].)(?:(?<=[A-Za-z].)"
    + _name(b".")
    + rb"|(?<=[ \t].)(?:"
    + _name(b"..")
    + b"|"
    + _name(b"[\"'`]..")
    + rb"|(?<=\\[\"'`]..)|(?<=[\] \t]..))"
    rb"|(?<=\].))"
)
_IN_URL: Final = rb"(?=[\\/])(?=\\*/\\*/[^\s\"'\\/@?#:]{0,100}:[^\s\"'\\/@?#]{1,201}@)"
# One after the other: `re` is quickest where it looks for one character first, and `find` tells in
# no time that a character is not there at all.
_SEARCHES: Final = tuple(
    (sign, re.compile(b"(?s:%b(?:%b))" % (re.escape(sign), then)).search)
    for sign, then in (
        (b":", _QUOTED + b"|" + _BARE + b"|" + _IN_URL),
        (b"=", _QUOTED + b"|" + _BARE),
        (b",", _QUOTED),
        (
            b"%",
            _QUOTED + b"|(?=3[dD])" + _name(b".") + rb"|(?=[0-9A-Fa-f]{2}[A-Za-z0-9_.~%-]{0,60}=)",
        ),
        (b"A", b"KIA|SIA|BIA|CCA|Iza"),
        (b"J", b"QQJ99|(?<=eyJ)"),
        *(
            (last.encode(), _behind([end for end in _PREFIXES_END if end.endswith(last)], b""))
            for last in "-_."
        ),
    )
)
_SCHEME: Final = re.compile(rb"(?i:bearer|basic)[ %+]").search
_BEGINS: Final = re.compile(rb'\{"(?:headers|type|id)"').match


def hint(names: Sequence[bytes], tokens: Sequence[bytes]) -> Callable[[bytes, int], bool]:
    """Return what tells whether a line may hold a candidate; `names` and `tokens` are the owner's."""
    own = re.compile(b"|".join((*(b"(?i:%b)" % name for name in names), *tokens))).search

    def may_find(line: bytes, start: int) -> bool:
        return (
            (start == 0 and not _BEGINS(line))  # there is nothing to look back at
            or _has_sign(line, start)
            or _has_literal(line, start)
            or _has_scheme(line, start)
            or bool((names or tokens) and own(line, start))
        )

    return may_find


def _has_sign(line: bytes, start: int) -> bool:
    for sign, search in _SEARCHES:
        if (at := line.find(sign, start)) >= 0 and search(line, at):
            return True
    return False


def _has_literal(line: bytes, start: int) -> bool:
    # From the end: CPython needs half the time for that.
    return (
        line.rfind(b"dapi", start) >= 0
        or line.rfind(b"u2026", start) >= 0
        or line.rfind(b"slack.com/services", start) >= 0
        or (line.find(b"~", start) >= 0 and line.rfind(b"Q~", start) >= 0)
        or not (line.isascii() or all(line.rfind(cut, start) < 0 for cut in _AFTER_ELLIPSIS))
    )


def _has_scheme(line: bytes, start: int) -> bool:
    lower = line.lower()
    return (lower.rfind(b"bearer", start) >= 0 or lower.rfind(b"basic", start) >= 0) and _SCHEME(
        line, start
    ) is not None
