"""Everything that matches, as it is read: NDJSON or CSV, in memory that does not grow with it.

Whoever reads it can tell whole from broken: NDJSON then ends with a line {"error": …}; of CSV, which
has no room for that, the connection is cut in the middle of a chunked body, which every client sees.
"""

import asyncio
import csv
import io
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from spoolway.worker.serve.answers import encoded
from spoolway.worker.serve.endpoint import CSV, NDJSON
from spoolway.worker.serve.failures import api_error
from spoolway.worker.serve.limits import Slots

log = logging.getLogger("spoolway.serve")

_AT_ONCE: Final = 64 << 10
"""Bytes that are sent together."""
LONGEST_SECONDS: Final = 3600.0
"""How long an export may take, however slowly its client reads: it has one of a few places."""
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A cell that begins so is a formula to a spreadsheet, and its text came from a client. The last four
are the first four in full width, which some take for them."""


class Export:
    """An answer that streams rows."""

    def __init__(
        self,
        rows: AsyncIterator[Mapping[str, Any]],
        slots: Slots,
        *,
        kind: str,
        name: str,
        columns: Sequence[str],
    ) -> None:
        """`kind` is `ndjson` or `csv`; `name` that of the file; `columns` those of a CSV."""
        self._rows = rows
        self._slots = slots
        self._is_csv = kind == "csv"
        self._headers = {
            "content-type": CSV if self._is_csv else NDJSON,
            "content-disposition": f'attachment; filename="{name}.{kind}"',
            "cache-control": "no-store",
        }
        self._columns = columns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until the end, a failure, or the client hangs up."""
        if scope["method"] == "HEAD":
            await self._start(send)
            await send({"type": "http.response.body", "body": b""})
            return
        with self._slots.export():
            sending = asyncio.ensure_future(self._send(send))
            leaving = asyncio.ensure_future(gone(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                sending.cancel()
                done = await asyncio.gather(sending, leaving, return_exceptions=True)
            if isinstance(done[0], Exception):
                raise done[0]

    async def _send(self, send: Send) -> None:
        pieces = (_csv if self._is_csv else _ndjson)(self._rows, self._columns)
        started = False
        async with aclosing(pieces):
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    async for piece in pieces:
                        if not started:
                            started = True
                            await self._start(send)
                        await send(_body(piece))
            except Exception as error:
                # While nothing is sent, it is an answer like any other that fails.
                failure = api_error(error)
                if not started or failure is None:
                    raise
                log.warning("an export broke: %s", failure)
                if self._is_csv:
                    raise BrokenOffError from error
                await send(_body(encoded(failure.body) + b"\n"))
        if not started:
            await self._start(send)
        await send(_body(b"", more=False))

    async def _start(self, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


class BrokenOffError(Exception):
    """An answer that was begun cannot be finished: its connection is cut."""


def _body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def gone(receive: Receive) -> None:
    """Wait until the client has hung up, or has all of its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ndjson(
    rows: AsyncIterator[Mapping[str, Any]], _columns: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    waiting = bytearray()
    async with _closing(rows):
        async for row in rows:
            # Stored JSON goes out as it is, and somebody may have put line ends between its parts.
            waiting += encoded(row).translate(_ONE_LINE) + b"\n"
            if len(waiting) >= _AT_ONCE:
                yield bytes(waiting)
                waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _csv(
    rows: AsyncIterator[Mapping[str, Any]], columns: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    waiting = io.StringIO()
    writer = csv.writer(waiting)
    writer.writerow(columns)
    async with _closing(rows):
        async for row in rows:
            writer.writerow([_cell(row.get(column)) for column in columns])
            if waiting.tell() >= _AT_ONCE:
                yield _bytes(waiting.getvalue())
                waiting.seek(0)
                waiting.truncate()
    yield _bytes(waiting.getvalue())


@asynccontextmanager
async def _closing(rows: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Let the database know when nobody goes on reading."""
    try:
        yield
    finally:
        if isinstance(rows, AsyncGenerator):
            await rows.aclose()


def _cell(value: Any) -> str:
    """Return a value as a cell: null is empty, text that would be a formula has a ' before it."""
    if value is None:
        return ""
    if isinstance(value, int | float):  # a minus before a number is no formula
        return encoded(value).decode()
    text = value if isinstance(value, str) else encoded(value).decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def _bytes(text: str) -> bytes:
    return text.encode(errors="backslashreplace")
