"""Databases for store tests, the events that go in, and what comes out again."""

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import orjson
from sqlalchemy import select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from spoolway import migrations
from spoolway.schema import decode_line, new_id, time_of
from spoolway.schema.columns import COLUMNS
from spoolway.schema.tables import error_logs, request_logs
from spoolway.worker.stores import Item, PostgresStore, SqliteStore, Store, Written
from tests.servers import PostgresServer

MS_PER_DAY = 86_400_000
TABLES = {table.name: table for table in (request_logs, error_logs)}


# --- What goes in -----------------------------------------------------------------


def id_at(moment: datetime) -> UUID:
    """Mint an id as it would have been minted at that time."""
    ns = round(moment.timestamp() * 1000) * 1_000_000
    return new_id(now_ns=lambda: ns)


def item_of(line: bytes) -> Item:
    """Return the item that the worker makes of a JSON line."""
    event = decode_line(line)
    return Item(event, line, (event.id.int >> 80) // MS_PER_DAY)


def request(event_id: UUID | None = None, /, **fields: object) -> Item:
    """Return a request as it comes out of the stream."""
    known = {"type": "request", "id": event_id or new_id()}
    return item_of(orjson.dumps({**known, "outcome": "success", **fields}))


def error(of: Item | UUID | None = None, /, **fields: object) -> Item:
    """Return an error as it comes out of the stream; `of` is the request it belongs to."""
    known = {
        "type": "error",
        "id": new_id(),
        "request_id": of.event.id if isinstance(of, Item) else of,
    }
    return item_of(orjson.dumps({**known, "error_type": "Timeout", **fields}))


def requests(count: int, **fields: object) -> list[Item]:
    """Return so many requests with ids of their own."""
    return [request(**fields) for _ in range(count)]


def counts(written: Written) -> tuple[int, int, int]:
    """Return how many were inserted, duplicates and conflicts."""
    return written.inserted, written.duplicates, len(written.conflicts)


# --- Where it goes ----------------------------------------------------------------


@dataclass(frozen=True)
class Database:
    """A migrated database of a test's own."""

    url: URL
    server: PostgresServer | None = None

    @property
    def is_sqlite(self) -> bool:
        """SQLite, or else PostgreSQL."""
        return self.server is None

    @property
    def path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.url.database or "")

    @property
    def dsn(self) -> str:
        """The URL as asyncpg takes it."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def store(self, *, write_timeout: float = 30.0, pool_size: int = 5) -> Store:
        """Return a store for it, to be closed by the caller (see `opened`)."""
        if self.is_sqlite:
            return SqliteStore(self.url, write_timeout=write_timeout)
        return PostgresStore(self.url, pool_size=pool_size, write_timeout=write_timeout)

    @asynccontextmanager
    async def opened(
        self, *, write_timeout: float = 30.0, pool_size: int = 5
    ) -> AsyncIterator[Store]:
        """Open a store for the length of a block."""
        store = self.store(write_timeout=write_timeout, pool_size=pool_size)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[AsyncEngine]:
        """Open an engine that reads JSON with every digit, and commits each statement."""
        engine = create_async_engine(
            self.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            json_deserializer=exact_json,
        )
        try:
            yield engine
        finally:
            await engine.dispose()

    async def rows(self, table: str = "request_logs") -> list[dict[str, Any]]:
        """Read a table through the declared columns, in the ids' order."""
        async with self.engine() as engine, engine.connect() as connection:
            declared = TABLES[table]
            found = await connection.execute(select(declared).order_by(declared.c.id))
            return [dict(row) for row in found.mappings()]

    async def row(self, item: Item) -> dict[str, Any]:
        """Read the one row of an item."""
        table = TABLES[_table_of(item)]
        async with self.engine() as engine, engine.connect() as connection:
            found = await connection.execute(select(table).where(table.c.id == item.event.id))
            return dict(found.mappings().one())

    async def events(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Read the rows of these items, in their order, without what the database adds."""
        found: dict[UUID, dict[str, Any]] = {}
        async with self.engine() as engine, engine.connect() as connection:
            for table in TABLES.values():
                asked = select(table).where(table.c.id.in_([item.event.id for item in items]))
                for row in (await connection.execute(asked)).mappings():
                    found[row["id"]] = without_own(dict(row))
        return [found[item.event.id] for item in items]

    async def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run SQL of the database's own dialect; return the rows of the last statement."""
        rows: list[tuple[Any, ...]] = []
        async with self.engine() as engine, engine.connect() as connection:
            for statement in statements:
                result = await connection.exec_driver_sql(statement)
                rows = [tuple(row) for row in result] if result.returns_rows else []
        return rows

    async def ids(self, table: str = "request_logs") -> list[UUID]:
        """Read the ids of a table, in their order."""
        return [UUID(str(row[0])) for row in await self.sql(f"SELECT id FROM {table} ORDER BY id")]

    async def count(self, table: str = "request_logs") -> int:
        """Count the rows of a table."""
        return int((await self.sql(f"SELECT count(*) FROM {table}"))[0][0])

    async def backends(self) -> int:
        """Count the stores' connections to a PostgreSQL database, as the server sees them."""
        [(found,)] = await self.sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'spoolway'"
        )
        return int(found)

    async def partitions(self, table: str = "request_logs") -> list[str]:
        """Name the partitions of a table."""
        found = await self.sql(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            f" WHERE inhparent = '{table}'::regclass ORDER BY 1"
        )
        return [row[0] for row in found]


def without_own(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without what the database adds to the event."""
    return {k: v for k, v in row.items() if k not in ("created_at", "request_log_id", "enriched")}


def _table_of(item: Item) -> str:
    return "error_logs" if type(item.event).__name__ == "ErrorEvent" else "request_logs"


def exact_json(text: str) -> Any:
    """Parse JSON without rounding a number, and without taking true for 1."""

    def number(digits: str) -> tuple[str, Decimal]:
        return "number", Decimal(digits)

    return json.loads(text, parse_int=number, parse_float=number)


def as_stored(item: Item) -> dict[str, Any]:
    """What the columns of an item's row must hold, read from the line as it was sent."""
    sent = dict.fromkeys(item.event.__struct_fields__)
    raw = msgspec.json.decode(item.line, type=dict[str, msgspec.Raw])
    kinds = COLUMNS[orjson.loads(bytes(raw["type"]))]
    for name, value in raw.items():
        if kinds.get(name) == "json":
            sent[name] = exact_json(bytes(value).decode())
        elif name != "type":
            sent[name] = getattr(item.event, name)
    time_column = "request_time" if "request_time" in sent else "timestamp"
    sent[time_column] = sent[time_column] or time_of(item.event.id)
    return sent


class Templates:
    """Migrated databases that tests get copies of: migrating takes longer than most tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[object, str] = {}

    @contextmanager
    def sqlite(self, folder: Path) -> Iterator[Database]:
        """Copy the template into a folder, for one test."""
        if "sqlite" not in self._made:
            template = self._folder / "template.db"
            asyncio.run(migrations.upgrade(_sqlite_url(template)))
            self._made["sqlite"] = str(template)
        path = folder / f"{uuid.uuid4().hex[:8]}.db"
        shutil.copy(self._made["sqlite"], path)
        yield Database(_sqlite_url(path))

    @contextmanager
    def postgres(self, server: PostgresServer) -> Iterator[Database]:
        """Copy the server's template, for one test."""
        if server not in self._made:
            name = f"template_{uuid.uuid4().hex[:8]}"
            asyncio.run(migrations.upgrade(_postgres_url(server.create_database(name))))
            self._made[server] = name
        name = f"s_{uuid.uuid4().hex}"
        url = _postgres_url(server.create_database(name, template=self._made[server]))
        yield Database(url, server)
        if not server.running:
            server.start()
        server.drop_database(name)


def _sqlite_url(path: Path) -> URL:
    return make_url(f"sqlite+aiosqlite:///{path}")


def _postgres_url(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+asyncpg")


# --- What is in the way -----------------------------------------------------------


class Counting:
    """A store that counts what is asked of it, and fails after so many attempts if told to."""

    def __init__(self, store: Store, *, fails_after: int | None = None) -> None:
        self._store = store
        self._fails_after = fails_after
        self.attempts = 0
        self.sent = 0

    async def write(self, items: Sequence[Item]) -> Written:
        """Count one attempt and its items, and write."""
        if self.attempts == self._fails_after:
            raise ConnectionError("as told")
        self.attempts += 1
        self.sent += len(items)
        return await self._store.write(items)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def refuse(logs: Database, model_name: str = "poison") -> None:
    """Let the database refuse every request and error of one model."""
    for table in ("request_logs", "error_logs"):
        if logs.is_sqlite:
            await logs.sql(
                f"CREATE TRIGGER no_{model_name}_{table} BEFORE INSERT ON {table}"
                f" WHEN NEW.model_name = '{model_name}'"
                f" BEGIN SELECT RAISE(ABORT, 'no {model_name} here'); END"
            )
        else:
            await logs.sql(
                f"ALTER TABLE {table} ADD CONSTRAINT no_{model_name}"
                f" CHECK (model_name <> '{model_name}')"
            )


async def delay(logs: Database, model_name: str = "slow") -> None:
    """Let the database take half a minute for each request of one model."""
    if logs.is_sqlite:
        await logs.sql(
            f"CREATE TRIGGER {model_name} BEFORE INSERT ON request_logs"
            f" WHEN NEW.model_name = '{model_name}' BEGIN SELECT count(*) FROM"
            " (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000000000)"
            " SELECT x FROM n); END"
        )
    else:
        await logs.sql(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'",
            f"CREATE TRIGGER {model_name} BEFORE INSERT ON request_logs FOR EACH ROW"
            f" WHEN (NEW.model_name = '{model_name}') EXECUTE FUNCTION wait()",
        )


@asynccontextmanager
async def postgres_transaction(database: Database, *statements: str) -> AsyncIterator[Any]:
    """Hold a transaction open that has run these statements, for the length of a block."""
    connection: Any = await asyncpg.connect(database.dsn)
    try:
        await connection.execute("BEGIN")
        for statement in statements:
            await connection.execute(statement)
        yield connection
        await connection.execute("ROLLBACK")
    finally:
        await connection.close()


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Fail if the block takes longer."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    yield
    assert loop.time() - start < seconds
