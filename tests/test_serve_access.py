"""Who may ask the API, how, and what everybody else is told."""

from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final

import httpx
import pytest

from spoolway.worker.config import Settings, UsageError
from spoolway.worker.serve.answers import HEADERS, ApiError
from spoolway.worker.serve.app import LONGEST_URL
from spoolway.worker.serve.limits import MOST_EXPORTS, MOST_QUERIES, Rate, Slots
from spoolway.worker.serve.listener import is_loopback, listen_for
from spoolway.worker.serve.tokens import Tokens
from tests.serving_api import ALL, error_of, serving, settings_for
from tests.stores import Database

pytest_plugins = ["tests.store_fixtures"]

SCOPED = "of-alice-only-00001"
TOKENS = [{"name": "alice", "token": SCOPED, "users": ["alice"]}]
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - what is refused
GUARDED = (
    *("/api/usage", "/api/usage/by", "/api/filters", "/v1/usage"),
    *("/api/logs", "/api/errors", "/api/tail", "/api/status", "/openapi.json", "/api/nothing"),
)


def bearer(token: str) -> dict[str, str]:
    """Headers with a token."""
    return {"authorization": f"Bearer {token}"}


async def test_nothing_but_the_page_is_shown_without_a_token(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """Whatever is sent instead of one that is known: 401, at every path, and nothing else."""
    settings = settings_for(sqlite_logs, tmp_path, api_token=ALL, api_tokens=TOKENS)
    wrong: tuple[dict[str, str], ...] = (
        {},
        {"authorization": "Bearer"},
        {"authorization": ""},
        bearer(ALL[:-1]),
        bearer(ALL + "0"),
        {"authorization": ALL},
        {"authorization": f"Basic {ALL}"},
        {"authorization": "Bearer " + "x" * 5_000},
        {"cookie": f"token={ALL}", "x-api-key": ALL},
    )
    async with serving(settings) as client:
        for path in GUARDED:
            for headers in wrong:
                answer = await client.get(path, headers=headers)
                assert error_of(answer)[:2] == (401, "unauthorized"), (path, headers)
                assert answer.headers["www-authenticate"].startswith("Bearer")
        twice = httpx.Headers([("authorization", f"Bearer {ALL}")] * 2)
        assert (await client.get("/api/logs", headers=twice)).status_code == 401
        for path in ("/", "/healthz"):
            assert (await client.get(path)).status_code == 200
        for spelling in ("Bearer", "bearer", "BEARER"):
            headers = {"authorization": f"{spelling} {ALL}"}
            assert (await client.get("/api/logs", headers=headers)).status_code == 200
        assert (await client.get("/api/logs", headers=bearer(SCOPED))).status_code == 200
        assert (await client.get("/api/logs", params={"token": ALL})).status_code == 401


async def test_what_is_of_all_is_not_for_a_token_of_some(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """/api/status is 403 for it: the queue and the workers are everybody's."""
    async with serving(settings_for(sqlite_logs, tmp_path, api_tokens=TOKENS)) as client:
        answer = await client.get("/api/status", headers=bearer(SCOPED))
        assert error_of(answer)[:2] == (403, "forbidden")


async def test_without_tokens_it_answers_to_this_machine_alone(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """A name that leads here by DNS rebinding, or another site in the browser, gets nothing."""
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        for host in (
            "localhost",
            "localhost:1",
            "LOCALHOST",
            "127.0.0.1:80",
            "[::1]:9465",
            "127.9.9.9",
        ):
            answer = await client.get("/api/logs", headers={"host": host})
            assert answer.status_code == 200, host
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[::1",
        ):
            answer = await client.get("/api/logs", headers={"host": host})
            assert error_of(answer)[:2] == (403, "forbidden-host"), host
        for site in ("cross-site", "same-site"):
            answer = await client.get("/api/logs", headers={"sec-fetch-site": site})
            assert error_of(answer)[:2] == (403, "forbidden-site")
        answer = await client.get("/api/logs", headers={"sec-fetch-site": "same-origin"})
        assert answer.status_code == 200


async def test_every_answer_has_the_security_headers(sqlite_logs: Database, tmp_path: Path) -> None:
    """The page, its files, JSON, exports and errors: no script but our own, no frame, no guessing."""
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        for path, status in {
            "/": 200,
            "/api/logs": 200,
            "/api/logs?format=csv": 200,
            "/api/logs?x=1": 400,
            "/nothing": 404,
            "/openapi.json": 200,
            "/healthz": 200,
        }.items():
            answer = await client.get(path)
            assert answer.status_code == status, answer.text
            assert HEADERS.items() <= dict(answer.headers).items(), path
            assert "server" not in answer.headers
            if path != "/":
                assert answer.headers["cache-control"] == "no-store"
        policy = HEADERS["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'; script-src 'self';")


async def test_what_cannot_be_asked_is_said(sqlite_logs: Database, tmp_path: Path) -> None:
    """The method, the path, the parameter and the nearest one that there is, its value, its shape."""
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO"):
            answer = await client.request(method, "/api/logs", content=b"x")
            assert answer.status_code == 405
            assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        answer = await client.options("/api/logs", headers={"origin": "https://evil.example"})
        assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
        assert not [name for name in answer.headers if name.startswith("access-control")]
        answer = await client.head("/api/logs")
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 2

        for path, status, code, said in (
            ("/api/log", 404, "not-found", "/openapi.json"),
            ("/api/logs/", 404, "not-found", "/openapi.json"),
            ("//api/logs", 404, "not-found", "/openapi.json"),
            ("/api/logs?modle=x", 400, "bad-query", "(did you mean model?)"),
            ("/api/logs?limit=501", 400, "bad-query", "limit must be a whole number from 1 to 500"),
            ("/api/logs?limit=1&limit=2", 400, "bad-query", "limit is given twice"),
            ("/api/logs?limit=5x", 400, "bad-query", "limit"),
            ("/api/logs?limit=%D9%A3", 400, "bad-query", "limit"),
            ("/api/logs?outcome=sucess", 400, "bad-query", "did you mean success?"),
            ("/api/logs?has_error=maybe", 400, "bad-query", "true or false"),
            ("/api/logs?model=%00", 400, "bad-query", "NUL"),
            ("/api/logs?model=%ff", 400, "bad-query", "UTF-8"),
            ("/api/logs?from=yesterday", 400, "bad-query", "from"),
            ("/api/logs?from=now&to=7d", 400, "bad-query", "end after it starts"),
            ("/api/logs?after=AAAA", 400, "bad-query", "`after` is no cursor"),
            ("/api/logs?format=csv&limit=5", 400, "bad-query", "limit is for pages"),
            ("/api/logs?whole=true", 400, "bad-query", "whole is for exports"),
            ("/api/logs?" + "&".join(["model=x"] * 101), 400, "bad-query", "more than 100"),
            ("/api/logs/7", 400, "bad-query", "must be a UUID"),
            ("/api/status?x", 400, "bad-query", "there is no parameter x here"),
            ("/api/logs?q=" + "x" * LONGEST_URL, 414, "url-too-long", "longer than 8,192 bytes"),
        ):
            found = error_of(await client.get(path))
            assert found[:2] == (status, code), path
            assert said in found[2], (path, found)
        unknown = await client.get("/api/logs/0190b3a4-1111-7abc-8def-0123456789ab")
        assert error_of(unknown)[:2] == (404, "not-found")
        answer = await client.request("GET", "/api/logs", content=b"{}")
        assert error_of(answer)[:2] == (400, "bad-request")
        assert answer.headers["connection"] == "close"


async def test_requests_of_a_minute_are_limited_per_token(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """429 says when to ask again; others, the page and the probe are answered meanwhile."""
    settings = settings_for(sqlite_logs, tmp_path, api_token=ALL, api_tokens=TOKENS, api_rate=3)
    async with serving(settings) as client:
        for _ in range(3):
            assert (await client.get("/openapi.json", headers=bearer(ALL))).status_code == 200
        answer = await client.get("/openapi.json", headers=bearer(ALL))
        assert error_of(answer)[:2] == (429, "too-many-requests")
        assert answer.headers["retry-after"] == "20"
        guessed = [
            (await client.get("/openapi.json", headers=bearer("?"))).status_code for _ in "12345"
        ]
        assert guessed == [401, 401, 401, 429, 429]
        assert (await client.get("/openapi.json", headers=bearer(SCOPED))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


def test_the_rate_refills_with_time() -> None:
    """What was not used can be used at once, but no more than a minute's; 0 is without a limit."""
    now = [0.0]
    rate = Rate(60, lambda: now[0])
    for _ in range(60):
        rate.take("a")
    with pytest.raises(ApiError):
        rate.take("a")
    rate.take("b")
    now[0] = 1.0
    rate.take("a")
    with pytest.raises(ApiError):
        rate.take("a")
    now[0] = 3600.0
    for _ in range(60):
        rate.take("a")
    with pytest.raises(ApiError):
        rate.take("a")
    for _ in range(10_000):
        Rate(0, lambda: 0.0).take("a")


async def test_too_much_at_once_is_busy() -> None:
    """A question waits for its turn as long as it may, an export not at all."""
    slots = Slots(patience=0.01)
    with ExitStack() as exports:
        for _ in range(MOST_EXPORTS):
            exports.enter_context(slots.export())
        with pytest.raises(ApiError) as busy, slots.export():
            pass
        assert (busy.value.status, busy.value.headers) == (503, {"retry-after": "1"})
    with slots.export():
        pass
    async with AsyncExitStack() as turns:
        for _ in range(MOST_QUERIES):
            await turns.enter_async_context(slots.query())
        with pytest.raises(ApiError) as busy:
            await turns.enter_async_context(slots.query())
        assert busy.value.code == "busy"
    async with slots.query():
        pass


def test_a_port_that_all_can_reach_needs_a_token(tmp_path: Path) -> None:
    """Without one it listens to this machine alone; the refusal says how to make one."""
    for host in (EVERYWHERE, "::", "192.0.2.1", "example.org"):
        with pytest.raises(UsageError, match="set SPOOLWAY_API_TOKEN"):
            listen_for(Settings(dir=tmp_path, api_host=host, api_port=0))
    for tokens in ({"api_token": ALL}, {"api_tokens": TOKENS}):
        listen_for(settings_for("", tmp_path, api_host=EVERYWHERE, **tokens)).close()
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("127.0.0.1.example.org")


def test_the_same_token_for_two_is_refused(tmp_path: Path) -> None:
    """Which of them asks could not be told."""
    with pytest.raises(UsageError, match="twice"):
        Tokens(settings_for("", tmp_path, api_token=SCOPED, api_tokens=TOKENS))
