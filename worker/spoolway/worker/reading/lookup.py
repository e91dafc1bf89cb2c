"""Finding one event by what somebody has of it: its id, the beginning of that, or a request_id."""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Table, select

from spoolway.schema.tables import error_logs, request_logs
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.logs import LogQuery, Logs
from spoolway.worker.reading.rows import RowReader, selected

MOST: Final = 10
"""Matches that are told apart."""
SHORT: Final = 18
"""Characters of an id that are shown where there is no room for 36: its time to the quarter of a
microsecond, as far as whoever minted it had that."""
_ID_DIGITS: Final = 32
_LEAST: Final = 8
"""Digits of a beginning: fewer are hours of ids."""
_BEGINNING: Final = re.compile(rf"[0-9a-f]{{{_LEAST},{_ID_DIGITS}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Match:
    """An event that was meant, perhaps."""

    kind: Literal["request", "error"]
    id: UUID


async def look_up(database: ReadDatabase, text: str) -> list[Match]:
    """Return the events that `text` is the id of, or its beginning; else the `request_id`.

    The newest first, and at most `MOST`. A request_id has no index: looking for one that is not
    there takes a while. Raises as `ReadDatabase.fetch`.
    """
    if not text:
        return []  # as a filter it would be every request without one
    digits = text.lower().replace("-", "")
    if _BEGINNING.fullmatch(digits):
        first, last = (int(digits.ljust(_ID_DIGITS, end), 16) for end in "0f")
        if found := await _between(database, request_logs, first, last):
            return [Match("request", one) for one in found]
        if found := await _between(database, error_logs, first, last):
            return [Match("error", one) for one in found]
    query = LogQuery(request_id=(text,))
    logs, after = Logs(database), None
    while True:
        page = await logs.page(query, after=after, limit=MOST)
        if page.data or page.next is None:
            return [Match("request", UUID(row["id"])) for row in page.data]
        after = page.next


async def one_error(
    database: ReadDatabase, error_id: UUID, *, fragments: bool = False
) -> dict[str, Any] | None:
    """Return an error event with all its columns, as `Logs` does; raises as `ReadDatabase.fetch`."""
    columns = list(error_logs.c)
    row = await database.first(select(*selected(columns)).where(error_logs.c.id == error_id))
    return None if row is None else RowReader(columns, fragments=fragments).read(row)


async def _between(database: ReadDatabase, table: Table, first: int, last: int) -> list[UUID]:
    ids = UUID(int=first), UUID(int=last)
    statement = (
        select(table.c.id)
        .where(table.c.id >= ids[0], table.c.id <= ids[1])
        .order_by(table.c.id.desc())
        .limit(MOST)
    )
    return [row.id for row in await database.fetch(statement)]
