"""A real Redis Cluster: streams on all of its nodes, control jobs beside it, nodes that go away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from spoolway.producer import Producer
from spoolway.schema import new_id
from spoolway.schema.address import stream_names
from spoolway.schema.primaries import slot_of
from spoolway.worker.host import jobs_pool
from tests.commands import refusal, run, spool
from tests.servers import ValkeyServer, eventually, redis_binaries
from tests.servers.cluster import ClusterNode, ClusterServers
from tests.test_redis_sentinel import all_on_the_stream, emitting
from tests.workers import GROUP, WorkerProcess, ending, ids, request_line

STREAMS = 6
NAMES = stream_names("spoolway:events", STREAMS)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, private_folder: Path) -> Iterator[ClusterServers]:
    """Three nodes of this test's own, or with a replica each."""
    replicas = getattr(request, "param", False)
    binary = redis_binaries()["valkey"]
    with ClusterServers(binary, private_folder / "cluster", replicas=replicas) as started:
        yield started


def left(cluster: ClusterServers) -> int:
    """Entries on all streams."""
    return sum(int(cluster.holder(name).ask("XLEN", name)) for name in NAMES)


def acknowledged(node: ClusterNode, name: str) -> None:
    """Leave an entry on a stream as a worker does that dies between XACK and XDEL."""
    with node.client() as client:
        client.xgroup_setid(name, GROUP, "9999999999999-1")
        client.xadd(name, {"v": "1"}, id="9999999999999-1")


def test_streams_are_spread_over_the_nodes_of_a_cluster_and_drained_from_all_of_them(
    cluster: ClusterServers, valkey: ValkeyServer, tmp_path: Path, folder: Path
) -> None:
    """Producer, worker, control jobs, replay and status; and what is missing is one line."""
    assert [cluster.nodes[0].ask("CLUSTER KEYSLOT", name) for name in NAMES] == list(
        map(slot_of, NAMES)
    )
    accepted = [new_id() for _ in range(600)]
    with Producer(cluster.url, streams=STREAMS, frame_events=10) as producer:
        assert all(producer.emit({"type": "request", "id": one}) for one in accepted)
    assert all(cluster.holder(name).ask("XLEN", name) >= 10 for name in NAMES)
    assert len({cluster.holder(name).port for name in NAMES}) == 3
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    settings = {
        "DATABASE_URL": database,
        "REDIS_URL": cluster.url,
        "SPOOLWAY_STREAMS": str(STREAMS),
        "SPOOLWAY_DIR": str(folder),
    }
    assert "SPOOLWAY_JOBS_REDIS_URL is needed" in refusal(run("status", **settings))
    settings["SPOOLWAY_JOBS_REDIS_URL"] = valkey.url
    worker = WorkerProcess(database, cluster.url, folder, **settings)
    with ending(worker):
        worker.started()
        eventually(lambda: left(cluster) == 0, what="empty streams")
        eventually(lambda: set(ids(database)) == set(accepted))
        spool(tmp_path / "proxy", [request_line() for _ in range(300)])
        replayed = run("replay", "--to", "stream", "--dir", str(tmp_path / "proxy"), **settings)
        assert replayed.code == 0, replayed
        eventually(lambda: len(ids(database)) == 900, what="what was replayed")

        async def swept() -> object:
            pool = jobs_pool(valkey.url)
            try:
                job = await pool.enqueue_job("sweep_stream")
                assert job is not None
                return await job.result(timeout=15)
            finally:
                await pool.aclose(close_connection_pool=True)

        for name in NAMES[:2]:  # acknowledged, and its worker died before XDEL
            acknowledged(cluster.holder(name), name)
        assert asyncio.run(swept()) == 2
        shown = run("status", "--json", **settings)
        assert sorted(shown.json["redis"]["streams"]) == NAMES
        assert worker.terminate() == 0

    plain = cluster.url.partition(",")[0].replace("redis+cluster", "redis")
    for url, what in (
        (plain, "this is a Redis Cluster: write redis+cluster:// in REDIS_URL"),
        (valkey.url.replace("redis:", "redis+cluster:"), "that they are what REDIS_URL says"),
    ):
        with Producer(url, streams=STREAMS, frame_events=1) as producer:
            for _ in range(STREAMS):
                producer.emit({"type": "request"})
            eventually(lambda: what in (producer.stats.last_error or ""))  # noqa: B023 - called in this round only
            producer.close(0)


@pytest.mark.chaos
@pytest.mark.parametrize(
    "cluster", [False, True], ids=["it comes back", "its replica is promoted"], indirect=True
)
def test_killed_node_under_load_leaves_every_event_once(
    cluster: ClusterServers, valkey: ValkeyServer, tmp_path: Path, folder: Path
) -> None:
    """SIGKILL of a node that holds streams: what was pushed to it is drained when it is served."""
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    settings = {"SPOOLWAY_STREAMS": str(STREAMS), "SPOOLWAY_JOBS_REDIS_URL": valkey.url}
    worker = WorkerProcess(database, cluster.url, folder, **settings)
    with ending(worker):
        worker.started()
        with Producer(cluster.url, folder=tmp_path / "proxy", streams=STREAMS) as producer:
            with emitting(producer) as accepted:
                eventually(lambda: (worker.status() or {})["inserted"] > 500, timeout=20)
                killed = cluster.holder(NAMES[0])
                killed.kill()
                eventually(lambda: producer.stats.push_failures > 0)
                if len(cluster.nodes) == 3:
                    eventually(lambda: (worker.status() or {})["redis_failures"] > 10, timeout=20)
                    killed.start()
                else:
                    eventually(lambda: cluster.holder(NAMES[0]) is not killed, timeout=30)
                cluster.await_settled()
                pushed = producer.stats.pushed
                eventually(lambda: producer.stats.pushed > pushed + 500, timeout=30)
            all_on_the_stream(producer)
        eventually(lambda: left(cluster) == 0, timeout=30, what="empty streams")
        eventually(lambda: set(ids(database)) >= set(accepted), timeout=30)
        assert worker.terminate() == 0
    found = ids(database)
    assert len(found) == len(set(found))
    assert set(found) == set(accepted)
