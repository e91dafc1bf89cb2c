"""Whoever can write to Redis: what they put there is data, and is never run."""

import pickle
import time
from pathlib import Path

import orjson
import pytest

from spoolway.worker.host import QUEUE
from tests.servers import ValkeyServer, eventually
from tests.workers import WorkerProcess, drained, ending, push, request_line, rows

SQL = "'; DROP TABLE request_logs; --\\'\"$1%s\t"


class Bomb:
    """What pickle would run while it reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._path,)


def job(function: str, *arguments: object) -> bytes:
    """A job as arq reads it."""
    return orjson.dumps({"t": 1, "f": function, "a": arguments, "k": {}, "et": 1})


@pytest.mark.chaos
def test_jobs_that_somebody_else_put_there_run_nothing(
    newest_postgres_url: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Pickles, modules, names and arguments of their own, keys of another type: nothing is called.

    Nor is SQL in an event, which is text like any other.
    The worker stays, goes on draining, and runs the control jobs that come after them.
    """
    proof = tmp_path / "run by somebody else"
    hostile: dict[str, bytes] = {
        "pickle": pickle.dumps(Bomb(proof)),
        "system": job("os.system", f"touch '{proof}'"),
        "dunder": job("__import__", "os"),
        "arguments": job("sweep_stream", {"__class__": "Stream"}, [1] * 1000),
        "not a job": b"[]",
        "deep": b"[" * 100_000,
        "empty": b"",
    }
    worker = WorkerProcess(newest_postgres_url, valkey.url, tmp_path / "var")
    with ending(worker), valkey.client() as client:
        worker.started()
        for name, body in hostile.items():
            client.set(f"arq:job:{name}", body)
            client.zadd(QUEUE, {name: 1})  # arq passes over 0
        client.zadd(QUEUE, {b"\xff\xfe not text": 1})
        eventually(lambda: not client.exists(QUEUE), timeout=30, what="an empty queue")
        # This one fails inside arq, which is started anew and comes back to it after its time.
        client.hset("arq:job:hash", "f", "x")
        client.zadd(QUEUE, {"hash": 1})
        eventually(lambda: "WRONGTYPE" in worker.output(), timeout=30, what="arq's failure")
        client.set("arq:job:good", job("sweep_stream"))
        client.zadd(QUEUE, {"good": int(time.time() * 1000) - 1})
        push(valkey, [request_line(model_name=SQL, path=SQL) for _ in range(10)])
        drained(valkey, worker)

        def done() -> bool:
            assert worker.exit_code is None, worker.output()
            return bool(client.exists("arq:result:good"))

        eventually(done, timeout=30, what="the job that is one")
        assert worker.terminate() == 0
    assert not proof.exists()
    assert (
        rows(newest_postgres_url, "SELECT model_name, path FROM request_logs") == [(SQL, SQL)] * 10
    )
