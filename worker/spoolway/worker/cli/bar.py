"""What a command shows while it works: a bar with rate and time left, and what is logged."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from spoolway.worker.cli.shown import say


class _Said(logging.Handler):
    """Log records as this command's own lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        try:
            say(record.getMessage())
        except Exception:  # noqa: BLE001 - logging must not end the command
            self.handleError(record)


def say_what_is_logged() -> None:
    """Warnings and errors of all rooms go to stderr, one line each; so does waiting for a lock."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Said()], force=True)
    logging.getLogger("spoolway.migrations.lock").setLevel(logging.INFO)


@contextmanager
def bar(what: str, total: int | None, unit: str = "events") -> Iterator[Callable[[int], None]]:
    """Show progress on stderr if that is a terminal; yields what is called with each step's count."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} {unit}/s")

    done = "{task.completed:,}" + ("" if total is None else "/{task.total:,}")
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{done} {unit}"),
        Rate(),
        TimeLeft(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=total)

        def advance(count: int) -> None:
            shown = progress.tasks[task]
            if shown.total is not None and shown.completed + count > shown.total:
                progress.update(task, total=shown.completed + count)  # an open segment: see there
            progress.advance(task, count)

        yield advance
