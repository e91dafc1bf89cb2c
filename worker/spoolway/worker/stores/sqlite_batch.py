"""One batch into SQLite, as a plain function: it runs in the connection's thread from BEGIN to COMMIT.

One call, not one per statement: between two calls the thread would wait until the event loop has
decoded the batch that comes next.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import chain
from typing import Final, TypeVar

from spoolway.schema import ErrorEvent, RequestEvent, lower_bound, new_id
from spoolway.worker.rollup.facts import facts_of
from spoolway.worker.stores.base import Conflict, Item, Written
from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.errors import Refused
from spoolway.worker.stores.rows import ENRICHED, ERRORS, REQUESTS, Row, Rows

T = TypeVar("T")

_AT_ONCE: Final = 250
"""Rows of one statement. A thread gives Python's lock back while SQLite works, and has to wait for
it after each statement: of 1,000 statements a batch the event loop's work was added to SQLite's
instead of being done beside it."""
_FEW: Final = 10
"""Rows of one statement of those that are left: each length is a statement to be prepared."""
_MOST_BYTES: Final = 4 << 20
"""Bytes of events that one statement is to take: Python's module keeps what was bound to it until
it is used again."""
_LEFT_OVER: Final = timedelta(days=2)
"""Age of the requests that are looked for once more: longer than anything waits for its commit."""
STATEMENTS: Final = 16
"""Most statements that a connection keeps: each set of columns has its own."""


@lru_cache(STATEMENTS)
def _insert(table: str, columns: Sequence[str], count: int) -> str:
    """DO NOTHING on the id alone: OR IGNORE would also swallow a row that breaks a CHECK.

    And whatever is said after OR is done in triggers, too, whatever their own statements say.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    row = f"({', '.join('?' * len(columns))})"
    return (
        f"INSERT INTO {table} ({names}) "  # noqa: S608 - our own names
        f"VALUES {', '.join([row] * count)} ON CONFLICT (id) DO NOTHING"
    )


@cache
def _present(rows: Rows) -> str:
    columns = ", ".join(f'"{name}"' for name in rows.columns)
    is_filled_in = f"{ENRICHED} IS NOT NULL" if rows is REQUESTS else "0"
    return (
        f"SELECT {is_filled_in}, {columns} FROM {rows.table} "  # noqa: S608 - our own names
        "WHERE id IN (SELECT value FROM json_each(?))"
    )


_ADD_FACTS: Final = "INSERT INTO usage_pending (id, kind, facts) VALUES (?, ?, ?)"
_ANY_UNLINKED: Final = """
SELECT EXISTS (SELECT 1 FROM error_logs INDEXED BY ix_error_logs_unlinked
               WHERE request_log_id IS NULL AND request_id IS NOT NULL)
"""
# Both directions at once: errors of this batch to requests that are there, and earlier errors to
# requests of this batch. Left alone, the planner walks through every error that has no link.
_LINK_ERRORS: Final = """
UPDATE error_logs INDEXED BY ix_error_logs_unlinked SET request_log_id = request_id
WHERE request_log_id IS NULL AND request_id IN (SELECT value FROM json_each(?))
AND EXISTS (SELECT 1 FROM request_logs WHERE request_logs.id = error_logs.request_id)
"""
# Of late requests alone: errors that are kept longer than their requests stay without for good.
_LINK_LEFTOVERS: Final = """
UPDATE error_logs INDEXED BY ix_error_logs_unlinked SET request_log_id = request_id
WHERE request_log_id IS NULL AND request_id >= ?
AND EXISTS (SELECT 1 FROM request_logs WHERE request_logs.id = error_logs.request_id)
"""


class Abandoned(Exception):
    """Nobody waits for this transaction any more: what it wrote must not be committed."""


def in_transaction(
    connection: sqlite3.Connection,
    step: Callable[[sqlite3.Connection], T],
    is_abandoned: Callable[[], bool],
) -> T:
    """Run the step between BEGIN and COMMIT; whatever it raises, nothing of it stays."""
    # IMMEDIATE: a reader that turned writer would get SQLITE_BUSY without waiting.
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = step(connection)
        commit(connection, is_abandoned())
    except BaseException:
        # What cannot be rolled back is closed by the caller.
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()
        raise
    return result


def commit(connection: sqlite3.Connection, is_abandoned: bool) -> None:
    """Make it last; return only when it is on the disk. Raises Abandoned."""
    # An interrupt between two statements stops neither of them.
    if is_abandoned:
        raise Abandoned
    connection.execute("COMMIT")


class SqliteBatch:
    """Items as rows of SQLite's types, made beforehand: beside the transaction of another batch."""

    def __init__(self, requests: Sequence[Item], errors: Sequence[Item]) -> None:
        self._parts = [
            _Part(rows, items) for rows, items in ((REQUESTS, requests), (ERRORS, errors)) if items
        ]

    def write(self, connection: sqlite3.Connection) -> Written:
        """Insert and link what is there; see `Store.write`."""
        written = Written()
        for part in self._parts:
            part.write(connection, written)
            part.add_facts(connection)
        # Errors that wait for their request are few: mostly there is none, and nothing to look up.
        if connection.execute(_ANY_UNLINKED).fetchone()[0]:
            ids = chain.from_iterable(part.referred() for part in self._parts)
            connection.execute(_LINK_ERRORS, [_json_array(ids)])
        return written


class _Part:
    """The rows for one table."""

    def __init__(self, rows: Rows, items: Sequence[Item]) -> None:
        self._rows = rows
        self._items = items
        self._records = [rows.text_row(item.event) for item in items]
        self._bytes_per_row = sum(len(item.text) for item in items) // len(items)
        # Columns that no row has are left out: half of them, and Python's module asks for an
        # adapter for each None that it is to bind, which takes longer than to bind a text.
        there = [
            (name, column)
            for name, column in zip(rows.columns, zip(*self._records, strict=True), strict=True)
            if column.count(None) < len(items)
        ]
        if any(item.enriched for item in items):
            there.append((ENRICHED, tuple(item.enriched.decode() or None for item in items)))
        self._columns = tuple(name for name, _ in there)
        self._values: list[Row] = list(zip(*(column for _, column in there), strict=True))
        self._facts = self._facts_of(items)

    def write(self, connection: sqlite3.Connection, written: Written) -> None:
        """Insert what is new, and count it, duplicates and conflicts."""
        last = connection.execute(f"SELECT max(rowid) FROM {self._rows.table}").fetchone()[0]  # noqa: S608 - our own names
        inserted = self._insert(connection)
        written.inserted += inserted
        if inserted < len(self._records):
            self._facts = self._facts_of(self._added_since(connection, last or 0))
            differing = self._differing(connection)
            written.conflicts += differing
            written.duplicates += len(self._records) - inserted - len(differing)

    def add_facts(self, connection: sqlite3.Connection) -> None:
        """Add what was inserted to the roll-ups; see `spoolway.schema.usage`."""
        for kind, facts in self._facts:
            connection.execute(_ADD_FACTS, (str(new_id()), kind, facts))

    def _facts_of(self, items: Iterable[Item]) -> list[tuple[str, str]]:
        events = [item.event for item in items]
        requests = [event for event in events if isinstance(event, RequestEvent)]
        errors = [event for event in events if isinstance(event, ErrorEvent)]
        return list(facts_of(requests, errors))

    def _added_since(self, connection: sqlite3.Connection, last: int) -> Iterator[Item]:
        """Yield the items whose row this transaction has inserted: the first of each id."""
        newer = f"SELECT id FROM {self._rows.table} WHERE rowid > ?"  # noqa: S608 - our own names
        added = {row[0] for row in connection.execute(newer, (last,))}
        for record, item in zip(self._records, self._items, strict=True):
            if record[0] in added:
                added.remove(record[0])
                yield item

    def referred(self) -> Iterator[str]:
        """Yield the ids of requests that errors may be linked to by this batch."""
        if self._rows is REQUESTS:
            yield from (record[0] for record in self._records)
            return
        for item in self._items:
            if isinstance(item.event, ErrorEvent) and item.event.request_id is not None:
                yield str(item.event.request_id)

    def _insert(self, connection: sqlite3.Connection) -> int:
        variables = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        most = min(variables // len(self._columns), _MOST_BYTES // self._bytes_per_row)
        inserted = start = 0
        for size in (_AT_ONCE, _FEW):
            while size <= most and start + size <= len(self._values):
                values = list(chain.from_iterable(self._values[start : start + size]))
                try:
                    inserted += connection.execute(self._statement(size), values).rowcount
                except sqlite3.IntegrityError:
                    if connection.in_transaction:  # a trigger may have ended it
                        self._one_by_one(connection, start, size)
                    raise
                start += size
        if start < len(self._values):
            inserted += self._one_by_one(connection, start, len(self._values))
        return inserted

    def _one_by_one(self, connection: sqlite3.Connection, start: int, most: int) -> int:
        """Insert so many rows; a refusal names the row."""
        taken = _Taken(self._values[start : start + most])
        try:
            return connection.executemany(self._statement(1), taken).rowcount
        except sqlite3.Error as error:
            refusal = classify(error)
            if isinstance(refusal, Refused):
                refusal.row = start + taken.count - 1
            raise refusal from error

    def _statement(self, count: int) -> str:
        return _insert(self._rows.table, self._columns, count)

    def _differing(self, connection: sqlite3.Connection) -> list[Conflict]:
        ids = _json_array(record[0] for record in self._records)
        found = connection.execute(_present(self._rows), [ids]).fetchall()
        there: dict[str, Row] = {row[1]: row for row in found}
        return [
            Conflict(item)
            for item, record in zip(self._items, self._records, strict=True)
            if not self._rows.same(
                there[record[0]][1:],
                record,
                is_filled_in=bool(there[record[0]][0] or item.enriched),
            )
        ]


class _Taken:
    """Hands out rows, and knows how many it handed out: the last one is where it failed."""

    def __init__(self, records: Iterable[Row]) -> None:
        self.count = 0
        self._records = iter(records)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        record = next(self._records)
        self.count += 1
        return record


def link_leftovers(connection: sqlite3.Connection) -> int:
    """Link every error whose request is there, and of these days; return how many were."""
    since = lower_bound(datetime.now(UTC) - _LEFT_OVER)
    return connection.execute(_LINK_LEFTOVERS, [str(since)]).rowcount


def _json_array(ids: Iterable[str]) -> str:
    return f"[{','.join(f'{chr(34)}{one}{chr(34)}' for one in ids)}]"
