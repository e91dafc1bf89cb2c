"""Waiting for a condition, with a deadline: the only way a test may wait."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast, overload

T = TypeVar("T")


def eventually(
    check: Callable[[], T],
    *,
    timeout: float = 10.0,
    every: float = 0.01,
    what: str = "",
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """Call `check` until what it returns is true, and return that.

    `timeout` and `every` are seconds. A failed `assert` in `check`, and the exceptions in
    `ignoring`, mean "not yet"; any other exception ends the wait. Raises AssertionError after the
    deadline, saying what was waited for and what `check` said last. `check` always runs once more
    after the deadline, so that a machine that stood still does not fail a test.
    """
    wait = _Wait(check, timeout, what)
    not_yet: tuple[type[Exception], ...] = (AssertionError, *ignoring)
    while True:
        last_try = wait.is_over()
        try:
            value = check()
        except not_yet as error:
            wait.last = error
        else:
            if value:
                return value
            wait.last = value
        if last_try:
            raise wait.failure() from wait.cause()
        time.sleep(every)


@overload
async def aeventually(
    check: Callable[[], Awaitable[T]],
    *,
    timeout: float = ...,  # noqa: ASYNC109 - as below
    every: float = ...,
    what: str = ...,
    ignoring: tuple[type[Exception], ...] = ...,
) -> T: ...


@overload
async def aeventually(
    check: Callable[[], T],
    *,
    timeout: float = ...,  # noqa: ASYNC109 - as below
    every: float = ...,
    what: str = ...,
    ignoring: tuple[type[Exception], ...] = ...,
) -> T: ...


async def aeventually(
    check: Callable[[], object],
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - a deadline for the condition, not for one call of it
    every: float = 0.01,
    what: str = "",
    ignoring: tuple[type[Exception], ...] = (),
) -> object:
    """Wait as `eventually` does without blocking the loop; `check` may be a coroutine function."""
    wait = _Wait(check, timeout, what)
    not_yet: tuple[type[Exception], ...] = (AssertionError, *ignoring)
    while True:
        last_try = wait.is_over()
        try:
            value = check()
            if inspect.isawaitable(value):
                value = cast("object", await value)
        except not_yet as error:
            wait.last = error
        else:
            if value:
                return value
            wait.last = value
        if last_try:
            raise wait.failure() from wait.cause()
        await asyncio.sleep(every)


class _Wait:
    """The deadline of one wait, and what to say when it passes."""

    def __init__(self, check: Callable[[], object], timeout: float, what: str) -> None:
        self.last: object = None
        self._what = what or _source_of(check)
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def cause(self) -> Exception | None:
        return self.last if isinstance(self.last, Exception) else None

    def failure(self) -> AssertionError:
        said = "raised" if isinstance(self.last, Exception) else "was"
        return AssertionError(
            f"not within {self._timeout:g} s: {self._what} (it last {said} {self.last!r})"
        )


def _source_of(check: Callable[[], object]) -> str:
    """A lambda's line says more than `<lambda>`; a function's name says more than its body."""
    name = getattr(check, "__name__", repr(check))
    if name != "<lambda>":
        return str(name)
    try:
        return " ".join(inspect.getsource(check).split())
    except (OSError, TypeError):
        return name
