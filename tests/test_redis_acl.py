"""Users of Redis with no more than docs/redis.md gives them, on several streams of one server."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

from arq.jobs import Job

from spoolway.producer import Producer
from spoolway.schema import new_id
from spoolway.schema.address import stream_names
from spoolway.worker.host import jobs_pool
from tests.commands import run, spool
from tests.servers import ValkeyServer, eventually
from tests.workers import GROUP, WorkerProcess, count, ending, ids, request_line

DOCS = (Path(__file__).parent.parent / "docs" / "redis.md").read_text()
PASSWORD = "p@ss:w/rd %1#?&é"
STREAMS = 3
NAMES = stream_names("spoolway:events", STREAMS)


def url_of(user: str, server: ValkeyServer) -> str:
    """How this user reaches a server."""
    return f"redis://{user}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/0"


def allow(server: ValkeyServer) -> None:
    """Make the users as the documentation does."""
    block = DOCS.split("<!-- acl:")[1].split("```")[1]
    lines = [line.split() for line in block.splitlines() if line]
    assert [line[:2] for line in lines] == [["ACL", "SETUSER"]] * 2
    with server.client() as client:
        for _, _, name, *rules in lines:
            said = [rule.replace("PASSWORD", PASSWORD) for rule in rules]
            client.execute_command("ACL", "SETUSER", name, *said)
        client.acl_log_reset()


def refused(server: ValkeyServer) -> list[Any]:
    """What was refused to whom, without redis-py's introduction of itself."""
    with server.client() as client:
        log: list[Any] = client.acl_log()
    return [entry for entry in log if entry["object"] not in ("client", "client|setinfo")]


def read_counts(server: ValkeyServer) -> list[int]:
    """How many entries of each stream its group has been given so far."""
    with server.client() as client:
        return [int(client.xinfo_groups(name)[0]["entries-read"]) for name in NAMES]


def is_empty(server: ValkeyServer) -> bool:
    """Whether nothing is left on any stream."""
    with server.client() as client:
        return not any(client.xlen(name) for name in NAMES)


async def sweep(url: str) -> object:
    """Have the worker run a control job, and return what it says."""
    pool = jobs_pool(url)
    try:
        job = await pool.enqueue_job("sweep_stream")
        assert isinstance(job, Job)
        return await job.result(timeout=15)
    finally:
        await pool.aclose(close_connection_pool=True)


def test_users_with_what_is_documented_can_do_everything_and_nothing_else(
    private_valkey: ValkeyServer, tmp_path: Path, folder: Path
) -> None:
    """Push, drain three streams, run control jobs, take over, replay, look: nothing is refused."""
    server, database = private_valkey, f"sqlite:///{tmp_path / 'logs.db'}"
    allow(server)
    proxy, drainer = url_of("spoolway-proxy", server), url_of("spoolway-worker", server)
    settings = {"SPOOLWAY_STREAMS": str(STREAMS)}
    accepted = [new_id() for _ in range(300)]
    with Producer(proxy, streams=STREAMS, frame_events=10) as producer:
        assert all(producer.emit({"type": "request", "id": one}) for one in accepted)
    worker = WorkerProcess(database, drainer, folder, **settings)
    with ending(worker):
        worker.started()
        eventually(lambda: is_empty(server), what="empty streams")
        assert [count >= 8 for count in read_counts(server)] == [True] * STREAMS
        assert asyncio.run(sweep(drainer)) == 0
        worker.kill()
        with server.client() as client:
            for name in NAMES:  # delivered to a consumer that does not live any more
                line = request_line()
                client.xadd(name, {"v": "1", "codec": "json", "n": "1", "data": line})
                client.xreadgroup(GROUP, "gone", {name: ">"})
                client.xclaim(name, GROUP, "gone", 0, ["0-0"], idle=60_000)
        worker.started()
        spool(tmp_path / "proxy", [request_line() for _ in range(5)])
        common = {"REDIS_URL": drainer, "DATABASE_URL": database, **settings}
        replayed = run("replay", "--to", "stream", "--dir", str(tmp_path / "proxy"), **common)
        assert replayed.code == 0, replayed
        shown = run("status", "--json", "--dir", str(folder), **common)
        assert (shown.code, sorted(shown.json["redis"]["streams"])) == (0, NAMES)
        eventually(lambda: set(accepted) < set(ids(database)), what="all rows")
    assert refused(server) == []
    assert PASSWORD not in worker.output()
    assert quote(PASSWORD, safe="") not in worker.output()

    # Neither may do what is the other's, and each says so in one line.
    mistaken = run("worker", "--dir", str(folder), SPOOLWAY_STARTUP_TIMEOUT="0", REDIS_URL=proxy)
    assert mistaken.code == 2
    *_, refusal = mistaken.err.splitlines()
    assert "this user lacks a permission: give it what docs/redis.md lists" in refusal
    assert [entry["object"] for entry in refused(server)] == ["xgroup|create"]


def test_stream_that_cannot_be_acknowledged_holds_up_no_other(
    private_valkey: ValkeyServer, tmp_path: Path, folder: Path
) -> None:
    """A Redis that takes no XACK for one stream, as one that goes away just then, keeps no place."""
    server, database = private_valkey, f"sqlite:///{tmp_path / 'logs.db'}"
    worker = WorkerProcess(
        database,
        f"redis://worker:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/0",
        folder,
        SPOOLWAY_STREAMS="2",
        SPOOLWAY_IN_FLIGHT="1",
    )
    first, second = stream_names("spoolway:events", 2)
    frame = {"v": "1", "codec": "json", "n": "1"}
    with server.client() as client, ending(worker):
        most = ["reset", "on", f">{PASSWORD}", "~*", "+@all", "-xack", "-xdel"]
        client.execute_command("ACL", "SETUSER", "worker", *most, f"(+xack +xdel ~{second})")
        worker.started()
        client.xadd(first, {**frame, "data": request_line()})
        eventually(lambda: count(database) == 1)
        client.xadd(first, {**frame, "data": request_line()})
        client.xadd(second, {**frame, "data": request_line()})
        eventually(lambda: count(database) == 2, what="the other stream's event")
        eventually(lambda: client.xlen(second) == 0)
        assert client.xlen(first) == 2
        client.execute_command("ACL", "SETUSER", "worker", "+xack", "+xdel")
        eventually(lambda: (client.xlen(first), count(database)) == (0, 3), what="an empty stream")
