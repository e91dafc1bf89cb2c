"""An upstream that costs as little as one can: it reads no more of a request than it must.

.venv/bin/python -m benchmarks.proxied.upstream --port 9000

The events of a stream come one by one, with a pause between them, as a model's do: a proxy is woken
for each.
"""

import argparse
import asyncio
from functools import cache
from typing import Final, cast

from benchmarks.proxied import traffic
from spoolway.worker.cli.run import loop_factory

PAUSE_S: Final = 0.002
"""Between two events of a stream: that of a fast model, so that a run takes minutes, not hours."""

_BEGIN: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


@cache
def _answer() -> bytes:
    """Return the answer in one piece, made at the first connection: its text takes a second."""
    whole = traffic.whole_answer()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(whole) + whole


@cache
def _events() -> list[bytes]:
    """Return the answer as a stream: its chunks, and their end."""
    events = (b"%x\r\n%s\r\n" % (len(event), event) for event in traffic.stream_events())
    return [*events, b"0\r\n\r\n"]


class Upstream(asyncio.Protocol):
    """One connection of the proxy's, one request after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer when a request is there in full."""
        self._received += data
        head_end = self._received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        head = bytes(self._received[:head_end]).lower()
        size = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(self._received) < head_end + size:
            return
        body = bytes(self._received[head_end:])
        self._received.clear()
        if traffic.asks_for_stream(body):
            self._write(_BEGIN)
            self._send(0)
        else:
            self._write(_answer())

    def _send(self, number: int) -> None:
        events = _events()
        if number + 2 == len(events):  # the end comes with the last event
            self._write(events[number] + events[number + 1])
            return
        self._write(events[number])
        self._loop.call_later(PAUSE_S, self._send, number + 1)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    _answer()  # both before anybody waits for them
    _events()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(loop), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve on the port given."""
    parser = argparse.ArgumentParser(description="An upstream for the benchmark of the proxy.")
    parser.add_argument("--port", type=int, required=True)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
