"""A real command whose event loop stops for a while: `wedged_worker.py SECONDS -- spoolway worker`.

It blocks in the middle of the work, after its first batch, as a bug or a disk that hangs would.
"""

import sys
import time
from typing import Any

import spoolway.worker.service  # noqa: F401 - loaded before it is wrapped
from spoolway.worker.cli import main
from spoolway.worker.stream import Stream


def block_after_first_batch(stream_class: Any, seconds: float) -> None:
    """Let the loop stand still for so many seconds, once, before an acknowledgement."""
    original = stream_class.acknowledge
    blocked = False

    async def acknowledge(stream: Any, ids: Any) -> None:
        nonlocal blocked
        if not blocked:
            blocked = True
            time.sleep(seconds)  # noqa: ASYNC251 - that is the fault
        await original(stream, ids)

    stream_class.acknowledge = acknowledge


if __name__ == "__main__":
    _, seconds, _, *sys.argv = sys.argv
    block_after_first_batch(Stream, float(seconds))
    main()
