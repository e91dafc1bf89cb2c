"""What is recorded of calls by LiteLLM's SDK, and at the end of a process."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from spoolway.schema import ErrorEvent, RequestEvent
from tests.litellm.servers import (
    ENVIRONMENT,
    LiteLLMProxy,
    SilentUpstream,
    Upstream,
    environment,
)
from tests.pushed import events, json_of
from tests.servers import ValkeyServer
from tests.servers.ports import ReservedPort

pytestmark = pytest.mark.litellm

CALLS = Path(__file__).parent / "sdk_calls.py"


def run_python(*arguments: str, redis_url: str) -> None:
    """Run it in LiteLLM's environment to its end."""
    subprocess.run(
        [ENVIRONMENT / "bin" / "python", *arguments],
        env=environment(redis_url),
        check=True,
        timeout=90,
    )


def test_calls_by_the_sdk_are_recorded(upstream: Upstream, valkey: ValkeyServer) -> None:
    """With and without asyncio, and with a router's attempts as those of one request.

    A router tells nobody that it gives up: what it failed in is recorded at the end at the latest.
    """
    run_python(str(CALLS), upstream.url, redis_url=valkey.url)

    found = events(valkey)
    requests = [event for event in found if isinstance(event, RequestEvent)]
    errors = [event.request_id for event in found if isinstance(event, ErrorEvent)]
    assert {
        (
            request.model_name,
            request.outcome,
            request.http_status,
            len(json_of(request.backend_attempts)),
            errors.count(request.id),
        )
        for request in requests
    } == {
        ("fail-400", "error", 400, 1, 1),
        ("large", "success", 200, 1, 0),
        ("hopeless", "error", 500, 2, 2),
        ("fail-500", "error", 500, 1, 1),
        ("first", "success", 200, 3, 2),
        ("small", "success", 200, 1, 0),
    }
    assert len(requests) == 6
    [stream] = [request for request in requests if request.is_stream]
    assert (stream.model_name, stream.reasoning_tokens) == ("large", 8)
    assert stream.ttft_ms is not None
    assert all(request.duration_ms for request in requests)
    assert all(json_of(request.body)["messages"] for request in requests)


def test_the_import_needs_no_redis() -> None:
    """Nothing is connected before the first event."""
    nobody = ReservedPort()
    code = (
        "from spoolway.producer.litellm import logger; assert logger.producer.stats.accepted == 0"
    )

    run_python("-c", code, redis_url=f"redis://127.0.0.1:{nobody.number}/0")


@pytest.fixture
def own_proxy(
    private_folder: Path, upstream: Upstream, valkey: ValkeyServer
) -> Iterator[LiteLLMProxy]:
    """A proxy of this test's own."""
    with SilentUpstream() as silent:
        proxy = LiteLLMProxy(private_folder / "litellm", upstream, silent, valkey.url)
        proxy.start(timeout=90)
        yield proxy
        proxy.stop()
        silent.shutdown()


def test_a_proxy_that_is_stopped_has_sent_what_it_answered(
    own_proxy: LiteLLMProxy, valkey: ValkeyServer
) -> None:
    """SIGTERM right after an answer: uvicorn does not run what was registered with atexit."""
    call = uuid.uuid4().hex
    answer = httpx.post(
        f"{own_proxy.url}/v1/chat/completions",
        headers={"authorization": "Bearer sk-of-a-test-5a1e77c0", "x-litellm-call-id": call},
        json={"model": "small", "messages": [{"role": "user", "content": "Why?"}]},
    )
    own_proxy.stop()

    assert answer.is_success
    assert [e.request_id for e in events(valkey) if isinstance(e, RequestEvent)] == [call]
