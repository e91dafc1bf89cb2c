"""/api/status and `realtime`: the queue as Redis has it, the folder as it is, and who is away."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from spoolway.worker.backlog import Backlog
from spoolway.worker.fleet import Look
from spoolway.worker.serve.realtime import realtime
from spoolway.worker.serve.status import VERSION
from tests.commands import spool
from tests.servers import ValkeyServer
from tests.serving_api import ALL, serving, settings_for, until
from tests.stores import Database
from tests.workers import WorkerProcess, drained, ending, push, request_line

pytest_plugins = ["tests.store_fixtures"]


async def test_what_comes_in_and_what_is_done_adds_up(
    sqlite_logs: Database, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Entries: received = served + ongoing; the same for whoever asks, and again after a restart."""
    folder = tmp_path / "var"
    settings = settings_for(sqlite_logs, folder, redis_url=valkey.url)
    push(valkey, [request_line() for _ in range(70)], per_frame=10)
    async with serving(settings) as client:
        before = (await client.get("/api/usage")).json()["realtime"]
        assert (before["received"], before["served"], before["ongoing"]) == (7, 0, 7)
        worker = WorkerProcess(str(sqlite_logs.url), valkey.url, folder)
        with ending(worker):
            await asyncio.to_thread(worker.started)
            await asyncio.to_thread(drained, valkey, worker)
            async with serving(settings) as other:
                after = (await other.get("/api/usage")).json()["realtime"]
                assert (after["received"], after["served"], after["ongoing"]) == (7, 7, 0)
                status: dict[str, Any] = {}

                async def is_told() -> bool:
                    status.update((await other.get("/api/status")).json())
                    return any(each["inserted"] == 70 for each in status["workers"])

                await until(is_told)  # a worker says so every two seconds
            assert status["version"] == VERSION
            assert status["database"] == "available"
            assert status["queue"]["entries"] == 0
            assert status["queue"]["streams"].keys() == {"spoolway:events"}
            [shown] = status["workers"]
            assert shown["holds"] is True
            assert shown.keys().isdisjoint({"pid", "host", "http"})
    assert before["unit"] == "entries"


async def test_what_waits_in_the_folder_is_told(sqlite_logs: Database, tmp_path: Path) -> None:
    """Spool and dead letters of this machine; null where there is no folder, or Redis is away."""
    folder = tmp_path / "var"
    async with serving(settings_for(sqlite_logs, folder)) as client:
        status = (await client.get("/api/status")).json()
        assert (status["queue"], status["spool"], status["dead"]) == (None, None, None)
        answer = await client.get("/api/usage")
        assert answer.json()["realtime"]["received"] is None
        assert "127.0.0.1:1" not in answer.text
    folder.mkdir(mode=0o700)
    spool(folder, [request_line() for _ in range(5)])
    (folder / "dead").mkdir(mode=0o700)
    letter = orjson.dumps({"reason": "oversize", "time": "2026-01-31T00:00:00Z"}) + b"\n"
    (folder / "dead" / "20260131T000000-0.jsonl").write_bytes(letter)
    async with serving(settings_for(sqlite_logs, folder)) as client:
        status = (await client.get("/api/status")).json()
    assert status["spool"]["events"] == 5
    assert status["workers"] == []


async def test_realtime_is_not_for_a_token_of_some(sqlite_logs: Database, tmp_path: Path) -> None:
    """The streams are everybody's: a token that sees one user's rows gets null."""
    some = "of-alice-only-00001"
    tokens = [{"name": "alice", "token": some, "users": ["alice"]}]
    settings = settings_for(sqlite_logs, tmp_path, api_token=ALL, api_tokens=tokens)
    async with serving(settings) as client:
        for token, is_shown in ((ALL, True), (some, False)):
            headers = {"authorization": f"Bearer {token}"}
            shown = (await client.get("/api/usage", headers=headers)).json()["realtime"]
            assert (shown is not None) == is_shown


def test_what_redis_cannot_tell_is_null() -> None:
    """Redis 6.2 counts what is there, and not what has been."""
    streams = {"a": Backlog(5, 2, None, 0, 0, None), "b": Backlog(1, 1, 0, 0, 0, 9)}
    now = datetime.now(UTC)
    found = realtime(Look(0, streams, None, []), now)
    assert (found["received"], found["served"], found["ongoing"]) == (None, None, 6)
    assert realtime(Look(0, None, "away", []), now)["ongoing"] is None


async def test_the_documented_rights_in_redis_are_enough(
    sqlite_logs: Database, private_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """A user with what docs/serving.md names sees the queue."""
    page = (Path(__file__).parent.parent / "docs" / "serving.md").read_text()
    [commands] = re.findall(r"no more than `([^`]+)` on the streams\n\(`~spoolway:\*`\)", page)
    push(private_valkey, [request_line()])
    with private_valkey.client() as client:
        rights = [">s3cret-word", "~spoolway:*", "-@all", *commands.split()]
        client.execute_command("ACL", "SETUSER", "page", "reset", "on", *rights)
        client.xgroup_create("spoolway:events", "spoolway", id="0")
    url = f"redis://page:s3cret-word@127.0.0.1:{private_valkey.port}/0"
    async with serving(settings_for(sqlite_logs, tmp_path, redis_url=url)) as client_of_page:
        status = (await client_of_page.get("/api/status")).json()
    assert status["queue"]["entries"] == 1
