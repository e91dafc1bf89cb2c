"""Clients of the API, over one connection each, as a browser's are."""

import http.client
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import local
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

CONNECTIONS: Final = 6
"""That a browser opens to one server."""
_SECONDS: Final = 60
_ASSET: Final = re.compile(rb'(?:src|href)="(/assets/[^"]+)"')


class NotAnsweredError(Exception):
    """The server said something else than 200."""


class Client:
    """One connection that stays open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname, url
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_SECONDS)

    def get(self, path: str) -> bytes:
        """Return the body."""
        try:
            answer = self._answer(path)
        except ConnectionError:  # the server closes what is idle for ten seconds
            self._connection.close()
            answer = self._answer(path)
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise NotAnsweredError(f"{path}: {answer.status} {body[:200]!r}")
        return body

    def _answer(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path)
        return self._connection.getresponse()

    def timed(self, path: str) -> float:
        """Return the milliseconds until the whole answer was there."""
        began = time.perf_counter()
        body = self.get(path)
        milliseconds = (time.perf_counter() - began) * 1e3
        if path.startswith("/api/usage?"):
            historical = orjson.loads(body)["historical"]
            if historical["status"] != "available":
                raise NotAnsweredError(f"{path}: {historical['message']}")
        return milliseconds

    def json(self, path: str) -> Any:
        """Return what is in an answer."""
        return orjson.loads(self.get(path))

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class Browser:
    """As many connections as a browser has, and the requests that it sends over them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._of_thread = local()
        self._clients: list[Client] = []
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    def load(self, paths: Sequence[str]) -> float:
        """Load the page anew with these requests; return the milliseconds until all is there."""
        began = time.perf_counter()
        # It names every module that these import.
        files = _ASSET.findall(self._get("/"))
        list(self._threads.map(self._get, [file.decode() for file in files]))
        list(self._threads.map(self._get, paths))
        return (time.perf_counter() - began) * 1e3

    def ask(self, paths: Sequence[str]) -> float:
        """Send the requests alone, as a page that is there already does."""
        began = time.perf_counter()
        list(self._threads.map(self._get, paths))
        return (time.perf_counter() - began) * 1e3

    def _get(self, path: str) -> bytes:
        client: Client | None = getattr(self._of_thread, "client", None)
        if client is None:
            client = self._of_thread.client = Client(self._url)
            self._clients.append(client)
        return client.get(path)

    def close(self) -> None:
        """End the connections."""
        self._threads.shutdown()
        for client in self._clients:
            client.close()


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client for the length of a block."""
    client = Client(url)
    try:
        yield client
    finally:
        client.close()
