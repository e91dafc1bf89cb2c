"""`spoolway serve` for tests: in the test's own loop, over a real socket, with a client."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from spoolway.worker.config import Settings
from spoolway.worker.serve.listener import listen_for, shown_url
from spoolway.worker.serve.server import ApiServer
from tests.stores import Database

NOWHERE: Final = "redis://127.0.0.1:1/0"
ALL: Final = "everything-00000001"
"""A token that sees everything."""


def settings_for(database: Database | str, folder: Path, **further: Any) -> Settings:
    """Return settings of a server on a free port."""
    url = (
        database
        if isinstance(database, str)
        else database.url.render_as_string(hide_password=False)
    )
    return Settings(
        **{
            "database_url": url,
            "dir": folder,
            "api_port": 0,
            "redis_url": NOWHERE,
            **further,
        }
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Serve for the length of a block; yields a client, which sends no token by itself."""
    listener = listen_for(settings)
    task = asyncio.create_task(ApiServer(settings, listener).run())
    try:
        async with httpx.AsyncClient(
            base_url=shown_url(listener), trust_env=False, timeout=30
        ) as client:
            yield client
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


@contextmanager
def serving_in_thread(settings: Settings) -> Iterator[str]:
    """The same in a thread, for clients that block; yields the URL."""
    listener = listen_for(settings)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    tasks: list[asyncio.Task[None]] = []

    async def run() -> None:
        server = ApiServer(settings, listener)
        tasks.append(asyncio.create_task(server.run()))
        ready.set()
        await asyncio.wait(tasks)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="served-api")
    thread.start()
    assert ready.wait(20)
    try:
        yield shown_url(listener)
    finally:
        loop.call_soon_threadsafe(tasks[0].cancel)
        thread.join(20)
        loop.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it, looking again and again."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Return an error's status, code and message; it has the shape that every error has."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"code", "message"}
    return answer.status_code, body["error"]["code"], body["error"]["message"]
