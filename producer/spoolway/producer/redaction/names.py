"""Names whose values are secret: keys at any depth, variables, query parameters.

A name is judged by its end, whatever case it is in and whatever joins its words: `OPENAI_API_KEY`,
`apiKey`, `x-api-key`. What follows a secret's name makes it another one: `api_key_id`.
"""

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final
from urllib.parse import unquote_plus

_LONGEST: Final = 100
_VERDICTS: Final = 4096
"""Names whose verdicts are remembered; clients choose names, so there must be an end to it."""

WORDS: Final = (
    "a(?:pi[ _-]?keys?|ccess[ _-]?keys?|ccount[_-]?keys?|uth[_-]?keys?|uthori[sz]ation)",
    "bearer",
    "c(?:redentials?|ookies?|onnection[_-]?strings?)",
    "encryption[_-]?keys?",
    "jwt",
    "master[_-]?keys?",
    "p(?:ass(?:word|wd|phrase|code)s?|wd|rivate[ _-]?keys?)",
    "s(?:ecrets?|ecret[ _-]?keys?|(?:igning|hared)[_-]?keys?|ession[_-]?keys?)",
    "s(?:ubscription[_-]?keys?|sh[_-]?keys?|as[_-]?url)",
    "virtual[_-]?keys?",
    "[_-]pass",
)
"""What secret names end with, in lower case; no words for tokens, which are judged one by one."""
TOKEN: Final = "token"  # noqa: S105 - a word that names end with

_OTHER_TOKENS: Final = re.compile(
    r"(^|_)(page|continuation|eos|bos|pad|unk|cls|sep|mask|stop|start|end|max|min|per|special"
    r"|image|video|audio|text|first|last|new|next|prev|previous|prompt|completion|input|output"
    r"|total|cached|reasoning|decoded|sampled|draft|sub|vocab|num|tool|chat|think|thinking|string"
    r"|syntax|cancellation|by|each|one|every|added)_token$"
)
"""Tokens of languages and of lists."""
_QUERY: Final = re.compile(
    r"(^|[-_.])(key|sig|signature|auth|credential|code)$|(apikey|signature|credential)$"
)
QUERY_WORDS: Final = ("key", "sig", "signature", "auth", "credential", "code")
"""What the names of query parameters may end with besides."""
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Verdict(Enum):
    """What a name says of its value."""

    PLAIN = "nothing"
    SECRET = "secret, whatever it is"  # noqa: S105 - no secret but a verdict
    TOKEN = "secret if it is text"  # noqa: S105 - no secret but a verdict


class NameRules:
    """Which names are secret. Shared by all threads."""

    def __init__(self, names: Iterable[str], patterns: Iterable[str], allow: Iterable[str]) -> None:
        """Add names and patterns to the built-in ones; `allow` wins over all of them.

        Raises:
            ValueError: a pattern is no regular expression, or has anchors.
        """
        self.names: Final = [name for name in names if joined(name)]
        self.patterns: Final = list(patterns)
        for pattern in self.patterns:
            checked(pattern, "name")
        self._names = {joined(name) for name in self.names}
        self._allowed = {joined(name) for name in allow}
        self._ends = re.compile(f"(?:{'|'.join(WORDS)})$")
        self._own = [re.compile(pattern, re.IGNORECASE) for pattern in self.patterns]
        self._verdicts: dict[tuple[bytes, bool], Verdict] = {}

    def judge(self, name: bytes, *, in_query: bool = False) -> Verdict:
        """Return what this name says of its value, as a key or as a query parameter."""
        known = self._verdicts.get((name, in_query))
        if known is None:
            known = self._judge(name.decode(errors="replace")[-_LONGEST:], in_query)
            if len(self._verdicts) >= _VERDICTS:
                self._verdicts.clear()
            self._verdicts[name[-_LONGEST:], in_query] = known
        return known

    def _judge(self, name: str, in_query: bool) -> Verdict:
        if "%" in name or in_query:
            name = unquote_plus(name)
        plain = joined(name)
        if plain in self._allowed:
            return Verdict.PLAIN
        if plain in self._names or any(own.search(name) for own in self._own):
            return Verdict.SECRET
        snake = _CAMEL.sub("_", name).lower().replace("-", "_").replace(" ", "_").replace(".", "_")
        if snake.endswith(TOKEN):
            if _OTHER_TOKENS.search(snake):
                return Verdict.PLAIN
            return Verdict.SECRET if in_query else Verdict.TOKEN
        lower = name.lower()
        if self._ends.search(lower) or (in_query and _QUERY.search(lower)):
            return Verdict.SECRET
        return Verdict.PLAIN


def joined(name: str) -> str:
    """Return the name's letters and digits, in lower case."""
    return "".join(filter(str.isalnum, name)).lower()


def words(name: str) -> list[str]:
    """Return the words that a name is made of, in lower case."""
    return [word.lower() for word in re.split(r"[\W_]+", _CAMEL.sub("_", name)) if word]


def checked(pattern: str, kind: str) -> str:
    """Return a pattern of the owner's own that can be a part of a larger one.

    Raises:
        ValueError: it cannot.
    """
    try:
        compiled = re.compile(f"(?:x|{pattern})")
    except re.error as error:
        raise ValueError(f"a {kind} pattern is no regular expression: {error}") from error
    plain = re.sub(r"\\[^1-9AZ]|\[\^?\]?[^\]]*\]", "", pattern)
    if re.search(r"[\^$]|\\[1-9AZ]|\(\?P", plain):
        raise ValueError(
            f"a {kind} pattern is searched for within texts, so it has no ^ or $, no names of "
            f"groups and refers to none, got {pattern!r}"
        )
    if re.compile(pattern).search("") or compiled.search(""):
        raise ValueError(f"a {kind} pattern must not match nothing at all, got {pattern!r}")
    return pattern
