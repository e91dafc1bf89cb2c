"""Passwords out of what is logged: the second line of defence.

The first is that nothing hands them to a message. This is for what a library says of itself.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from spoolway.schema.address import redis_address
from spoolway.worker.config import Settings
from spoolway.worker.config.addresses import is_secret

HIDDEN: Final = "***"
_SHORTEST: Final = 4
"""Characters of what is hidden: a shorter password is in half of all words, and is no secret."""


class Mask:
    """Replaces secrets, however they were written, in any text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text


def secrets_of(settings: Settings) -> set[str]:
    """Return every password that these settings hold."""
    found = {settings.api_token, *(each.token for each in settings.api_tokens)}
    for database in (settings.database, settings.read_database):
        found.add(str(database.password or ""))
        found |= {str(value) for name, value in database.query.items() if is_secret(name)}
    found |= set(_within(settings.database_engine))
    for url in (settings.redis_url, settings.jobs_redis_url):
        found |= set(_of_redis(url))
    return found - {""}


def _of_redis(url: str) -> Iterator[str]:
    yield from (value for name, value in parse_qsl(urlsplit(url).query) if is_secret(name))
    try:
        yield from redis_address(url).passwords
    except ValueError:
        return  # it is refused, by somebody else


def _within(value: Any) -> Iterator[str]:
    """Yield what has a secret's name in arguments of arguments."""
    if isinstance(value, dict):
        for name, each in value.items():
            if is_secret(str(name)) and isinstance(each, str):
                yield each
            else:
                yield from _within(each)


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as a URL, a repr or a JSON string has it."""
    for plain in (secret, unquote(secret)):
        yield plain
        yield quote(plain, safe="")
        yield quote(plain)
        yield quote_plus(plain)
        yield repr(plain)[1:-1]
        yield json.dumps(plain)[1:-1]
        yield json.dumps(plain, ensure_ascii=False)[1:-1]
