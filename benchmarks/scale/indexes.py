"""What each index of `request_logs` costs a write: COPY with all of them, and without one at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.contestants.copy import Copy
from benchmarks.rounds import say
from benchmarks.servers import Servers
from benchmarks.workload import Workload

KILOBYTES: Final = 1
"""Small events: of large ones the indexes are a small part."""
EVENTS: Final = 100_000
ALL: Final = ""
"""The name of a turn with every index."""
_DEFINITIONS: Final = """
SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes
WHERE tablename = 'request_logs' AND indexname NOT LIKE 'pk%' ORDER BY indexname
"""
_SIZE: Final = """
SELECT coalesce(sum(pg_relation_size(part.inhrelid)), 0) FROM pg_inherits part
WHERE part.inhparent = '{}'::regclass
"""


@dataclass(slots=True, frozen=True)
class WithoutIndex:
    """One turn without an index."""

    index: str
    turn: int
    events: int
    seconds: float
    database_seconds: float
    """CPU."""
    size: int = 0
    """Bytes that the index had in the turn with all, before this one."""


def without_indexes(servers: Servers, turns: int, share: int) -> Iterator[WithoutIndex]:
    """Measure with all indexes, and without each; 1 of `share` events."""
    load = Workload(KILOBYTES)
    events = EVENTS // share
    definitions = dict(
        line.split("|", 1) for line in servers.postgres.sql(_DEFINITIONS, "bench").splitlines()
    )
    for turn in range(1, turns + 1):
        yield _turn(servers, load, events, ALL, turn)
        sizes = {
            index: int(servers.postgres.sql(_SIZE.format(index), "bench")) for index in definitions
        }
        for index, definition in definitions.items():
            servers.postgres.sql(f"DROP INDEX {index}", "bench")
            try:
                yield replace(_turn(servers, load, events, index, turn), size=sizes[index])
            finally:
                servers.clean()  # so that it is made of an empty table
                servers.postgres.sql(definition, "bench")


def _turn(servers: Servers, load: Workload, events: int, without: str, turn: int) -> WithoutIndex:
    servers.clean()
    measured = Copy("copy", 1).measure(servers, load, events)
    rows = servers.postgres_rows().rows
    assert rows == events, f"{rows} rows of {events} events"
    say(f"without {without or 'none'}: {events / measured.seconds:,.0f}/s")
    return WithoutIndex(without, turn, events, measured.seconds, measured.cpu["database"])
