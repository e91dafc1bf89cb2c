"""The worker's life: what is opened in which order, what runs, and how it stops.

`arq` awaits its `on_startup` before it first polls, and has no other door: when its own loop fails
on Redis, it closes and the process ends. So `on_startup` is where this service lives. It runs the
drain loop and, beside it, the replay of the spool and an arq worker for the control jobs; draining
goes on whatever becomes of them. `spoolway worker` runs the same service.
"""

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from spoolway.spool import DeadLetters, Limits, SpoolWriter
from spoolway.worker.autoreplay import AutoReplay
from spoolway.worker.breaker import Breaker
from spoolway.worker.config import Settings, shown_url
from spoolway.worker.connecting import explain_outage
from spoolway.worker.delivery import Delivery
from spoolway.worker.drain import Drain
from spoolway.worker.host import host_jobs
from spoolway.worker.identity import make_folder, take_slot
from spoolway.worker.idle import stay_idle
from spoolway.worker.opening import close_streams, open_database, open_streams, window_of
from spoolway.worker.outage import Outage
from spoolway.worker.progress import Progress, status_file
from spoolway.worker.redis_client import explain_redis
from spoolway.worker.replay import Replay
from spoolway.worker.retention import keep_of
from spoolway.worker.stores import Refusals, Store
from spoolway.worker.stream import Stream

if TYPE_CHECKING:
    from spoolway.worker.http.server import HttpServer

log = logging.getLogger("spoolway.worker")

DRAIN_SECONDS: Final = 7.0
"""How long a stopping worker waits for the batches it is writing. Container and systemd grace
periods are above it: 10 s are promised."""
_ENDING_SECONDS: Final = 1.5
"""How long it then waits for what was cancelled."""
_STATUS_EVERY: Final = 2.0


class Service:
    """Everything one worker process runs. `run` once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self) -> None:
        """Open, drain until cancelled, and close in order.

        Raises:
            UsageError: a database, Redis or folder that cannot be used, in one line.
        """
        settings = self._settings
        async with AsyncExitStack() as opened:
            make_folder(settings.dir)
            slot = take_slot(settings.dir)
            opened.callback(slot.release)
            consumer = slot.consumer(settings.consumer)
            http = _open_http(settings)
            if http is not None:
                opened.push_async_callback(http.close)
            if not settings.enabled:
                progress = Progress(status_file(settings.dir, slot.number), consumer, os.getpid())
                opened.callback(progress.remove)
                if http is not None:
                    http.watch(progress, None)
                await stay_idle(progress)
            breaker = Breaker(asyncio.get_running_loop().time)
            store = await open_database(settings, breaker)
            opened.push_async_callback(store.close)
            streams = await open_streams(settings, consumer)
            opened.push_async_callback(close_streams, streams)
            progress = Progress(status_file(settings.dir, slot.number), consumer, os.getpid())
            opened.callback(lambda: log.info("stopped: %s", progress.totals))
            opened.callback(progress.remove)
            spool = SpoolWriter(
                settings.dir / "spool",
                Limits(settings.spool_max_bytes, settings.spool_min_free_bytes),
            )
            opened.callback(spool.close)
            if http is not None:
                http.watch(progress, store)
                opened.push_async_callback(http.close)  # before what it looks at
            log.info(
                "consumer %s drains stream %s of %s into %s",
                consumer,
                " and ".join(stream.name for stream in streams),
                shown_url(settings.redis_url),
                shown_url(settings.database),
            )
            _spare_the_collector()
            await self._run_until_cancelled(store, streams, spool, progress, breaker)

    async def _run_until_cancelled(
        self,
        store: Store,
        streams: Sequence[Stream],
        spool: SpoolWriter,
        progress: Progress,
        breaker: Breaker,
    ) -> None:
        settings = self._settings
        stop = asyncio.Event()
        clock = asyncio.get_running_loop().time
        store_outage = Outage(
            "database", clock, explain=partial(explain_outage, url=settings.database)
        )
        progress.outages.append(("database", store_outage))
        window = window_of(settings)
        dead = DeadLetters(settings.dir / "dead")
        refusals = Refusals(settings.refused_count, settings.refused_ratio)
        slots = asyncio.Semaphore(settings.in_flight)

        def drain_of(stream: Stream) -> Drain:
            redis_outage = Outage(
                f"Redis ({stream.name})",
                clock,
                explain=partial(explain_redis, url=settings.redis_url),
            )
            progress.outages.append(("redis", redis_outage))
            delivery = Delivery(
                stream=stream,
                store=store,
                spool=spool,
                dead=dead,
                progress=progress,
                breaker=breaker,
                refusals=refusals,
                store_outage=store_outage,
                redis_outage=redis_outage,
                stop=stop,
                batch_bytes=settings.batch_bytes,
            )
            return Drain(
                stream,
                delivery,
                progress,
                redis_outage,
                stop,
                window=window,
                batch_events=settings.batch_events,
                batch_bytes=settings.batch_bytes,
                slots=slots,
                in_flight=settings.in_flight,
                is_alone=len(streams) == 1,
                write_timeout=settings.write_timeout,
            )

        replay = Replay(
            store,
            dead,
            window,
            Refusals(settings.refused_count, settings.refused_ratio),
            batch_events=settings.batch_events,
            batch_bytes=settings.batch_bytes,
        )
        autoreplay = AutoReplay(
            store=store,
            spool=spool,
            replay=replay,
            breaker=breaker,
            progress=progress,
            outage=store_outage,
            is_live_busy=slots.locked,
            enabled=settings.spool_drain,
        )
        draining = [
            asyncio.create_task(drain_of(stream).run(), name=f"spoolway-drain-{stream.name}")
            for stream in streams
        ]
        beside = [
            asyncio.create_task(autoreplay.run(), name="spoolway-replay"),
            asyncio.create_task(
                host_jobs(
                    settings.jobs_redis_url or settings.redis_url,
                    {
                        "store": store,
                        "streams": streams,
                        "progress": progress,
                        "keep": keep_of(settings),
                    },
                ),
                name="spoolway-jobs",
            ),
            asyncio.create_task(_report(progress), name="spoolway-report"),
        ]
        try:
            # None of them ends by itself: the first that does has failed, and is not restarted
            # behind its owner's back. The process ends; its supervisor starts a clean one.
            await asyncio.wait([*draining, *beside], return_when=asyncio.FIRST_COMPLETED)
            for task in (*draining, *beside):
                if task.done():
                    task.result()
        finally:
            # Stop order: intake, what is in flight (with a deadline), replay and control jobs.
            # Then the stack seals the spool, closes Redis and the database, and last the slot, so
            # that a successor with the same name starts after the last acknowledgement.
            progress.stopping = True
            stop.set()
            _, writing = await asyncio.wait(draining, timeout=DRAIN_SECONDS)
            if writing:
                log.warning("batches in flight after %.0f s are left pending", DRAIN_SECONDS)
            for task in (*draining, *beside):
                task.cancel()
            ended, stuck = await asyncio.wait([*draining, *beside], timeout=_ENDING_SECONDS)
            for task in stuck:
                log.warning("%s does not end, and is left behind", task.get_name())
            await asyncio.gather(*ended, return_exceptions=True)  # told by the first one


def _open_http(settings: Settings) -> "HttpServer | None":
    """Answer from the start on: a supervisor must not kill a migration that takes an hour."""
    if settings.http_port is None:
        return None
    from spoolway.worker.http.server import HttpServer  # it takes memory, and not all want it

    return HttpServer.open(settings, settings.http_port)


def _spare_the_collector() -> None:
    """Take what is loaded by now out of the cyclic garbage collector's rounds.

    A batch makes tens of thousands of objects, none of them in a cycle; with the default thresholds
    the collector walks all modules for them many times a second, a tenth of the worker's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _report(progress: Progress) -> None:
    """Write the status file. A disk that is full makes it stale, and the worker unhealthy."""
    while True:
        with contextlib.suppress(OSError):
            progress.write()
        await asyncio.sleep(_STATUS_EVERY)
