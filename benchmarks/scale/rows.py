"""What rows that are in the table already cost: the rate of inserting beside that into an empty one.

In each turn a worker drains the same number of events into an empty database and into the full one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from benchmarks.drained import fill
from benchmarks.rounds import say
from benchmarks.scale.drain import Drained, drain
from benchmarks.scale.prefill import DAYS, Full, midnight
from benchmarks.scale.stock import frames
from benchmarks.servers import Servers
from spoolway.schema import lower_bound
from spoolway.worker.stores.partitions import utc_today

KILOBYTES: Final = 1
EVENTS: Final = 100_000

Where = Literal["today", "the 30 days before"]
"""The rows are in the partition that is written, or in others: years of a small proxy."""


@dataclass(slots=True, frozen=True)
class ByRows:
    """One turn with this many rows in the tables."""

    rows: int
    where: Where
    turn: int
    empty: Drained
    full: Drained

    @property
    def ratio(self) -> float:
        """Rate with the rows ÷ rate without."""
        return self.full.rate / self.empty.rate


def by_rows(servers: Servers, sizes: Sequence[int], turns: int, share: int) -> Iterator[ByRows]:
    """Let today's partition grow from the least to the most; then have the most in earlier ones."""
    full = Full(servers, KILOBYTES)
    today = utc_today()
    began = midnight(today)
    for rows in sorted(sizes):
        say(f"{rows:,} rows of today")
        full.grow(rows, began, (until := datetime.now(UTC)))
        began = until
        for turn in range(1, turns + 1):
            yield _turn(servers, full, rows, "today", turn, events=EVENTS // share)
    if max(sizes):
        full.clear()
        say(f"{max(sizes):,} rows of the {DAYS} days before")
        full.grow(max(sizes), midnight(today - timedelta(days=DAYS)), midnight(today))
        for turn in range(1, turns + 1):
            yield _turn(
                servers, full, max(sizes), "the 30 days before", turn, events=EVENTS // share
            )


def _turn(
    servers: Servers, full: Full, rows: int, where: Where, turn: int, *, events: int
) -> ByRows:
    """Drain into both; whoever was second is the first in the next turn."""
    found: dict[str, Drained] = {}
    for url in [servers.postgres_url, full.url][:: 1 if turn % 2 else -1]:
        servers.clean()
        since = lower_bound(datetime.now(UTC))
        with servers.valkey.client(timeout=60) as client:
            fill(client, frames(KILOBYTES, events))
            found[url] = drain(servers, client, events, database_url=url)
        if url == full.url:
            new = int(full.sql(f"SELECT count(*) FROM request_logs WHERE id >= '{since}'"))
            full.rows += new
        else:
            new = servers.postgres_rows().rows
        assert new == events, f"{new} rows of {events} events"
    result = ByRows(rows, where, turn, found[servers.postgres_url], found[full.url])
    say(
        f"{rows:,} rows of {where}: {result.full.rate:,.0f}/s, {result.ratio:.3f} of an empty table"
    )
    return result
