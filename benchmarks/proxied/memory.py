"""What streams in progress hold of a proxy's memory: many at once, far longer than what is kept.

.venv/bin/python -m benchmarks.proxied.memory --redis-url redis://127.0.0.1:6379 --streams 100

An ASGI application in this process sends each stream in parts; the event loop has a turn between any
two, so that all streams are in progress at the same time. Once without the middleware, then with it:
what the peak of resident memory grows by is the middleware's.
"""

import argparse
import asyncio
import itertools
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from spoolway.producer import Producer
from spoolway.producer.asgi import App, Message, Receive, Scope, Send, SpoolwayMiddleware
from spoolway.schema.caps import KIB, MIB
from spoolway.worker.cli.run import loop_factory

PART_BYTES: Final = 16 * KIB
PER_STREAM: Final = 32 * KIB
"""Beside the chunks that are kept: the record, the reader's state, the beginning of its next part."""
SLACK: Final = 96 * MIB
"""The buffer, 64 MiB at most, and one event while it is parsed, encoded and packed."""


class Held(msgspec.Struct, frozen=True):
    """What was measured, in bytes of resident memory and in seconds."""

    streams: int
    stream_bytes: int
    kept_bytes: int
    """Of each stream: the cap."""
    bare_peak: int
    recorded_peak: int
    bare_seconds: float
    recorded_seconds: float
    recorded: int
    """Streams that were accepted, or dropped for lack of room, and counted."""

    @property
    def growth(self) -> int:
        """Bytes that recording added to the peak."""
        return self.recorded_peak - self.bare_peak

    @property
    def bound(self) -> int:
        """The most that it may add."""
        return self.streams * (self.kept_bytes + PER_STREAM) + SLACK


def streaming(size: int) -> App:
    """Return an application that answers with so many bytes of events, 16 KiB each."""
    filler = b"x" * (PART_BYTES - 200)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in itertools.count():
            # New bytes each time, as from a socket: who keeps them holds memory of its own.
            part = (
                b'data: {"id":"c","object":"chat.completion.chunk","model":"m","n":%d,"choices":'
                b'[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
            ) % (number, filler)
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if (number + 1) * len(part) >= size:
                break
        end = b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": end, "more_body": False})

    return app


async def request(app: App) -> None:
    """Ask once, and throw the answer away, a part at a time."""
    body = b'{"model":"m","stream":true}'

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_message: Message) -> None:
        await asyncio.sleep(0)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 4711),
        "state": {},
    }
    await app(scope, receive, send)


async def all_at_once(app: App, streams: int) -> float:
    """Ask for so many streams at the same time; return the seconds until the last has ended."""
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        for _ in range(streams):
            requests.create_task(request(app))
    return time.perf_counter() - begin


def measure(redis_url: str, folder: Path, streams: int, size: int) -> Held:
    """Measure both, in this process: best in a new one, whose peak is not that of something else."""
    app = streaming(size)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        bare_seconds = runner.run(all_at_once(app, streams))
        bare_peak = peak_rss()
        with Producer(redis_url, folder=folder) as producer:
            middleware = SpoolwayMiddleware(app, producer)
            recorded_seconds = runner.run(all_at_once(middleware, streams))
            producer.flush(30)
            recorded_peak = peak_rss()
            stats = producer.stats
    return Held(
        streams=streams,
        stream_bytes=size,
        kept_bytes=producer.caps.of("stream_chunks"),
        bare_peak=bare_peak,
        recorded_peak=recorded_peak,
        bare_seconds=bare_seconds,
        recorded_seconds=recorded_seconds,
        recorded=stats.accepted + stats.dropped,
    )


def peak_rss() -> int:
    """Return the most bytes that this process ever had resident."""
    try:
        # Of this program. What `resource` tells also covers the one that started it.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KIB


def main() -> None:
    """Print what was measured, as JSON."""
    parser = argparse.ArgumentParser(description="Memory that recorded streams hold.")
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--megabytes", type=float, default=10, help="of each (default: 10)")
    parser.add_argument("--dir", type=Path, help="where what waits may be spooled")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memory-", dir=options.dir) as folder:
        size = int(options.megabytes * 1_000_000)
        held = measure(options.redis_url, Path(folder), options.streams, size)
    print(msgspec.json.encode(held).decode())


if __name__ == "__main__":
    main()
