"""What `spoolway top` puts on a terminal: lines of plain text, each with a style.

Every text from a queue, a file or the database goes through `printable`: nothing but text.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, islice
from typing import Any, Final

from spoolway.worker.backlog import in_all
from spoolway.worker.cli.amounts import duration, rate, whole
from spoolway.worker.cli.overview import Shown
from spoolway.worker.cli.rates import PerSecond, worker_key
from spoolway.worker.cli.shown import age, cut, printable, table
from spoolway.worker.cli.sparkline import sparkline
from spoolway.worker.cli.standing import dead_line, queue_line, spool_line
from spoolway.worker.config import Settings, shown_url
from spoolway.worker.fleet import Folder
from spoolway.worker.reading.last_minute import LastMinute

PLAIN: Final = ""
_HEAD: Final = "bold"
_GOOD: Final = "green"
_ODD: Final = "yellow"
_BAD: Final = "bold red"
_BY_ACTIVITY: Final = {
    "draining": _GOOD,
    "idle": PLAIN,
    "starting": _ODD,
    "disabled": _ODD,
    "spooling": _ODD,
    "refusing": _BAD,
    "wedged": _BAD,
}
_NAME_WIDTH: Final = 40
"""Cells for a model's or a worker's name: a client chose the first."""
_MODELS: Final = 10
_TREND_WIDTH: Final = 30


@dataclass(slots=True, frozen=True)
class Line:
    """One line, and how it is to look."""

    text: str
    style: str = PLAIN
    is_row: bool = False
    """Of a table: where the terminal is too narrow it is cut, and not continued below."""


def screen(shown: Shown, settings: Settings, steps: str) -> list[Line]:
    """Return the lines of one sample; `steps` are the characters of the trend."""
    return [
        *_head(shown, settings),
        *_streams(shown, steps),
        *_database(shown),
        *(Line(f"wrong     {reason}", _BAD) for reason in shown.wrong),
        *(line for folder in shown.look.folders for line in _folder(folder)),
        *_workers(shown),
        *_models(shown.minute),
    ]


def _head(shown: Shown, settings: Settings) -> Iterator[Line]:
    at = time.strftime("%H:%M:%S", time.gmtime(shown.look.at))
    where = f"{shown_url(settings.redis_url)}, stream {settings.stream}, group {settings.group}"
    yield Line(f"spoolway top  {at} UTC  {printable(where)}", _HEAD)
    yield Line("")


def _streams(shown: Shown, steps: str) -> Iterator[Line]:
    streams, speeds = shown.look.streams, shown.speeds
    if not streams:
        yield Line("redis     unavailable, see below", _BAD)
        return
    known = dropwhile(lambda one: one is None, shown.added)
    trend = sparkline([*known][-_TREND_WIDTH:], width=_TREND_WIDTH, steps=steps)
    per_entry = speeds.events_per_entry
    events = ""
    if per_entry is not None and speeds.added is not None:
        events = f", about {rate(per_entry * speeds.added)} events/s"
    yield Line(f"in        {rate(speeds.added)} entries/s{events}  {trend}".rstrip())
    done = speeds.in_all
    yield Line(
        f"out       {rate(speeds.settled)} entries/s; workers here: {rate(done['inserted'])} "
        f"events/s stored, {rate(done['spooled'])} spooled, {rate(done['replay_inserted'])} "
        f"replayed, {rate(done['dead'])} dead"
    )
    queues = {"queue": in_all(streams.values())}
    if len(streams) > 1:
        queues |= {f"  {printable(name)}": one for name, one in streams.items()}
    for name, queue in queues.items():
        yield Line(f"{name:8}  {queue_line(queue)}")


def _database(shown: Shown) -> Iterator[Line]:
    if shown.minute is None:
        yield Line(f"database  unavailable: {printable(str(shown.trouble))}", _ODD)
    else:
        asked = duration(shown.minute.milliseconds)
        yield Line(f"database  available, answered in {asked}")


def _folder(folder: Folder) -> Iterator[Line]:
    yield Line(f"folder    {printable(folder.dir)}")
    if folder.spool is not None:
        yield Line(f"  spool   {spool_line(folder.spool)}", _ODD if folder.spool.events else PLAIN)
    if folder.dead is not None:
        yield Line(f"  dead    {dead_line(folder.dead)}", _ODD if folder.dead else PLAIN)


def _workers(shown: Shown) -> Iterator[Line]:
    found = [
        (worker, shown.speeds.workers[worker_key(folder.dir, worker)])
        for folder in shown.look.folders
        for worker in folder.workers
    ]
    if not found:
        return  # what is wrong says so
    head = (
        "worker",
        "state",
        "read/s",
        "stored/s",
        "spooled/s",
        "replayed/s",
        "dead",
        "in flight",
        "turned",
        "last commit",
    )
    lines = table([head, *(_worker(*one) for one in found)], right=range(2, len(head)))
    yield Line("")
    yield Line(lines[0], _HEAD, is_row=True)
    for line, (worker, _) in zip(lines[1:], found, strict=True):
        yield Line(line, _BY_ACTIVITY.get(worker["activity"], PLAIN), is_row=True)


def _worker(worker: dict[str, Any], speed: PerSecond) -> tuple[str, ...]:
    committed = worker.get("last_commit")
    return (
        _name(str(worker.get("consumer"))),
        str(worker["activity"]),
        rate(speed["read"]),
        rate(speed["inserted"]),
        rate(speed["spooled"]),
        rate(speed["replayed"]),
        whole(int(worker.get("dead", 0)) + int(worker.get("replay_dead", 0))),
        whole(int(worker.get("in_flight", 0))),
        f"{age(worker['age'])} ago",
        f"{age(time.time() - committed)} ago" if committed else "never",
    )


def _models(minute: LastMinute | None) -> Iterator[Line]:
    if minute is None:
        return
    yield Line("")
    if not minute.models:
        yield Line("no request in the last minute")
        return
    head = ("last minute", "requests", "failed", "cancelled", "errors", "mean", "longest")
    rows = [
        (
            _name(one.model),
            whole(one.requests),
            whole(one.failed),
            whole(one.cancelled),
            whole(one.errors),
            duration(one.mean_ms),
            duration(one.longest_ms),
        )
        for one in islice(minute.models, _MODELS)
    ]
    lines = table([head, *rows], right=range(1, len(head)))
    yield Line(lines[0], _HEAD, is_row=True)
    for line, one in zip(lines[1:], minute.models, strict=False):
        yield Line(line, _ODD if one.failed or one.errors else PLAIN, is_row=True)
    if (left := len(minute.models) - _MODELS) > 0:
        yield Line(f"and {left:,} more")


def _name(text: str | None) -> str:
    return "-" if text is None else cut(printable(text), _NAME_WIDTH)
