"""What the API does when something is away, slow, or not read to its end."""

import asyncio
import contextlib
import logging
import socket
from functools import partial
from pathlib import Path

import httpx
import pytest

from spoolway.worker.serve import server
from spoolway.worker.serve.listener import listen_for, shown_url
from spoolway.worker.serve.server import ApiServer
from tests.serving_api import error_of, serving, settings_for, until
from tests.stores import Database, postgres_transaction, request, requests

pytest_plugins = ["tests.store_fixtures"]

READING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND state = 'active' AND query LIKE '%FROM request_logs%' AND pid <> pg_backend_pid()"
)


LOCK = "LOCK TABLE request_logs IN ACCESS EXCLUSIVE MODE"


async def asked_of_the_server(logs: Database, number: int) -> None:
    """Wait until so many questions run on the server."""

    async def so_many() -> bool:
        return bool((await logs.sql(READING))[0][0] == number)

    await until(so_many)


async def test_a_database_that_is_away_is_said_and_comes_back(
    private_logs: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """503 without a word of where it is, /api/usage 200 with the rest; then everything again."""
    item = request(model_name="m")
    async with private_logs.opened() as store:
        await store.write([item])
    assert private_logs.server is not None
    async with serving(settings_for(private_logs, tmp_path)) as client:
        assert (await client.get("/api/status")).json()["database"] == "available"
        assert len((await client.get("/api/logs")).json()["data"]) == 1
        private_logs.server.stop("immediate")
        for path in ("/api/logs", f"/api/logs/{item.event.id}", "/api/errors", "/api/tail"):
            answer = await client.get(path)
            status, code, said = error_of(answer)
            assert (status, code) == (503, "unavailable"), path
            assert "retry-after" in answer.headers
            assert str(private_logs.server.port) not in said
            assert "127.0.0.1" not in said
        assert error_of(await client.get("/api/logs?format=csv"))[0] == 503
        answer = await client.get("/api/usage")
        historical = answer.json()["historical"]
        assert answer.status_code == 200
        assert historical.keys() == {"enabled", "status", "provider", "message"}
        assert (historical["enabled"], historical["status"]) == (True, "unavailable")
        assert str(private_logs.server.port) not in answer.text
        assert (await client.get("/healthz")).status_code == 200
        assert str(private_logs.server.port) in caplog.text, "the log says where"
        private_logs.server.start()
        assert len((await client.get("/api/logs")).json()["data"]) == 1
        usage = (await client.get("/api/usage")).json()["historical"]
        assert usage["total_stats"]["total_requests"] == 1


async def test_without_a_database_yet_it_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Started first, it says that none is there; when the worker has made one, it is read."""
    url = f"sqlite:///{tmp_path / 'none.db'}"
    async with serving(settings_for(url, tmp_path)) as client:
        assert (await client.get("/")).status_code == 200
        status, _, said = error_of(await client.get("/api/logs"))
        assert status == 503
        assert str(tmp_path) not in said
        assert not (tmp_path / "none.db").exists(), "looking makes nothing"


async def test_what_takes_too_long_is_ended(newest_logs: Database, tmp_path: Path) -> None:
    """504 in about the time that a question may take; nothing of it runs on."""
    async with newest_logs.opened() as store:
        await store.write(requests(3))
    settings = settings_for(newest_logs, tmp_path, query_timeout=0.5)
    async with serving(settings) as client, postgres_transaction(newest_logs, LOCK):
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await client.get("/api/logs")
        assert loop.time() - began < 5
        assert error_of(answer)[0] in (503, 504)
        await asked_of_the_server(newest_logs, 0)
    async with serving(settings) as client:
        assert (await client.get("/api/logs")).status_code == 200


@pytest.mark.parametrize("path", ["/api/logs", "/api/logs?format=csv"])
async def test_a_client_that_hangs_up_ends_its_question(
    newest_logs: Database, tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On the server, too: what nobody waits for is not worked on."""
    caplog.set_level(logging.DEBUG, "spoolway.serve")
    async with newest_logs.opened() as store:
        await store.write(requests(3))
    settings = settings_for(newest_logs, tmp_path, query_timeout=60)
    async with serving(settings) as client, postgres_transaction(newest_logs, LOCK):
        asking = asyncio.create_task(client.get(path))
        await asked_of_the_server(newest_logs, 1)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await asked_of_the_server(newest_logs, 0)
    assert any(" 499 " in record.getMessage() for record in caplog.records)


async def test_the_log_has_who_asked_what_and_no_value(
    sqlite_logs: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Method, path, status, time and the token's name; no query, no token, no address."""
    caplog.set_level(logging.INFO, "spoolway.serve")
    secret = "a-long-secret-token-1"
    given = [{"name": "reports", "token": secret}]
    async with serving(settings_for(sqlite_logs, tmp_path, api_tokens=given)) as client:
        headers = {"authorization": f"Bearer {secret}"}
        await client.get("/api/logs?q=s3cret-words", headers=headers)
        await client.get("/api/logs?q=s3cret-words", headers={"authorization": "Bearer s3cret-x"})
        await client.get("/api/tail", headers=headers)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split()[:3] + line.split()[-1:] for line in lines if "/api/" in line] == [
        ["GET", "/api/logs", "200", "reports"],
        ["GET", "/api/logs", "401", "-"],
    ]
    assert "s3cret" not in caplog.text
    assert secret not in caplog.text


async def test_who_does_not_ask_or_does_not_take_is_cut_off(
    sqlite_logs: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a request, or an answer that nobody reads, does not hold a place for ever."""
    monkeypatch.setattr(server, "_ASKING_SECONDS", 0.3)
    monkeypatch.setattr(server, "_TAKING_SECONDS", 0.3)
    async with sqlite_logs.opened() as store:
        await store.write(requests(400, body={"text": "x" * 40_000}))
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        host, port = client.base_url.host, client.base_url.port
        assert port is not None
        slow, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /api/logs HTTP/1.1\r\nhost: localhost\r\n")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await slow.read() == b""
        writer.close()

        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, (host, port))
            await loop.sock_sendall(
                deaf,
                b"GET /api/logs?format=ndjson&whole=1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
            )
            await asyncio.sleep(1)  # it reads nothing for longer than it may
            received = 0
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionResetError):
                    while data := await loop.sock_recv(deaf, 65536):
                        received += len(data)
            assert received < 16_000_000, "and not all of it"
        assert (await client.get("/healthz")).status_code == 200


async def test_answers_are_finished_at_the_stop(newest_logs: Database, tmp_path: Path) -> None:
    """Who has asked gets the answer; who comes then does not."""
    async with newest_logs.opened() as store:
        await store.write(requests(3))
    settings = settings_for(newest_logs, tmp_path, query_timeout=30)
    listener = listen_for(settings)
    url = shown_url(listener)
    running = asyncio.create_task(ApiServer(settings, listener).run())
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        async with postgres_transaction(newest_logs, LOCK):
            asking = asyncio.create_task(client.get("/api/logs"))
            await asked_of_the_server(newest_logs, 1)
            running.cancel()
            await until(partial(refused, url))
        assert len((await asking).json()["data"]) == 3
    await asyncio.wait([running])


async def refused(url: str) -> bool:
    """Whether nobody listens there."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            await client.get(f"{url}healthz")
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            return False
    return False
