"""What of an event must not be kept, decided before anything is buffered.

    Producer(redaction=Redaction(names=["tenant_pin"], keep={"/v1/private/*": "metadata"}))

Whatever fails in here fails closed: of the event only what tells nothing is recorded.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from spoolway.producer.redaction.ends import without_ends
from spoolway.producer.redaction.engine import Engine
from spoolway.producer.redaction.headers import HeaderRules
from spoolway.producer.redaction.keep import Keep, how_much, metadata_of
from spoolway.producer.redaction.names import NameRules, checked
from spoolway.producer.redaction.patterns import Patterns
from spoolway.producer.redaction.query import sanitised_query
from spoolway.producer.redaction.scanned import Scanned, TooMany
from spoolway.producer.redaction.secrets_in_text import SecretsInText
from spoolway.schema import Caps, encode_line, new_id
from spoolway.schema.jsonable import Parsed, encode_any

Hook = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""Gets a copy of an event, and returns what to record of it, or None: nothing."""

_FIRST_COLUMN: Final = b'{"headers":{'
_PASSES: Final = 8
_LONG_QUOTE: Final = re.compile(r"""(?<!\w)(["'])(?:(?!\1).){13,}(?:\1(?!\w)|$)""")


class Redaction:
    """What is secret, and how much is kept. Shared by all threads, and by any number of producers.

    By default headers, cookies, query parameters, keys at every depth, and whatever looks like a
    key or a token in any text.
    """

    def __init__(
        self,
        *,
        headers: HeaderRules | None = None,
        names: Iterable[str] = (),
        patterns: Iterable[str] = (),
        tokens: Iterable[str] = (),
        allow: Iterable[str] = (),
        hooks: Iterable[Hook] = (),
        keep: Keep = "everything",
        scan: bool = True,
        engine: Engine | None = None,
    ) -> None:
        """Add to what is known.

        `names` are further names of keys and query parameters whose values are secret, `patterns`
        regular expressions that are searched for in such names, without ^ and $, `tokens` regular
        expressions for secrets themselves, in any text as JSON encodes it. Case makes no difference
        for names and patterns, nor does what joins a name's words. `allow` are names that are not
        secret, and win. `keep` says how much of an event is kept: "everything", "metadata" (no
        query, headers, body, response, chunks, messages, extra), or one of these by patterns of
        the path, as in fnmatch; the first that matches counts. `hooks` are called one after the
        other, before all this. `scan=False` leaves bodies and texts as they are. `engine` is "re2"
        or "re", by default the best that is installed.

        Raises:
            ValueError: a pattern that is no regular expression, or that matches nothing at all.
            ModuleNotFoundError: `engine` is "re2", which is not installed.
        """
        allowed = list(allow)
        self.headers: Final = headers or HeaderRules(allow=allowed)
        self._hooks = tuple(hooks)
        self._how_much = how_much(keep)
        self._names = NameRules(names, patterns, [*allowed, *self.headers.allowed])
        self._secrets: SecretsInText | None = None
        ours = [checked(token, "token").encode() for token in tokens]
        if scan:
            found = Patterns(self._names.names, self._names.patterns, ours)
            self._secrets = SecretsInText(found, self._names, engine)

    @property
    def engine(self) -> Engine | None:
        """What searches: "re2" or "re"; None: bodies and texts are not searched."""
        return self._secrets.engine if self._secrets else None

    def encoded(
        self, event: Mapping[str, Any], caps: Caps, on_failure: Callable[[Exception], None]
    ) -> bytes | None:
        """Return the JSON line of an event without its secrets; None: it is not to be recorded.

        Where something fails, a hook for instance, `on_failure` is told, and the line holds the
        event's metadata alone.

        Raises:
            BadInput: it is no event.
        """
        try:
            wanted = self._wanted(event) if self._hooks else event
            return None if wanted is None else self._line(wanted, caps)
        except Exception as error:  # noqa: BLE001 - hooks are the owner's code; and a secret that cannot be searched for must not pass
            line = self._line(metadata_of(event), caps)  # raises again for what is no event
            on_failure(error)
            return line

    def line(self, line: bytes) -> bytes:
        """Return an event's JSON line without the secrets in it.

        Raises:
            TooMany: there is so much in it to look at that somebody made it for that.
        """
        if self._secrets is None:
            return self.headers.sanitised_line(line)
        # The column `headers` is clean, and first; what stands in it is searched like all else.
        start = len(_FIRST_COLUMN) if line.startswith(_FIRST_COLUMN) else 0
        first = self._secrets.first(line, start)
        if first < 0:
            return line
        # Once more, because what is replaced changes what is beside it.
        for _ in range(_PASSES):
            # Each of them is parsed: some are ordinary, thousands are not.
            Scanned(line).spend(line.count(b'eaders"'))
            before, line = line, without_ends(self.headers.sanitised_line(line))
            line = self._secrets.without(line, first if line == before else start)
            if line == before:
                return line
            first = start
        raise TooMany

    def text(self, text: str) -> str:
        """Return a text, such as the message of an error, without the secrets in it."""
        try:
            clean: str = orjson.loads(self.line(encode_any(text).json))
        except TooMany:
            return ""
        return clean

    def _wanted(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what the hooks make of an event; they may not make another event of it."""
        wanted = event
        for hook in self._hooks:
            answer = hook(_copied(dict(wanted)))
            if answer is None:
                return None
            wanted = answer
        return {**wanted, "type": event.get("type"), "id": event.get("id")}

    def _line(self, event: Mapping[str, Any], caps: Caps) -> bytes:
        if self._how_much(event) == "metadata":
            event = metadata_of(event)
        headers = event.get("headers")
        if headers is None:
            fields = dict(event)
        else:
            fields = {"headers": None, **event}  # first: `line` looks behind them
            fields["headers"] = self.headers.sanitised(headers)
        if (query := event.get("query")) is not None:
            fields["query"] = sanitised_query(query, self._names)
        if fields.get("id") is None:
            fields["id"] = new_id()
        return self.line(encode_line(fields, caps))


def said(message: str, redaction: Redaction) -> str:
    """Return what is logged of a message that quotes an event: nothing secret, nothing long."""
    with contextlib.suppress(Exception):
        return " ".join(_LONG_QUOTE.sub("[redacted]", redaction.text(message)).split())
    return "it cannot be said why"


def _copied(value: Any) -> Any:
    """Return a copy that a hook may change; what is no dict or list is shared."""
    if type(value) is Parsed:
        return orjson.loads(orjson.dumps(value.value))
    if type(value) is dict:
        return {name: _copied(inner) for name, inner in value.items()}
    if type(value) is list:
        return [_copied(inner) for inner in value]
    return value
