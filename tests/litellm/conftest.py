"""One proxy for all tests of this folder: it takes seconds to start."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from spoolway.schema import ErrorEvent, RequestEvent
from tests.litellm.servers import LiteLLMProxy, SilentUpstream, Upstream
from tests.pushed import events, lines_by_frame
from tests.servers import ValkeyServer, eventually

KEY = "sk-of-a-test-5a1e77c0"


@pytest.fixture(scope="session")
def upstream(server_folder: Path) -> Iterator[Upstream]:
    """An upstream that does what the name of the model says."""
    with Upstream(server_folder / "upstream") as upstream:
        yield upstream


@pytest.fixture(scope="session")
def proxy(
    server_folder: Path, upstream: Upstream, redis_servers: Callable[[str], ValkeyServer]
) -> Iterator[LiteLLMProxy]:
    """A LiteLLM proxy that pushes to the shared Valkey."""
    with SilentUpstream() as silent:
        redis_url = redis_servers("valkey").url
        proxy = LiteLLMProxy(server_folder / "litellm", upstream, silent, redis_url)
        proxy.start(timeout=90)
        yield proxy
        proxy.stop()
        silent.shutdown()


class Asked:
    """One request through the proxy: its client, and what was recorded of it."""

    def __init__(self, proxy: LiteLLMProxy, server: ValkeyServer) -> None:
        self.id = uuid.uuid4().hex
        self.url = f"{proxy.url}/v1"
        self._server = server

    def client(self, key: str = KEY) -> openai.OpenAI:
        """The real client; it does not try again."""
        headers = {"x-litellm-call-id": self.id}
        return openai.OpenAI(
            base_url=self.url, api_key=key, max_retries=0, timeout=30, default_headers=headers
        )

    def requests(self, count: int = 1, timeout: float = 15.0) -> list[RequestEvent]:
        """So many requests with this id, and no more."""

        def found() -> list[RequestEvent]:
            recorded = [
                event
                for event in events(self._server)
                if isinstance(event, RequestEvent) and event.request_id == self.id
            ]
            return recorded if len(recorded) >= count else []

        recorded = eventually(found, timeout=timeout, every=0.05, what="the request's event")
        assert len(recorded) == count
        return recorded

    def request(self, timeout: float = 15.0) -> RequestEvent:
        """The request; checks that its key is nowhere."""
        [request] = self.requests(timeout=timeout)
        lines = [line for frame in lines_by_frame(self._server) for line in frame]
        assert not any(b"sk-of-" in line or b"not-hashed" in line for line in lines)
        return request

    def errors(self, request: RequestEvent) -> list[ErrorEvent]:
        """The errors that refer to the request, in their order; they come in its frame."""
        return [
            event
            for event in events(self._server)
            if isinstance(event, ErrorEvent) and event.request_id == request.id
        ]


@pytest.fixture
def asked(proxy: LiteLLMProxy, valkey: ValkeyServer) -> Asked:
    """A request to be sent."""
    return Asked(proxy, valkey)
