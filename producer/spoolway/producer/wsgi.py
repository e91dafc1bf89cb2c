"""WSGI middleware, for Flask, Django and any other: records what passes by.

    app.wsgi_app = SpoolwayMiddleware(app.wsgi_app, producer=Producer(folder="var"))

Every part of a body goes on unchanged, and is looked at on the way. Inside a request
`environ["spoolway"]` is its `Record`: for its route, its attempts at backends, its errors, and any
column. In threads and greenlets alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from spoolway.producer.capture import Exchange, Paths
from spoolway.producer.capture.paths import ALL, PROBES
from spoolway.producer.identity import Identify, environ_headers, keys_in, without_keys
from spoolway.producer.producer import Producer

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

ENVIRON_KEY: Final = "spoolway"
"""Of the environ: where the request's Record is."""


class SpoolwayMiddleware:
    """Records each request of the application that it wraps; see the module."""

    def __init__(
        self,
        app: "WSGIApplication",
        producer: Producer,
        *,
        identify: Identify | None = None,
        only: Iterable[str] = ALL,
        skip: Iterable[str] = PROBES,
    ) -> None:
        """Wrap an application.

        `identify` is called with the environ when a request has ended, and returns the columns that
        you know, such as `{"user_id": environ["REMOTE_USER"]}`. `only` and `skip` are patterns of
        paths, such as "/v1/*"; what is not recorded passes by untouched.
        """
        self._app = app
        self._producer = producer
        self._identify = identify
        self._paths = Paths(only, skip)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Pass one request on, and record it."""
        if path_of(environ) not in self._paths:
            return self._app(environ, start_response)
        return _Recorded(self._producer, self._identify, environ).run(self._app, start_response)


class _Recorded:
    """One request on its way through the application."""

    def __init__(
        self, producer: Producer, identify: Identify | None, environ: "WSGIEnvironment"
    ) -> None:
        self._environ = environ
        self._identify = identify
        self._headers = environ_headers(environ)
        path = path_of(environ)
        record = producer.record(
            path=path,
            method=environ["REQUEST_METHOD"],
            query=environ.get("QUERY_STRING") or None,
            headers=self._headers,  # the producer takes the secrets out
            client_ip=environ.get("REMOTE_ADDR"),
        )
        environ[ENVIRON_KEY] = record
        self.exchange = Exchange(record, producer.caps, path)
        self.exchange.asking(self._headers)
        environ["wsgi.input"] = _Input(environ["wsgi.input"], self.exchange.asked)

    def run(self, app: "WSGIApplication", start_response: "StartResponse") -> Iterable[bytes]:
        def starting(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Callable[[bytes], object]:
            write = (
                start_response(status, headers, exc_info)
                if exc_info
                else start_response(status, headers)
            )
            self.exchange.answering(int(status[:3]), _as_bytes(headers))

            def writing(data: bytes) -> None:
                write(data)
                self.exchange.answered(data)

            return writing

        try:
            parts = app(self._environ, starting)
        except BaseException as error:
            self.finish(error)
            raise
        if isinstance(parts, (list, tuple)):
            # It is all there. And a server may take the length of the only part as the body's.
            for part in parts:
                self.exchange.answered(part)
            self.finish(None, is_whole=True)
            return parts
        return _Parts(parts, self)

    def finish(
        self, exception: BaseException | None, *, is_whole: bool = False, hung_up: bool = False
    ) -> None:
        self.exchange.finish(
            is_whole=is_whole, hung_up=hung_up, exception=exception, known=self._known
        )

    def _known(self) -> Mapping[str, object]:
        if self._identify is None:
            return {}
        return without_keys(self._identify(self._environ) or {}, keys_in(self._headers))


class _Input:
    """The request's body: what the application reads of it is seen."""

    def __init__(self, stream: "InputStream", see: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._see = see

    def read(self, size: int = -1, /) -> bytes:
        return self._seen(self._stream.read(size))

    def readline(self, size: int = -1, /) -> bytes:
        return self._seen(self._stream.readline(size))

    def readlines(self, hint: int = -1, /) -> list[bytes]:
        return [self._seen(line) for line in self._stream.readlines(hint)]

    def __iter__(self) -> Iterator[bytes]:
        return map(self._seen, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # some servers' streams can do more

    def _seen(self, data: bytes) -> bytes:
        self._see(data)
        return data


class _Parts:
    """The answer, part by part, until it ends, fails, or the server closes it."""

    def __init__(self, parts: Iterable[bytes], recorded: _Recorded) -> None:
        self._parts = parts
        self._iterator = iter(parts)
        self._recorded = recorded

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            part = next(self._iterator)
        except StopIteration:
            self._recorded.finish(None, is_whole=True)
            raise
        except BaseException as error:
            self._recorded.finish(error)
            raise
        self._recorded.exchange.answered(part)
        return part

    def close(self) -> None:
        """As PEP 3333 has it, called always; before the end only when the client has hung up."""
        try:
            if close := getattr(self._parts, "close", None):
                close()
        finally:
            self._recorded.finish(None, hung_up=True)


def path_of(environ: "WSGIEnvironment") -> str:
    """Return the request's path. In an environ, text is bytes in disguise."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode(errors="replace")


def _as_bytes(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
