"""One arq job per event: the queue that a proxy with Redis and arq would think of first."""

from typing import Any, Final

import orjson
from arq.constants import default_queue_name, job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms

from benchmarks.children import python_module, running
from benchmarks.contestants import arq_worker
from benchmarks.contestants.base import PLAIN, Pace, Target
from benchmarks.drained import until_empty
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload

_CHUNK: Final = 500
_DAY_MS: Final = 86_400_000


class ArqJobPerEvent:
    """Jobs are queued first; timed is a worker process that waits, ready, for its start."""

    name = "arq"
    title = f"arq, one job per event, {arq_worker.MAX_JOBS} at once"
    target: Target = "postgres"
    pace: Pace = "one by one"
    loads = PLAIN

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in, job by job."""
        environment = {"REDIS_URL": servers.redis_url, "DATABASE_URL": servers.postgres_url}
        command = python_module(arq_worker.__name__)
        with (
            servers.valkey.client(timeout=60) as client,
            running(command, servers.folder / "arq.log", environment) as worker,
        ):
            _enqueue(client, load, events)
            while not client.blpop([arq_worker.READY], timeout=1):
                worker.must_run()
            meter = Meter(servers, worker.pid)
            meter.start()
            client.rpush(arq_worker.GO, 1)
            until_empty(lambda: int(client.zcard(default_queue_name)), worker)
            return meter.stop()


def _enqueue(client: Any, load: Workload, events: int) -> None:
    """Write what `ArqRedis.enqueue_job` writes, many jobs in one round trip."""
    held = load.events(events)
    for start in range(0, events, _CHUNK):
        now_ms = timestamp_ms()
        with client.pipeline(transaction=False) as pipeline:
            for event in held[start : start + _CHUNK]:
                job_id = event["id"].hex
                job = serialize_job(
                    "insert_event", (event,), {}, None, now_ms, serializer=orjson.dumps
                )
                pipeline.psetex(job_key_prefix + job_id, _DAY_MS, job)
                pipeline.zadd(default_queue_name, {job_id: now_ms})
            pipeline.execute()
