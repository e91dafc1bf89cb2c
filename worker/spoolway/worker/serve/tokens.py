"""Who asks: a bearer token, or whoever is on this machine where there are no tokens at all."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spoolway.worker.config import Settings, UsageError
from spoolway.worker.reading.filters import EVERYTHING, Scope
from spoolway.worker.serve.answers import ApiError
from spoolway.worker.serve.listener import is_loopback

NOBODY: Final = "-"
"""In the log, and where wrong tokens are counted."""
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")
_LONGEST: Final = 4096
"""Bytes of a header that is looked at."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may ask."""

    name: str
    """Of the token, for the log."""
    scope: Scope


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    caller: Caller


_LOCAL: Final = Caller("local", EVERYTHING)


class Tokens:
    """The tokens of the settings, as digests."""

    def __init__(self, settings: Settings) -> None:
        """Raises UsageError: the same token stands there twice."""
        self._known = [*_known(settings)]
        digests = {known.digest for known in self._known}
        if len(digests) < len(self._known):
            raise UsageError(
                "SPOOLWAY_API_TOKEN and api_tokens have the same token twice: make another one"
            )

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Return who sent these headers. Raises ApiError."""
        headers = list(headers)
        if not self._known:
            _check_local(headers)
            return _LOCAL
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) == 1 and len(given[0]) <= _LONGEST:
            scheme, _, token = given[0].partition(b" ")
            if scheme.lower() == b"bearer" and (found := self._find(token.strip())) is not None:
                return found
        said = "this token is not known" if given else "a token is needed"
        raise ApiError(
            401,
            "unauthorized",
            f"{said}: send the header Authorization: Bearer <token>",
            {"www-authenticate": 'Bearer realm="spoolway"'},
        )

    def _find(self, token: bytes) -> Caller | None:
        """Compare with every one of them: how long that takes says nothing."""
        digest = hashlib.sha256(token).digest()
        found = None
        for known in self._known:
            if hmac.compare_digest(known.digest, digest):
                found = known.caller
        return found


def _known(settings: Settings) -> Iterable[_Known]:
    if settings.api_token:
        yield _Known(_digest(settings.api_token), Caller("SPOOLWAY_API_TOKEN", EVERYTHING))
    for each in settings.api_tokens:
        scope = Scope(users=each.users, organizations=each.organizations)
        digest = _digest(each.token) if each.token else bytes.fromhex(each.sha256)
        yield _Known(digest, Caller(each.name, scope))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _check_local(headers: list[tuple[bytes, bytes]]) -> None:
    """Keep out pages of the web that a browser on this machine shows. Raises ApiError.

    A name of theirs can be made to lead to 127.0.0.1 (DNS rebinding), and then it is in Host; or they
    ask for our address, and then the browser says that another site does.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not is_loopback(_without_port(hosts[0])):
        raise ApiError(
            403,
            "forbidden-host",
            "without a token this answers to localhost, 127.0.0.1 and [::1] alone: set "
            "SPOOLWAY_API_TOKEN to be asked under another name",
        )
    sites = {value for name, value in headers if name == b"sec-fetch-site"}
    if sites - {b"same-origin", b"none"}:
        raise ApiError(
            403, "forbidden-site", "another site asks, and only the page itself may without a token"
        )


def _without_port(host: bytes) -> str:
    parts = _HOST.fullmatch(host.decode("latin-1"))
    return (parts["v6"] or parts["name"]) if parts else ""
