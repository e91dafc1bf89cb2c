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
_LITERALS: Final = (
    *(b"JQQJ99", b"Q~", b"eyJ", b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"AIza", b"dapi"),
    *(b"slack.com/services", "… [truncated: ".encode(), '…"'.encode(), "…\\".encode(), b"u2026"),
)


def _behind(names: Sequence[str], after: bytes, *, any_case: bool = False) -> bytes:
    """Return a pattern that looks back for one of these endings, with something after it."""
    ends: dict[int, set[bytes]] = {}
    for name in names:
        units = re.findall(r"\[[^\]]*\]|.", name)[-_WIDTH:]
        spelled = "".join(
            f"[{unit}{unit.upper()}]"
            if any_case and unit.isalpha()
            else re.escape(unit)
            if len(unit) == 1
            else unit
            for unit in units
        )
        ends.setdefault(len(units), set()).add(spelled.encode())
    # Python looks back for a fixed number of characters only.
    return b"(?:%b)" % b"|".join(
        b"(?<=(?:%b)%b)" % (b"|".join(sorted(same)), after) for same in ends.values()
    )


def _name(after: bytes) -> bytes:
    return _behind(_NAMES_END, after, any_case=True)


_SIGN: Final = re.compile(
    rb"(?s:[:=,%](?:"
    # The name, in quotation marks that are quoted once or not at all; more are rare enough.
    rb"(?<=[\"'`].)(?!\"\[redacted\])(?:(?<=[A-Za-z]..)"
    + _name(b"..")
    + rb"|(?<=\\..)(?:"
    + _name(rb"\\..")
    + rb"|(?<=\\\\..)))"
    rb"|(?<=[A-Za-z][:=])"
    + _name(b".")
    + rb"|(?<=[ \t][:=])(?:"
    + _name(b"..")
    + b"|"
    + _name(b"[\"'`]..")
    + rb"|(?<=\\[\"'`]..)|(?<=[\] \t]..))"
    rb"|(?<=\][:=])"
    rb"|(?<=%)(?:(?=3[dD])" + _name(b".") + rb"|(?=[0-9A-Fa-f]{2}[A-Za-z0-9_.~%-]{0,60}=))"
    rb"|(?<=:)(?=\\*/\\*/[^\s\"'\\/@?#:]{0,100}:[^\s\"'\\/@?#]{1,201}@)"
    rb"))"
).search
_PREFIX: Final = re.compile(rb"[-_.]" + _behind(_PREFIXES_END, b"")).search
_SCHEMES: Final = (b"bearer", b"basic")
_SCHEME: Final = re.compile(rb"(?i:bearer|basic)[ %+]").search
_BEGINS: Final = re.compile(rb'\{"(?:headers|type|id)"').match


def hint(names: Sequence[bytes], tokens: Sequence[bytes]) -> Callable[[bytes, int], bool]:
    """Return what tells whether a line may hold a candidate; `names` and `tokens` are the owner's."""
    own = re.compile(b"|".join((*(b"(?i:%b)" % name for name in names), *tokens))).search

    def may_find(line: bytes, start: int) -> bool:
        return (
            (start == 0 and not _BEGINS(line))  # there is nothing to look back at
            or _SIGN(line, start) is not None
            or _PREFIX(line, start) is not None
            or _has_scheme(line, start)
            or any(line.find(literal, start) >= 0 for literal in _LITERALS)
            or bool((names or tokens) and own(line, start))
        )

    return may_find


def _has_scheme(line: bytes, start: int) -> bool:
    lower = line.lower()
    return (
        any(lower.find(scheme, start) >= 0 for scheme in _SCHEMES)
        and _SCHEME(line, start) is not None
    )
