"""The oracle of all fault tests: what was accepted, where each event is now, and whether that is right.

The ledger is the producer's word: the id of every event that was accepted, and a hash of what was in
it. The oracle reads every place that an event can be in (rows, spools, dead letters, the stream),
hashes anew what it finds there, and compares. It writes nothing and locks nothing.
"""

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from spoolway.schema import DEFAULT_STREAM, BadInput, RequestEvent, decode_line
from spoolway.spool import Disk, Segment, SegmentFile, SpoolFolder
from tests.pushed import lines_of
from tests.servers import ValkeyServer
from tests.workers import rows

_SHOWN: Final = 3
_PAGE: Final = 500
_CHUNK: Final = 1_000, 1 << 20
_READ_ROWS: Final = {
    "request": "SELECT id, model_name, CAST(body AS text) FROM request_logs",
    "error": "SELECT id, model_name, error_message FROM error_logs",
}

Hashes = dict[str, str]
"""Key of an event (its id; of what has none, a hash of its bytes) to the hash of its payload."""


# --- What was accepted ------------------------------------------------------------


def key_and_hash(line: bytes) -> tuple[str, str]:
    """Return what an event is known by, and the hash of what must come out as it went in.

    That is its type, model and body (of an error: its message). The standard library's parser,
    because it reads what both databases refuse, too: NUL, lone surrogates, NaN.
    """
    try:
        event = json.loads(line)
        event_type, event_id = event["type"], event["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return _as_the_product_reads_it(line)
    content = event.get("body" if event_type == "request" else "error_message")
    return str(event_id).lower(), payload_hash(event_type, event.get("model_name"), content)


def _as_the_product_reads_it(line: bytes) -> tuple[str, str]:
    """Read what the standard library does not: thousands of levels, or of digits."""
    try:
        event = decode_line(line)
    except BadInput:
        return unreadable(line)
    if isinstance(event, RequestEvent):
        body = json.loads(bytes(event.body) or b"null")
        return str(event.id), payload_hash("request", event.model_name, body)
    return str(event.id), payload_hash("error", event.model_name, event.error_message)


def payload_hash(event_type: str, model_name: object, content: object) -> str:
    """Hash what the ledger compares."""
    text = json.dumps([event_type, model_name, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unreadable(raw: bytes) -> tuple[str, str]:
    """Return key and hash of bytes that are no event."""
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return f"raw:{digest}", digest


@dataclass
class Ledger:
    """What the producer was told is safe."""

    accepted: Hashes = field(default_factory=dict)
    uncertain: Hashes = field(default_factory=dict)
    """Sent, and the answer was lost: they may be there, and need not be."""

    def accept(self, lines: Iterable[bytes]) -> None:
        """Note events that were accepted."""
        self.accepted.update(map(key_and_hash, lines))

    def accept_unreadable(self, raw: bytes) -> None:
        """Note bytes that are no event, and must become a dead letter."""
        self.accepted.update([unreadable(raw)])

    def doubt(self, lines: Iterable[bytes]) -> None:
        """Note events that may have been accepted."""
        self.uncertain.update(map(key_and_hash, lines))

    def destroyed(self, keys: Iterable[str]) -> None:
        """Take out what the fault itself destroyed where no program could keep it."""
        for key in keys:
            del self.accepted[key]


# --- Where it is ------------------------------------------------------------------


@dataclass
class Found:
    """Every event in every place, with the hash of what is there now."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    spooled: list[tuple[str, str]] = field(default_factory=list)
    dead: list[tuple[str, str]] = field(default_factory=list)
    pending: list[tuple[str, str]] = field(default_factory=list)
    """On the stream: not yet read, or not yet acknowledged."""
    damaged: list[str] = field(default_factory=list)
    """What is in a spool and is no record."""

    @classmethod
    def everywhere(
        cls,
        database: str,
        server: ValkeyServer | None,
        folders: Sequence[Path],
        *,
        stream: str = DEFAULT_STREAM,
    ) -> "Found":
        """Read all of it; `folders` are SPOOLWAY_DIRs of workers and folders of producers."""
        found = cls(list(row_hashes(database)))
        if server is not None:
            found.pending = list(stream_hashes(server, stream))
        for folder in folders:
            found.dead += dead_hashes(folder / "dead")
            for file in SpoolFolder(folder / "spool").segments():
                found._read_segment(file)
        return found

    def _read_segment(self, file: SegmentFile) -> None:
        # Not by SpoolFolder.take: its lock would keep a replay from what it came for.
        segment = Segment(file.path, Disk(), os.open(file.path, os.O_RDONLY))
        try:
            for chunk in segment.chunks(*_CHUNK):
                self.spooled += map(key_and_hash, chunk.lines)
                self.damaged += [f"{file.path.name}@{one.offset}" for one in chunk.damaged]
        finally:
            segment.release()


def row_hashes(database: str) -> Iterator[tuple[str, str]]:
    """Read every row of both tables."""
    for event_type, sql in _READ_ROWS.items():
        for event_id, model_name, content in rows(database, sql):
            known: Any = content
            if event_type == "request" and content is not None:
                known = json.loads(content)
            yield str(event_id), payload_hash(event_type, model_name, known)


def stream_hashes(server: ValkeyServer, stream: str) -> Iterator[tuple[str, str]]:
    """Read every entry that is still on the stream."""
    start = "-"
    with server.client() as client:
        while page := client.xrange(stream, start, count=_PAGE):
            for _, fields in page:
                try:
                    yield from map(key_and_hash, lines_of(fields))
                except BadInput:
                    yield unreadable(fields.get(b"data", b""))
            start = f"({page[-1][0].decode()}"


def dead_hashes(folder: Path) -> Iterator[tuple[str, str]]:
    """Read every dead letter. A line that a kill cut off was never acknowledged: it is none."""
    for letter in dead_letters(folder):
        raw = letter["raw"].encode() if "raw" in letter else base64.b64decode(letter["raw_base64"])
        yield unreadable(raw) if letter["reason"] == "bad-frame" else key_and_hash(raw)


def dead_letters(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of the files of dead letters."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                letter = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            yield letter


# --- Whether it is right ----------------------------------------------------------


def verdict(
    ledger: Ledger,
    found: Found,
    *,
    dead: Iterable[str] = (),
    settled: bool = True,
) -> None:
    """Assert that every accepted event is in one place, as it was sent, and that nothing else is.

    `dead` are the keys that must be dead letters, and no others may be. When all is `settled` the
    stream and the spools are empty, so that each event is a row or a dead letter. In the middle of
    things an event may also be in two places at once, never in two rows.
    """
    accepted = ledger.accepted
    known = ledger.uncertain | accepted
    counted = Counter(key for key, _ in found.rows)
    rows_, dead_ = counted.keys(), {key for key, _ in found.dead}
    spooled, pending = ({key for key, _ in place} for place in (found.spooled, found.pending))
    everywhere = rows_ | dead_ | spooled | pending
    places = [*found.rows, *found.dead, *found.spooled, *found.pending]

    wrong: dict[str, Iterable[str]] = {
        "lost": accepted.keys() - everywhere,
        "duplicated": {key for key, times in counted.items() if times > 1} | (rows_ & dead_),
        "corrupt": {key for key, digest in places if key in known and known[key] != digest},
        "damaged in the spool": found.damaged,
        "spurious": everywhere - known.keys(),
        "dead, and should not be": dead_ - set(dead),
        "not dead, and should be": set(dead) - dead_,
    }
    if settled:
        wrong["left in the spool"] = spooled
        wrong["left on the stream"] = pending
    complaints = [_complaint(what, list(keys)) for what, keys in wrong.items() if keys]
    sums = (
        f"{len(accepted)} accepted; {counted.total()} rows, {len(dead_)} dead letters, "
        f"{len(spooled)} spooled, {len(pending)} pending"
    )
    assert not complaints, f"{'; '.join(complaints)} ({sums})"
    if settled:
        certain = accepted.keys() - ledger.uncertain.keys()
        surplus = len(everywhere & ledger.uncertain.keys())
        total = counted.total() + len(dead_) + len(spooled) + len(pending)
        assert total == len(certain) + surplus, f"the sums differ: {sums}"


def conserved(status: dict[str, Any]) -> None:
    """Assert that what a worker says of itself adds up, to the event."""
    parts = ("inserted", "duplicate", "dead", "spooled", "given_back", "in_flight")
    counts = {name: status[name] for name in parts}
    assert status["read"] == sum(counts.values()), f"read {status['read']} is not {counts}"


def _complaint(what: str, keys: list[str]) -> str:
    shown = ", ".join(sorted(keys)[:_SHOWN])
    return f"{len(keys)} {what} (first: {shown})"
