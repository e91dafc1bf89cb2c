"""A value that costs a question: asked when somebody looks and the last answer is old.

A look never waits long, and never asks twice at once: what is asked goes on, and the next look has
its answer. What could not be asked is no value, not the last one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

log = logging.getLogger("spoolway.http")

T = TypeVar("T")


class Sample(Generic[T]):
    """One question to Redis, the database or the disk, at most every so many seconds."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[T]], *, every: float) -> None:
        self.name = name
        self.value: T | None = None
        self.error: Exception | None = None
        """Why there is no value, if that is known."""
        self._ask = ask
        self._every = every
        self._clock = asyncio.get_running_loop().time
        self._due = 0.0
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def look(self, patience: float) -> None:
        """Ask if it is time to, and wait up to `patience` seconds for the answer."""
        if self._asking is None:
            if self._clock() < self._due:
                return
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._ask_once(), name=f"spoolway-ask-{self.name}")
        _, waiting = await asyncio.wait([self._asking], timeout=patience)
        if waiting and self._clock() - self._asked_at > self._every:
            self.value = None  # it hangs: what was true once is not the answer
            self.error = TimeoutError("it does not answer")

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    async def _ask_once(self) -> None:
        try:
            self.value, self.error = await self._ask(), None
        except Exception as error:  # noqa: BLE001 - whatever fails, it is no value
            self.value, self.error = None, error
            log.debug("%s cannot be asked: %s: %s", self.name, type(error).__name__, error)
        finally:
            self._due = self._clock() + self._every
            self._asking = None
