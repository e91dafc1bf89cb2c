"""A ledger for producers with a spool: which ids were accepted, and where each of them is now."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID
from zlib import crc32

from spoolway.producer import Producer, ProducerStats
from spoolway.schema import new_id
from tests.pushed import events
from tests.servers import ValkeyServer, eventually

EVENT_BYTES = 1_000


def emit(producer: Producer, number: int, size: int = EVENT_BYTES) -> list[UUID]:
    """Emit events of about `size` bytes, and return the ids of those that were accepted."""
    ids = [new_id() for _ in range(number)]
    body = "x" * (size - 90)
    return [id_ for id_ in ids if producer.emit({"type": "request", "id": id_, "body": body})]


def on_stream(server: ValkeyServer) -> list[UUID]:
    """The ids on the stream, in its order."""
    return [event.id for event in events(server)]


def segments(folder: Path) -> list[Path]:
    """The segments in a proxy's folder, in the order of replay."""
    return sorted((folder / "spool").glob("*.jsonl*"))


def on_disk(folder: Path) -> list[UUID]:
    """The ids in the spool, read as an operator would, each line against its checksum."""
    found = []
    for segment in segments(folder):
        for line in segment.read_bytes().splitlines():
            text = line.partition(b',"event":')[2][:-1]
            assert json.loads(line)["crc"] == f"{crc32(text):08x}"
            found.append(UUID(json.loads(text)["id"]))
    return found


def read_with_jq(segment: Path) -> list[str]:
    """The ids of a segment as `jq` shows them; where there is no jq, as any JSON reader would."""
    if shutil.which("jq"):
        command = ["jq", "-r", ".event.id", str(segment)]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    return [str(json.loads(line)["event"]["id"]) for line in segment.read_text().splitlines()]


def adds_up(stats: ProducerStats) -> bool:
    """Whether each accepted event is in one place."""
    return stats.accepted == (
        stats.pushed + stats.spooled + stats.buffered_events + stats.abandoned
    )


def all_spooled(producer: Producer) -> ProducerStats:
    """Wait until nothing is left in memory because Redis fails and the disk has it."""

    def is_spooled() -> ProducerStats | None:
        stats = producer.stats
        assert adds_up(stats)
        is_there = stats.buffered_events == 0 and stats.spooled and stats.last_error
        return stats if is_there else None

    return eventually(is_spooled, timeout=20, what="everything is on disk") or producer.stats


def all_returned(folder: Path, *producers: Producer) -> None:
    """Wait until the spool is empty, and so are the buffers."""

    def is_returned() -> bool:
        left = sum(producer.stats.buffered_events for producer in producers)
        return not segments(folder) and not left

    eventually(is_returned, timeout=30, what="the spool is back on the stream")


def once_each(found: Iterable[UUID], accepted: Iterable[UUID]) -> bool:
    """Whether these are exactly those ids, none of them twice."""
    return sorted(found) == sorted(accepted)
