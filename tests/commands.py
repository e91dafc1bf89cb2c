"""The installed command for tests: in this process where only its words matter, else as a process."""

import gc
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest
from typer import Typer
from typer.main import get_command

from spoolway.spool import Limits, SpoolFolder, SpoolWriter
from spoolway.worker.cli import main
from tests.workers import BIN, request_line

SPOOLWAY = str(BIN / "spoolway")


@dataclass(slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    raw: bytes = b""

    @property
    def json(self) -> Any:
        """The one JSON value on its stdout."""
        return orjson.loads(self.out)


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without its settings of Spoolway, and with these."""
    ours = ("DATABASE_", "REDIS_", "SPOOLWAY_", "PG")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "COLUMNS": "200", **settings}


def run(*arguments: str, stdin: str = "", **settings: str) -> Ended:
    """Call what the installed command calls, here: ten times as fast as a process."""
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    err = io.StringIO()
    with ExitStack() as undo, own_process_state():
        undo.enter_context(mock.patch.dict(os.environ, environment(**settings), clear=True))
        for name, value in {
            "argv": ["spoolway", *arguments],
            "stdin": io.StringIO(stdin),
            "stdout": out,
            "stderr": err,
        }.items():
            undo.enter_context(mock.patch.object(sys, name, value))
        undo.enter_context(mock.patch("typer.main.get_command", _built_once))
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert isinstance(code, int)
    raw = written.getvalue()
    assert "Traceback" not in err.getvalue()
    return Ended(code, raw.decode(errors="replace"), err.getvalue(), raw)


def _built_once(app: Typer) -> Any:
    """Return what Typer makes of its functions, which takes as long as a short command."""
    return _built(app, _registered(app))


@cache
def _built(app: Typer, registered: int) -> Any:
    return get_command(app)


def _registered(app: Typer) -> int:
    """Count the commands of an app: each module adds its own when it is first imported."""
    groups = [group.typer_instance for group in app.registered_groups]
    return len(app.registered_commands) + sum(_registered(group) for group in groups if group)


@contextmanager
def own_process_state() -> Iterator[None]:
    """Undo what a command does to the process it owns."""
    root, thresholds = logging.getLogger(), gc.get_threshold()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in root.manager.loggerDict}
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    # Every test's objects are in this process: they are not the command's to look through.
    with mock.patch.object(gc, "collect"), mock.patch.object(gc, "freeze"):
        try:
            yield
        finally:
            _restore(root, handlers, level, levels)
            logging.captureWarnings(False)
            sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
            gc.set_threshold(*thresholds)


def _restore(
    root: logging.Logger, handlers: list[logging.Handler], level: int, levels: dict[str, int]
) -> None:
    for name in root.manager.loggerDict:
        logger, before = logging.getLogger(name), levels.get(name, logging.NOTSET)
        if logger.level != before:  # to set it takes as long as there are loggers
            logger.setLevel(before)
    root.handlers[:] = handlers
    root.setLevel(level)


def start(*arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """Start the installed command; `ended` waits for it."""
    return subprocess.Popen(
        [SPOOLWAY, *arguments],
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", timeout: float = 60.0) -> Ended:
    """Wait for a started command."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in err, err
    return Ended(process.returncode, out, err)


def refusal(done: Ended) -> str:
    """Assert that the command was used wrongly, and return the one line that says what to do."""
    lines = done.err.splitlines()
    assert done.code == 2, done
    assert len(lines) == 1, done.err
    assert lines[0].startswith("spoolway: ")
    return lines[0]


def spool(folder: Path, lines: Sequence[bytes], *, per_segment: int = 100) -> list[bytes]:
    """Put events into the spool of a state folder, sealed, and return them."""
    writer = SpoolWriter(folder / "spool", Limits(segment_bytes=1))  # each append is a segment
    for first in range(0, len(lines), per_segment):
        writer.append(lines[first : first + per_segment])
    writer.close()
    return list(lines)


def requests(number: int, **fields: object) -> list[bytes]:
    """Return so many requests as JSON lines."""
    return [request_line(**fields) for _ in range(number)]


def segments(folder: Path) -> list[Path]:
    """Return the segments of a state folder."""
    return [file.path for file in SpoolFolder(folder / "spool").segments()]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
