"""A FastAPI proxy with the middleware, as a process: real clients, a real worker, the rows."""

import asyncio
import hashlib
import os
import signal
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from tests.servers import ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.serving import ServerProcess, served
from tests.upstreams import FAILURES, Sent, Upstream
from tests.workers import WorkerProcess, ending, spooled

if TYPE_CHECKING:  # they take a second to import, in each of xdist's workers
    import anthropic
    import openai
    from openai.types.chat import ChatCompletionMessageParam

KEY = "sk-of-this-test-only-4711"
ASKED: "list[ChatCompletionMessageParam]" = [{"role": "user", "content": "Why in batches? — Grüße"}]
Row = dict[str, Any]


@dataclass(slots=True)
class Site:
    """Clients, proxy, upstream, worker and database, all running."""

    upstream: Upstream
    url: str
    database: Path
    upstream_url: str
    nobody: str
    """The URL of a proxy whose upstream is not there."""
    clients: ExitStack
    """Closes the clients that tests made, and their connections."""

    def row(self, request_id: str) -> Row:
        """Wait for the request's row; JSON columns are parsed."""
        return eventually(lambda: self.rows(request_id), timeout=30, what="the row")[0]

    def rows(self, request_id: str = "%") -> list[Row]:
        """The rows of these requests."""
        return self._select("SELECT * FROM request_logs WHERE request_id LIKE ?", request_id)

    def errors(self, row: Row) -> list[Row]:
        """The errors that are linked to this request."""
        return self._select("SELECT * FROM error_logs WHERE request_log_id = ?", row["id"])

    def _select(self, sql: str, value: Any) -> list[Row]:
        database = sqlite3.connect(self.database)
        database.row_factory = sqlite3.Row
        try:
            return [_parsed(dict(row)) for row in database.execute(sql, (value,))]
        finally:
            database.close()

    def openai(self, request_id: str, url: str = "") -> "openai.OpenAI":
        """The real client of OpenAI."""
        import openai

        return self.clients.enter_context(
            openai.OpenAI(
                api_key=KEY,
                base_url=f"{url or self.url}/v1",
                max_retries=0,
                default_headers={"x-request-id": request_id},
            )
        )

    def anthropic(self, request_id: str) -> "anthropic.Anthropic":
        """The real client of Anthropic."""
        import anthropic

        return self.clients.enter_context(
            anthropic.Anthropic(
                api_key=KEY,
                base_url=self.url,
                max_retries=0,
                default_headers={"x-request-id": request_id},
            )
        )


def _parsed(row: Row) -> Row:
    columns = (
        "headers",
        "body",
        "response",
        "stream_chunks",
        "truncated",
        "backend_attempts",
        "usage_stats",
        "errors",
        "extra",
    )
    return {
        name: orjson.loads(value) if name in columns and value is not None else value
        for name, value in row.items()
    }


@pytest.fixture(scope="module")
def site(
    redis_servers: Callable[[str], ValkeyServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Everything that runs in production, once for this module, on a stream of its own."""
    folder = tmp_path_factory.mktemp("site")
    database, redis_url = folder / "logs.db", redis_servers("valkey").url
    stream = f"spoolway:{uuid.uuid4().hex}"
    upstream = Upstream()
    nobody = f"http://127.0.0.1:{ReservedPort().number}"
    worker = WorkerProcess(
        f"sqlite:///{database}", redis_url, folder / "worker", SPOOLWAY_STREAM=stream
    )
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "SPOOLWAY_STREAM": stream,
        "SPOOLWAY_DIR": str(folder / "proxy"),
    }

    def proxy(name: str, upstream_url: str) -> ServerProcess:
        return ServerProcess(
            "uvicorn",
            "examples.fastapi_proxy:app",
            log=folder / f"{name}.log",
            environment={**environment, "OPENAI_URL": upstream_url, "ANTHROPIC_URL": upstream_url},
        )

    with served(upstream.app) as url, ending(worker), ExitStack() as clients:
        proxies = [proxy("proxy", url), proxy("lonely", nobody)]
        try:
            worker.started()
            for each in proxies:
                eventually(each.answers, timeout=30, what="the proxy")
            yield Site(upstream, proxies[0].url, database, url, proxies[1].url, clients)
        finally:
            codes = [each.end() for each in proxies]
        assert set(codes) <= {0, -signal.SIGTERM}, [each.log.read_text() for each in proxies]


@pytest.fixture
def request_id() -> str:
    """A name that no other request has."""
    return f"req-{uuid.uuid4().hex}"


def assert_tells_of(row: Row, sent: Sent, model: str) -> None:
    """The row says of the answer what the upstream has really sent."""
    assert (row["outcome"], row["http_status"]) == ("success", 200)
    assert (row["model_name"], row["provider_model"]) == (model, f"{model}-served")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (sent.prompt, sent.completion)
    assert row["total_tokens"] == sent.prompt + sent.completion
    assert row["cached_tokens"] == sent.cached
    assert 0 < row["ttft_ms"] <= row["duration_ms"]
    assert row["provider"] == row["backend_attempts"][0]["backend"]
    assert row["headers"].get("authorization", row["headers"].get("x-api-key")) == "[redacted]"
    assert row["client_ip"] == "127.0.0.1"


def test_an_answer_of_openai_is_recorded_as_it_was(site: Site, request_id: str) -> None:
    """Not streamed: the client's body, the whole answer, and its numbers."""
    answer = site.openai(request_id).chat.completions.create(model="small", messages=ASKED)

    row, sent = site.row(request_id), site.upstream.sent[request_id]
    assert_tells_of(row, sent, "small")
    assert answer.choices[0].message.content == sent.text
    assert row["response"]["choices"][0]["message"]["content"] == sent.text
    assert row["body"] == {"model": "small", "messages": ASKED}
    assert (row["is_stream"], row["stop_reason"]) == (0, "stop")
    assert (row["path"], row["method"]) == ("/v1/chat/completions", "POST")


def test_a_stream_of_openai_is_recorded_as_it_was(site: Site, request_id: str) -> None:
    """Streamed: every chunk, the numbers of the last one, the time to the first token."""
    with site.openai(request_id).chat.completions.create(
        model="small", messages=ASKED, stream=True, stream_options={"include_usage": True}
    ) as stream:
        text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    row, sent = site.row(request_id), site.upstream.sent[request_id]
    assert_tells_of(row, sent, "small")
    assert text == sent.text
    assert row["stream_chunks"] == sent.chunks
    assert (row["is_stream"], row["stop_reason"], row["response"]) == (1, "stop", None)


def test_an_answer_of_anthropic_is_recorded_as_it_was(site: Site, request_id: str) -> None:
    """Not streamed, by the real client: tokens mean the same as with OpenAI."""
    answer = site.anthropic(request_id).messages.create(
        model="claude", max_tokens=100, messages=[{"role": "user", "content": "Why?"}]
    )

    row, sent = site.row(request_id), site.upstream.sent[request_id]
    assert_tells_of(row, sent, "claude")
    assert row["response"] == orjson.loads(answer.model_dump_json(exclude_unset=True))
    assert (row["stop_reason"], row["provider"]) == ("end_turn", "anthropic")


def test_a_stream_of_anthropic_is_recorded_as_it_was(site: Site, request_id: str) -> None:
    """Streamed, by the real client: usage that comes in two events is one."""
    with site.anthropic(request_id).messages.stream(
        model="claude", max_tokens=100, messages=[{"role": "user", "content": "Why?"}]
    ) as stream:
        text = stream.get_final_text()

    row, sent = site.row(request_id), site.upstream.sent[request_id]
    assert_tells_of(row, sent, "claude")
    assert text == sent.text
    assert row["stream_chunks"] == sent.chunks
    assert row["stop_reason"] == "end_turn"


def test_200_streams_at_once_cut_at_random_bytes_are_200_right_rows(
    site: Site, request_id: str
) -> None:
    """Whatever the network does to them, no stream loses a byte, and none gets another's."""
    models = [f"cut-{20 + number % 40}" for number in range(200)]

    async def ask(client: httpx.AsyncClient, number: int) -> bytes:
        answer = await client.post(
            "/v1/chat/completions",
            json={"model": models[number], "messages": ASKED, "stream": True},
            headers={"x-request-id": f"{request_id}-{number}", "authorization": f"Bearer {KEY}"},
        )
        return answer.content

    async def ask_all() -> list[bytes]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=site.url, limits=limits, timeout=60, trust_env=False
        ) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(200)))

    got = asyncio.run(ask_all())
    rows = eventually(
        lambda: len(found := site.rows(f"{request_id}-%")) == 200 and found, timeout=60
    )
    assert isinstance(rows, list)
    by_id = {row["request_id"]: row for row in rows}
    for number, content in enumerate(got):
        name = f"{request_id}-{number}"
        row, sent = by_id[name], site.upstream.sent[name]
        assert hashlib.sha256(content).hexdigest() == sent.sha256
        assert_tells_of(row, sent, models[number])
        assert row["stream_chunks"] == sent.chunks


def test_a_stream_of_20_mb_is_passed_on_whole_and_kept_in_part(site: Site, request_id: str) -> None:
    """The client gets every byte; the row has the first chunks, size and hash, and all numbers."""
    answer = httpx.post(
        f"{site.url}/v1/chat/completions",
        json={"model": "large-1050", "messages": ASKED, "stream": True},
        headers={"x-request-id": request_id, "authorization": f"Bearer {KEY}"},
        timeout=60,
        trust_env=False,
    )

    row, sent = site.row(request_id), site.upstream.sent[request_id]
    assert (len(answer.content), sent.size > 20_000_000) == (sent.size, True)
    assert hashlib.sha256(answer.content).hexdigest() == sent.sha256
    assert_tells_of(row, sent, "large-1050")
    assert row["truncated"] == ["stream_chunks"]
    *kept, marker = row["stream_chunks"]
    assert kept == sent.chunks[: len(kept)]
    assert 200_000 < len(orjson.dumps(kept)) < 300_000
    assert marker["_truncated"]
    assert (marker["bytes"], marker["sha256"]) == (sent.size, sent.sha256)
    assert row["stop_reason"] == "stop"


def test_a_client_that_hangs_up_in_a_stream_is_cancelled(site: Site, request_id: str) -> None:
    """What it got is recorded, its first token was timed, and the upstream is told to stop."""
    stream = site.openai(request_id).chat.completions.create(
        model="endless-9", messages=ASKED, stream=True
    )
    next(iter(stream))
    stream.close()

    row, sent = site.row(request_id), site.upstream.sent[request_id]
    assert sent.cancelled.wait(10)
    assert (row["outcome"], row["http_status"]) == ("cancelled", 200)
    assert row["stream_chunks"] == sent.chunks[: len(row["stream_chunks"])]
    assert site.errors(row) == []


@pytest.mark.parametrize("status", FAILURES)
def test_an_upstreams_error_is_an_error_of_its_request(
    site: Site, request_id: str, status: int
) -> None:
    """The client's own exception is raised, and the error is linked to the request's row."""
    import openai

    with pytest.raises(openai.APIStatusError) as raised:
        site.openai(request_id).chat.completions.create(model=f"fail-{status}", messages=ASKED)

    row = site.row(request_id)
    assert raised.value.status_code == status
    assert (row["outcome"], row["http_status"]) == ("error", status)
    [error] = eventually(lambda: site.errors(row), what="the linked error")
    assert (error["error_type"], error["http_status"]) == (FAILURES[status], status)
    assert error["error_message"] == f"as asked: {status}"
    assert (error["backend_name"], error["model_name"]) == ("openai", f"fail-{status}")
    assert row["backend_attempts"][0]["http_status"] == status


def test_an_upstream_that_is_not_there_is_an_error_with_its_exception(
    site: Site, request_id: str
) -> None:
    """The attempt is kept with what was raised; the client's answer is the proxy's own."""
    import openai

    with pytest.raises(openai.APIStatusError) as raised:
        site.openai(request_id, site.nobody).chat.completions.create(model="small", messages=ASKED)

    row = site.row(request_id)
    assert raised.value.status_code == 502
    assert (row["outcome"], row["http_status"]) == ("error", 502)
    [error] = eventually(lambda: site.errors(row), what="the linked error")
    assert (error["error_type"], error["backend_name"]) == ("ConnectError", "openai")


def test_a_proxy_that_is_terminated_leaves_nothing_in_its_memory(
    site: Site, tmp_path: Path, request_id: str
) -> None:
    """SIGTERM while Redis is away: uvicorn ends itself by the signal; all is on the disk by then."""
    nobody = ReservedPort()
    proxy = ServerProcess(
        "uvicorn",
        "examples.fastapi_proxy:app",
        log=tmp_path / "proxy.log",
        environment={
            **os.environ,
            "REDIS_URL": f"redis://127.0.0.1:{nobody.number}",
            "SPOOLWAY_DIR": str(tmp_path / "var"),
            "OPENAI_URL": site.upstream_url,
        },
    )
    try:
        eventually(proxy.answers, timeout=30, what="the proxy")
        client = site.openai(request_id, proxy.url)
        for _ in range(3):
            client.chat.completions.create(model="small", messages=ASKED)
    finally:
        proxy.end()
    assert spooled(tmp_path / "var") == 3


def test_other_paths_are_not_recorded(site: Site, request_id: str) -> None:
    """`only=["/v1/*"]`: what the proxy does besides is its own business."""
    httpx.get(f"{site.url}/docs", headers={"x-request-id": request_id}, trust_env=False)
    httpx.post(
        f"{site.url}/v1/chat/completions",
        json={"model": "small", "messages": ASKED},
        headers={"x-request-id": f"{request_id}-next"},
        trust_env=False,
    )
    assert site.row(f"{request_id}-next")["outcome"] == "success"
    assert site.rows(request_id) == []
