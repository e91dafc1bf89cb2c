"""What one event costs, by its size: the measurements that the model is fitted to and checked with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from benchmarks.drained import fill
from benchmarks.rounds import say
from benchmarks.scale.drain import Drained, drain, used_memory
from benchmarks.scale.stock import lines
from benchmarks.servers import Servers, cpu_seconds
from benchmarks.workload import Size, Workload, key_of, pack, packed_size
from spoolway.spool.record import encode_records

FITTED: Final[Sequence[Size]] = (1, 4, 32)
"""Kilobytes of the events whose costs the model is fitted to."""
CHECKED: Final[Sequence[Size]] = (2, 12, "mixed")
"""Those whose costs it has to foretell: sizes between, and traffic as it is, errors included."""
_EVENTS: Final[Mapping[Size, int]] = {
    1: 150_000,
    2: 80_000,
    4: 48_000,
    12: 20_000,
    32: 8_000,
    "mixed": 20_000,
}
_EACH: Final = """
FROM (SELECT * FROM pg_partition_tree('request_logs')
      UNION ALL SELECT * FROM pg_partition_tree('error_logs')) AS leaf
"""
_RECORD_BYTES: Final = len(encode_records([b""]))
"""What a spool adds to an event."""
_DISK: Final = f"SELECT sum(pg_total_relation_size(relid)) {_EACH} WHERE isleaf"
_LARGEST: Final = f"""
SELECT greatest(sum(pg_relation_size(oid)), sum(pg_relation_size(nullif(reltoastrelid, 0))))
{_EACH} JOIN pg_class ON pg_class.oid = leaf.relid WHERE isleaf
"""
_WAL: Final = "SELECT pg_current_wal_insert_lsn() - '0/0'"
_TOAST: Final = f"""
SELECT reltoastrelid::regclass {_EACH} JOIN pg_class ON pg_class.oid = leaf.relid
WHERE isleaf AND pg_relation_size(reltoastrelid) > 0
"""


@dataclass(slots=True, frozen=True)
class Cost:
    """One turn of one worker with events of one size; bytes are those of all events."""

    size: Size
    turn: int
    drained: Drained
    filling_cpu: float
    """CPU seconds of Redis for what the producers ask of it."""
    json_bytes: int
    packed_bytes: int
    """Data of the frames: what goes to Redis and from there to the worker."""
    redis_bytes: int
    disk_bytes: int
    """Tables and indexes."""
    table_bytes: int
    """The rows or the values beside them, whichever are larger: PostgreSQL's largest table."""
    wal_bytes: int
    spool_bytes: int
    toasted: int
    """Values that did not fit into their row."""


def costs(servers: Servers, turns: int, share: int) -> Iterator[Cost]:
    """Measure each size, turn by turn; 1 of `share` events."""
    for turn in range(1, turns + 1):
        for size in (*FITTED, *CHECKED):
            cost = _turn(servers, size, turn, _EVENTS[size] // share)
            say(f"{key_of(size)}: {cost.drained.rate:,.0f}/s")
            yield cost


def _turn(servers: Servers, size: Size, turn: int, events: int) -> Cost:
    servers.clean()
    made = _lines(size, events)
    entries = list(pack(made))
    empty_disk, empty_table = _number(servers, _DISK), _number(servers, _LARGEST)
    with servers.valkey.client(timeout=60) as client:
        before = used_memory(client)
        filling = cpu_seconds(servers.valkey.pid)
        fill(client, entries)
        filling = cpu_seconds(servers.valkey.pid) - filling
        redis_bytes = used_memory(client) - before
        wal = _number(servers, _WAL)
        drained = drain(servers, client, events)
        wal = _number(servers, _WAL) - wal
    rows = servers.postgres_rows().rows
    assert rows == events, f"{rows} rows of {events} events"
    raw = sum(map(len, made))
    return Cost(
        size=size,
        turn=turn,
        drained=drained,
        json_bytes=raw,
        filling_cpu=filling,
        packed_bytes=sum(map(packed_size, entries)),
        redis_bytes=redis_bytes,
        disk_bytes=_number(servers, _DISK) - empty_disk,
        table_bytes=_number(servers, _LARGEST) - empty_table,
        wal_bytes=wal,
        spool_bytes=raw + events * _RECORD_BYTES,
        toasted=_toasted(servers),
    )


def _lines(size: Size, events: int) -> list[bytes]:
    if size == "mixed":  # errors name their requests: these ids stay; the tables are new each time
        return _mixed().lines(events)
    return [line for some in lines(size, events) for line in some]


@cache
def _mixed() -> Workload:
    return Workload("mixed")


def _number(servers: Servers, query: str) -> int:
    return int(servers.postgres.sql(query, "bench"))


def _toasted(servers: Servers) -> int:
    """Count the values in the tables beside the partitions; each of them needs a number of 32 bits."""
    tables = servers.postgres.sql(_TOAST, "bench").split()
    return sum(
        _number(servers, f"SELECT count(*) FROM {table} WHERE chunk_seq = 0") for table in tables
    )
