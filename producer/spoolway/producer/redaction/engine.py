"""The one place that chooses what searches: RE2, or Python's own `re` where RE2 is not there.

Both find the same. RE2 looks for all patterns in one pass, a byte in two nanoseconds; `re` tries
them one after the other at each byte, so `hint` is asked first where there is nothing to find.
"""

import os
import re
from collections.abc import Callable
from typing import Any, Final, Literal

Engine = Literal["re2", "re"]
Find = Callable[[bytes, int], int]
"""Where the first match at or after a position begins; -1 if there is none."""

_MEMORY: Final = 64 * 1024 * 1024
"""Bytes that RE2 may fill with what it has learned of a pattern; it begins with kilobytes."""


def finder(pattern: bytes, engine: Engine | None = None) -> tuple[Engine, Find]:
    """Return what finds the pattern, and by which engine; by default the best there is.

    Raises:
        ModuleNotFoundError: RE2 is asked for by name and not installed.
    """
    if engine != "re":
        try:
            return "re2", _ByRe2(pattern)
        except (ModuleNotFoundError, NotForRe2):
            if engine == "re2":
                raise
    return "re", _by_re(pattern)


class NotForRe2(ValueError):
    """A pattern uses what RE2 does not have: looking around, or back."""


class _ByRe2:
    """A pattern that RE2 has compiled in this process.

    It searches without the interpreter's lock and with locks of its own. A fork may copy one of
    those while another thread holds it: nobody in the child would ever let it go.
    """

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._search = _compiled(pattern)
        self._of_fork = _forks

    def __call__(self, line: bytes, start: int) -> int:
        if self._of_fork != _forks:
            _left_behind.append(self._search)  # freeing it might wait for a lock, too
            self._search, self._of_fork = _compiled(self._pattern), _forks
        found = self._search(line, start)
        return -1 if found is None else int(found.start())


_forks = 0
"""How many forks lie between this process and the one that imported this."""
_left_behind: Final[list[object]] = []


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - it is the process's own, as its id is
    _forks += 1


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_count_fork)


def _compiled(pattern: bytes) -> Callable[[bytes, int], Any]:
    import re2  # type: ignore[import-untyped]  # it has no types, four calls are all there is

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes, whatever they mean
    options.max_mem = _MEMORY
    options.log_errors = False
    if _forks:
        re2.purge()  # it keeps what it has compiled, and would return it
    try:
        search: Callable[[bytes, int], Any] = re2.compile(pattern, options).search
    except re2.error as error:
        raise NotForRe2(f"RE2 does not take a pattern: {error}") from None
    return search


def _by_re(pattern: bytes) -> Find:
    search = re.compile(pattern).search

    def find(line: bytes, start: int) -> int:
        found = search(line, start)
        return -1 if found is None else found.start()

    return find
