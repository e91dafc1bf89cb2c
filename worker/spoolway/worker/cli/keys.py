"""Single keys from a terminal, while something is shown on it."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_ENDS: Final = frozenset(b"qQ\x1b\x04")
"""q, Escape, Ctrl-D. Ctrl-C is a signal, as everywhere."""


@contextmanager
def ends_at_q(ended: asyncio.Event) -> Iterator[Callable[[], None]]:
    """Set the event when somebody presses q; the terminal is as it was afterwards.

    Yields what is to be called when somebody else has had the terminal meanwhile. Without a terminal
    on stdin there are no keys, and nothing is read from it.
    """
    if not sys.stdin.isatty():
        yield lambda: None
        return
    keyboard = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)

    def pressed() -> None:
        # An arrow key begins with Escape, and is more than one byte.
        keys = os.read(keyboard, 64)
        if not keys or (len(keys) == 1 and keys[0] in _ENDS) or b"q" in keys:
            ended.set()
            loop.remove_reader(keyboard)

    try:
        tty.setcbreak(keyboard)
        loop.add_reader(keyboard, pressed)
        yield lambda: tty.setcbreak(keyboard)
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
