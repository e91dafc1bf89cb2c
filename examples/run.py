"""One run of the demo: start, traffic, stop the intake, see that everything has arrived, stop."""

import asyncio
import shlex
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import openai
from rich.console import Console
from rich.live import Live

from examples.children import ChildFailed
from examples.failed import Failed
from examples.ledger import Ledger
from examples.system import SPOOLWAY, System
from examples.traffic import SCENARIOS, Clients
from examples.watch import Rows, live_table, summary

ROUNDS: Final = 3
"""How often each scenario is sent where nobody watches."""
DEADLINE_S: Final = 60.0
"""For sending all of it and finding it in the database."""
STOP_S: Final = 15.0
"""For the rest of it, after Ctrl-C."""
LOOK_S: Final = 0.05
REDRAW_S: Final = 0.25
LINES_BESIDE_ROWS: Final = 8
NAMED: Final = 5
"""Missing requests that are named, of however many there are."""


async def run(folder: Path) -> None:
    """Run once in this folder, until it is done or a signal comes.

    Raises:
        Failed: something does not start, ends by itself, or is missing in the database.
    """
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    began = time.monotonic()
    try:
        async with System(folder) as system:
            if not await _unless(stop, system.start()):
                return
            print(f"  ready after {time.monotonic() - began:.1f} s\n")
            report = await _run(system, stop)
    except ChildFailed as error:
        raise Failed(error.usage or str(error), 2 if error.usage else 1) from None
    print(report)


async def _run(system: System, stop: asyncio.Event) -> str:
    """Send traffic, then stop the proxy and see that everything has arrived. Return the report."""
    rows, ledger = Rows(system.database), Ledger()
    clients = Clients(system.proxy_url, ledger)
    try:
        if sys.stdout.isatty():
            print(_what_to_try(system), flush=True)
            await system.while_all_run(_send_and_show(system, clients, rows, ledger, stop))
            print("\nStopping", flush=True)
            left = STOP_S
        else:
            requests = ROUNDS * len(SCENARIOS)
            print(f"Sending {requests} requests to {system.proxy_url}", flush=True)
            began = time.monotonic()
            async with asyncio.timeout(DEADLINE_S):
                await system.while_all_run(clients.send_all(ROUNDS, stop))
            took = time.monotonic() - began
            print(f"  answered after {took:.1f} s\n", flush=True)
            left = DEADLINE_S - took
        await clients.aclose()
        # Intake first. What the proxy still has is sent to Valkey, and written by the worker.
        await system.stop_proxy()
        await system.while_all_run(_settle(rows, ledger, left))
        _compare(system, rows, ledger, left, exactly=not sys.stdout.isatty())
    except TimeoutError:
        raise Failed(
            f"not all requests were answered within {DEADLINE_S:.0f} s: see {system.logs}"
        ) from None
    except ExceptionGroup as group:
        if group.subgroup(openai.APIConnectionError) is None:
            raise
        raise Failed(f"the proxy did not answer a request: see {system.logs}") from group
    finally:
        rows.close()
    return f"In the database {system.database}, of this run:\n{summary(rows)}"


async def _send_and_show(
    system: System, clients: Clients, rows: Rows, ledger: Ledger, stop: asyncio.Event
) -> None:
    """Send gently until `stop`, and show the rows meanwhile."""
    console = Console()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(clients.send_gently(stop), name="demo-clients")
        with Live(console=console, auto_refresh=False) as live:
            while not sending.done():
                rows.look()
                rows.settle(ledger)
                most = max(console.height - LINES_BESIDE_ROWS, 3)
                live.update(live_table(rows, await system.queue(), most), refresh=True)
                await asyncio.wait([sending], timeout=REDRAW_S)


async def _settle(rows: Rows, ledger: Ledger, seconds: float) -> None:
    """Wait until the database holds everything that was sent."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while rows.settle(ledger):  # noqa: ASYNC110 - another process writes the rows: there is no event to wait for
                await asyncio.sleep(LOOK_S)
    rows.look()


def _compare(system: System, rows: Rows, ledger: Ledger, seconds: float, *, exactly: bool) -> None:
    """Raise Failed if the database holds something else than what was sent."""
    problems = [*ledger.wrong]
    if ledger.open:
        first = list(ledger.open)[:NAMED]
        problems.append(
            f"{len(ledger.open)} of {ledger.sent} requests, or errors of theirs, are missing after "
            f"{seconds:.0f} s: {', '.join(first)}{', …' if len(ledger.open) > NAMED else ''}"
        )
    elif exactly and (rows.outcomes, rows.errors) != (ledger.expected, ledger.errors):
        problems.append(
            f"sent were {dict(ledger.expected)} and {ledger.errors} errors, there are "
            f"{dict(rows.outcomes)} and {rows.errors} errors"
        )
    if problems:
        raise Failed(
            f"{system.database} does not hold what was sent; logs are in {system.logs}:\n  "
            + "\n  ".join(problems)
        )


def _what_to_try(system: System) -> str:
    """Return commands that work as they stand, from this folder, while the demo runs."""
    question = (
        '{"model":"large","stream":true,"stream_options":{"include_usage":true},'
        '"messages":[{"role":"user","content":"Hello"}]}'
    )
    folder, database = _shown(system.folder), _shown(system.database)
    query = "SELECT outcome, count(*), avg(ttft_ms) FROM request_logs GROUP BY outcome"
    return f"""\
The page is on {system.page_url}

Try, in another terminal:

  curl -N {system.proxy_url}/chat/completions -H 'authorization: Bearer sk-mine' \\
    -H 'content-type: application/json' -d '{question}'
  curl {system.proxy_url}/models
  sqlite3 {database} "{query}"
  {_shown(SPOOLWAY)} status --dir {folder} --redis-url {system.redis_url}
  {_shown(SPOOLWAY)} usage --dir {folder}
  {_shown(SPOOLWAY)} tail --outcome error --dir {folder}

Logs are in {_shown(system.logs)}. Ctrl-C stops everything.
"""


def _shown(path: Path) -> str:
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work, but give it up when `stop` is set; return whether it is done."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
