"""Where the example proxy gets its answers: one backend after the other, until one can answer."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, NamedTuple

import httpx
from starlette.requests import Request

ASK_NEXT: Final = (502, 503)
"""Not reached, or overloaded: another backend may be better. A timeout may still be at work."""
PASSED_ON: Final = ("authorization", "content-type", "openai-organization", "openai-project")


class Backend(NamedTuple):
    """A name for the logs, and a base URL that ends in /v1."""

    name: str
    url: str


@dataclass(slots=True, frozen=True)
class Attempt:
    """What one backend answered, or what stands for the answer it did not give."""

    backend: str
    answer: httpx.Response
    duration_ms: float
    """Until its headers were there, or all of it unless it is a stream."""

    @property
    def is_stream(self) -> bool:
        """Whether the answer is still to be read, as server-sent events."""
        return _is_stream(self.answer)


class Backends:
    """The backends in the order they are asked, and the connections to them."""

    def __init__(self, backends: Sequence[Backend], timeout: float) -> None:
        """`timeout`: seconds that a backend may say nothing."""
        self.names = [backend.name for backend in backends]
        self._backends = backends
        self._client = httpx.AsyncClient(
            timeout=timeout,
            limits=httpx.Limits(max_connections=None),
            headers={"accept-encoding": "identity"},
            # What a backend sets for one client must not reach it with another's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    async def ask(self, request: Request, body: bytes) -> AsyncIterator[Attempt]:
        """Yield each attempt; the last one's answer is the one for the client."""
        for number, backend in enumerate(self._backends, start=1):
            started = time.monotonic()
            outgoing = self._client.build_request(
                request.method,
                backend.url + request.url.path.removeprefix("/v1"),
                params=request.url.query.encode() or None,
                content=body,
                headers={n: request.headers[n] for n in PASSED_ON if n in request.headers},
            )
            try:
                answer = await self._client.send(outgoing, stream=True)
                if not _is_stream(answer):
                    await answer.aread()
            except httpx.RequestError as error:
                answer = no_answer(error)
            yield Attempt(backend.name, answer, round((time.monotonic() - started) * 1e3, 1))
            if answer.status_code not in ASK_NEXT or number == len(self._backends):
                return

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def no_answer(error: httpx.RequestError) -> httpx.Response:
    """Say in the backend's place that it was refused, timed out or broke off."""
    kind = type(error).__name__
    problem = {"type": kind, "message": f"no answer from the backend: {str(error) or kind}"}
    status = 504 if isinstance(error, httpx.TimeoutException) else 502
    return httpx.Response(status, json={"error": problem})


def _is_stream(answer: httpx.Response) -> bool:
    kind: str = answer.headers.get("content-type", "")
    return answer.is_success and kind.startswith("text/event-stream")
