"""How a command asks the database what is in it, and what it says when there is no answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import typer

from spoolway.worker.cli.run import loop_factory
from spoolway.worker.config import Settings, UsageError, load
from spoolway.worker.logs import complain
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.failures import BadQuery, TooSlow, Unavailable

T = TypeVar("T")


def reading_settings(**given: Any) -> Settings:
    """Return the settings. Whoever names a database by the flag means to read that one."""
    return load(read_database_url=given.get("database_url"), **given)


@contextmanager
def said_in_one_line() -> Iterator[None]:
    """Say why there is no answer: exit code 1; why the question is none: UsageError."""
    try:
        yield
    except BadQuery as error:
        raise UsageError(str(error)) from None
    except (Unavailable, TooSlow) as error:
        complain(why(error))
        raise typer.Exit(1) from None


def why(error: Unavailable | TooSlow) -> str:
    """Return what is wrong for the operator, who may know where the database is."""
    return error.reason if isinstance(error, Unavailable) else str(error)


def ask(settings: Settings, question: Callable[[ReadDatabase], Coroutine[Any, Any, T]]) -> T:
    """Ask once, and return the answer; otherwise see `said_in_one_line`. Ctrl-C takes it back."""

    async def asked() -> T:
        async with opened(settings) as database:
            return await question(database)

    with said_in_one_line(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(asked())


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[ReadDatabase]:
    """Yield the database; it is closed afterwards."""
    database = ReadDatabase.open(settings)
    try:
        yield database
    finally:
        await database.close()
