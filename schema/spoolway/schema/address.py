"""Where the stream is: the Redis URL, as producers and workers read it."""

from typing import Final
from urllib.parse import urlsplit

DEFAULT_REDIS_URL: Final = "redis://127.0.0.1:6379/0"
REDIS_URL_EXPECTED: Final = (
    "expected redis://[[user]:password@]host:6379/0, rediss://… or unix:///path/to/socket?db=0 "
    "(percent-encode special characters in the password)"
)


def check_redis_url(url: str) -> None:
    """Refuse a URL that no client understands, in one line and without repeating it.

    Raises:
        ValueError: what is wrong with it, and what was expected.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - parses, and raises for what is no port
    except ValueError:
        raise ValueError(f"the Redis URL is malformed: {REDIS_URL_EXPECTED}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        shown = f"the scheme {parts.scheme!r}" if "://" in url else "no scheme"
        raise ValueError(f"the Redis URL has {shown}: {REDIS_URL_EXPECTED}")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError(f"the Redis URL names no socket: {REDIS_URL_EXPECTED}")
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdigit():
        # Not shown: after a password with a "/" in it, this is its second half.
        raise ValueError(f"the Redis URL names a database that is no number: {REDIS_URL_EXPECTED}")
