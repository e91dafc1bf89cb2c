"""Disks that fail, and disks that remember: what a power cut may leave of a folder of files.

The rules of what survives are weaker than any real file system's. An fsync of a file keeps its
bytes, and not its name; an fsync of the folder keeps names, and not bytes. Of all that came since,
any part may be there and any may not, in any order, and a write may be there in part. After an
fsync that failed, no later one brings back what it was about.
"""

import errno
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from spoolway.spool import Damaged, Disk, SpoolFolder

ROOM = 1 << 40
INTERRUPT = -1
"""In the place of an errno: Ctrl-C at that time."""


@dataclass(slots=True)
class Op:
    """One call to the disk that changed something, or made it last."""

    kind: str
    file: int = 0
    """Which file it is about, whatever its name; 0 for the folder."""
    name: str = ""
    target: str = ""
    offset: int = 0
    data: bytes = b""
    failed: bool = False


@dataclass(slots=True)
class Mark:
    """What the workload promised, or what was promised to it, between two operations."""

    kind: str
    events: Sequence[bytes]


class Fault(Enum):
    """How a call fails: in front of what it does, or after it."""

    BEFORE = "before"
    AFTER = "after"


class TestDisk(Disk):
    """The real disk, without its fsyncs; `fails` says which of its calls do not succeed, and `log` what happened.

    `fails(number, kind)` is asked before each call, counted from 1. It returns the errno to raise,
    or None. A write that fails has taken the first half.
    """

    __test__ = False  # no test, whatever its name begins with

    def __init__(
        self,
        fails: Callable[[int, str], int | None] = lambda _number, _kind: None,
        fault: Fault = Fault.BEFORE,
    ) -> None:
        self.fails = fails
        self.fault = fault
        self.calls = 0
        self.fired: list[str] = []
        self.log: list[Op | Mark] = []
        self._files: dict[int, int] = {}
        self._ids = itertools.count(1)

    def mark(self, kind: str, events: Sequence[bytes]) -> None:
        """Note a promise: "tried", "kept" (append has returned) or "replayed"."""
        self.log.append(Mark(kind, list(events)))

    def _do(self, kind: str, call: Callable[[], object]) -> bool:
        """Call, or not; return whether it is to fail."""
        self.calls += 1
        number = self.fails(self.calls, kind)
        if number is None or self.fault is Fault.AFTER:
            call()
        if number is None:
            return False
        self.fired.append(kind)
        self._errno = number
        return True

    def _raise(self) -> None:
        if self._errno == INTERRUPT:
            raise KeyboardInterrupt
        raise OSError(self._errno, os.strerror(self._errno))

    def create(self, path: Path) -> int:
        """Make a file, as the real disk does."""
        made: list[int] = []

        def call() -> None:
            made.append(Disk.create(self, path))
            self._files[made[0]] = next(self._ids)
            self.log.append(Op("create", self._files[made[0]], path.name))

        if self._do("create", call):
            for descriptor in made:
                os.close(descriptor)
            self._raise()
        return made[0]

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append; the half of it, if it is to fail."""
        taken: list[int] = []

        def put(part: bytes) -> None:
            offset = os.fstat(descriptor).st_size
            taken.append(Disk.write(self, descriptor, part))
            self.log.append(
                Op("write", self._files[descriptor], offset=offset, data=part[: taken[0]])
            )

        if self._do("write", lambda: None):
            put(bytes(data)[: len(data) // 2])
            self._raise()
        put(bytes(data))
        return taken[0]

    def sync(self, descriptor: int) -> None:
        """Note an fsync: what it is worth is `power_cuts`' matter, and no real power is cut here.

        One that fails has lost what it was about, whether it did something or not.
        """
        failed = self._do("sync", lambda: None)
        self.log.append(Op("sync", self._files[descriptor], failed=failed))
        if failed:
            self._raise()

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file."""

        def call() -> None:
            Disk.truncate(self, descriptor, size)
            self.log.append(Op("truncate", self._files[descriptor], offset=size))

        if self._do("truncate", call):
            self._raise()

    def rename(self, path: Path, target: Path) -> None:
        """Rename a file."""

        def call() -> None:
            Disk.rename(self, path, target)
            self.log.append(Op("rename", name=path.name, target=target.name))

        if self._do("rename", call):
            self._raise()

    def remove(self, path: Path) -> None:
        """Remove a file."""

        def call() -> None:
            Disk.remove(self, path)
            self.log.append(Op("remove", name=path.name))

        if self._do("remove", call):
            self._raise()

    def sync_folder(self, path: Path) -> None:
        """Note an fsync of a folder; one that fails has lost what it was about."""
        failed = self._do("sync_folder", path.stat)
        self.log.append(Op("sync_folder", name=path.name, failed=failed))
        if failed:
            self._raise()

    def free_bytes(self, path: Path) -> int:  # noqa: ARG002 - the signature is Disk's
        """Never full by itself: what else runs on this machine is not part of the test."""
        return ROOM


def only(*numbers: int, code: int = errno.EIO) -> Callable[[int, str], int | None]:
    """Return what fails these calls, counted from 1."""
    return lambda number, _kind: code if number in numbers else None


def from_call(first: int, code: int = errno.EIO) -> Callable[[int, str], int | None]:
    """Return what fails this call and all that follow."""
    return lambda number, _kind: code if number >= first else None


@dataclass(slots=True)
class Found:
    """What a folder of segments gives back."""

    events: list[bytes] = field(default_factory=list)
    damaged: list[tuple[str, Damaged]] = field(default_factory=list)
    """By the segment's name."""
    torn: int = 0
    """Bytes."""


def read_back(folder: Path) -> Found:
    """Take every segment of a folder, read it and leave it. Fails if one cannot be taken."""
    found = Found()
    spool = SpoolFolder(folder)
    for file in spool.segments():
        segment = spool.take(file)
        assert segment is not None, f"{file.path.name} is locked"
        for chunk in segment.chunks(100, 1 << 20):
            found.events += chunk.lines
            found.damaged += [(file.path.name, damaged) for damaged in chunk.damaged]
        found.torn += segment.torn_bytes
        segment.release()
    return found


# --- What a power cut leaves --------------------------------------------------------


@dataclass(slots=True)
class _Change:
    op: Op
    is_durable: bool = False
    is_lost: bool = False
    """Its fsync failed: no later one makes it durable."""


@dataclass(slots=True)
class Cut:
    """A disk as the power cut left it, and what was promised before."""

    files: dict[str, bytes]
    kept: frozenset[bytes]
    """Events that an append has returned for, and that were not replayed."""
    tried: frozenset[bytes]
    """Events that were ever given to an append."""
    synced: dict[str, int]
    """Bytes of each file that cannot be torn."""


@dataclass(slots=True)
class _Model:
    folder: str
    names: list[_Change] = field(default_factory=list)
    bytes_of: dict[int, list[_Change]] = field(default_factory=dict)
    kept: set[bytes] = field(default_factory=set)
    tried: set[bytes] = field(default_factory=set)

    def apply(self, entry: Op | Mark) -> None:
        if isinstance(entry, Mark):
            if entry.kind == "tried":
                self.tried.update(entry.events)
            elif entry.kind == "kept":
                self.kept.update(entry.events)
            else:
                self.kept.difference_update(entry.events)
        elif entry.kind in {"create", "rename", "remove"}:
            self.names.append(_Change(entry))
        elif entry.kind in {"write", "truncate"}:
            self.bytes_of.setdefault(entry.file, []).append(_Change(entry))
        elif entry.kind == "sync" or entry.name == self.folder:
            is_sync = entry.kind == "sync"
            for change in self.bytes_of.get(entry.file, []) if is_sync else self.names:
                if entry.failed:
                    change.is_lost = change.is_lost or not change.is_durable
                elif not change.is_lost:
                    change.is_durable = True


def power_cuts(
    log: Sequence[Op | Mark], folder: str, *, in_order: bool = False, most: int = 4_000
) -> Iterator[Cut]:
    """Yield every disk that a cut at any time may leave, each once. `folder` is its name.

    `in_order`: files keep their bytes from the start, and names come and go in the order they did,
    as on a disk that loses the newest. Raises AssertionError if one moment has over `most` states.
    """
    model = _Model(folder)
    seen: set[tuple[frozenset[tuple[str, bytes]], frozenset[bytes]]] = set()
    for entry in [Mark("tried", []), *log]:
        model.apply(entry)
        if isinstance(entry, Mark) and entry.kind != "kept":
            continue
        for count, (files, synced) in enumerate(_states(model, in_order)):
            assert count < most, "too large a workload for every state to be looked at"
            kept = frozenset(model.kept)
            key = (frozenset(files.items()), kept)
            if key not in seen:
                seen.add(key)
                yield Cut(files, kept, frozenset(model.tried), synced)


def _states(model: _Model, in_order: bool) -> Iterator[tuple[dict[str, bytes], dict[str, int]]]:
    choices = _prefixes if in_order else _subsets
    for changes in choices(model.names):
        linked: dict[str, int] = {}
        for op in changes:
            if op.kind == "create":
                linked[op.name] = op.file
            elif op.kind == "rename":
                linked.pop(op.name, None)
                linked[op.target] = _file_of(model, op.name)
            else:
                linked.pop(op.name, None)
        contents = [list(_contents(model.bytes_of.get(f, []), in_order)) for f in linked.values()]
        for combination in itertools.product(*contents):
            files = dict(zip(linked, combination, strict=True))
            yield files, {name: _synced(model.bytes_of.get(f, [])) for name, f in linked.items()}


def _file_of(model: _Model, name: str) -> int:
    return next(c.op.file for c in model.names if c.op.kind == "create" and c.op.name == name)


def _subsets(changes: Sequence[_Change]) -> Iterator[list[Op]]:
    each = [[True] if change.is_durable else [False, True] for change in changes]
    for chosen in itertools.product(*each):
        yield [change.op for change, there in zip(changes, chosen, strict=True) if there]


def _prefixes(changes: Sequence[_Change]) -> Iterator[list[Op]]:
    first = max((n + 1 for n, change in enumerate(changes) if change.is_durable), default=0)
    for end in range(first, len(changes) + 1):
        yield [change.op for change in changes[:end] if change.is_durable or not change.is_lost]


def _contents(changes: Sequence[_Change], in_order: bool) -> Iterator[bytes]:
    """Yield each content that a file may have, once."""
    seen: set[bytes] = set()
    if in_order:
        first = max((n + 1 for n, change in enumerate(changes) if change.is_durable), default=0)
        sequences: Iterator[tuple[bytes | int | None, ...]] = (
            (*map(_whole, changes[: end - 1]), torn) if end else ()
            for end in range(first, len(changes) + 1)
            for torn in (_parts(changes[end - 1])[:6] if end else [None])
        )
    else:
        sequences = itertools.product(*map(_parts, changes))
    for sequence in sequences:
        content = bytearray()
        for change, part in zip(changes, sequence, strict=False):
            if isinstance(part, int):
                del content[part:]
                content.extend(bytes(part - len(content)))
            elif part is not None:
                at = change.op.offset
                content.extend(bytes(max(0, at - len(content))))
                content[at : at + len(part)] = part
        found = bytes(content)
        if found not in seen:
            seen.add(found)
            yield found


def _whole(change: _Change) -> bytes | int:
    return change.op.offset if change.op.kind == "truncate" else change.op.data


def _parts(change: _Change) -> list[bytes | int | None]:
    """What may be left of a change: all, none, the beginning; or room that nothing is in."""
    whole = _whole(change)
    if change.is_durable:
        return [whole]
    if isinstance(whole, int):
        return [None, whole]
    half = len(whole) // 2
    return [
        None,
        whole,
        whole[:half],
        whole[:-1],
        bytes(len(whole)),
        whole[:half] + bytes(len(whole) - half),
        bytes(half) + whole[half:],  # the last one: not possible in order
    ]


def _synced(changes: Sequence[_Change]) -> int:
    """Return the bytes that all durable changes together make up."""
    size = 0
    for change in changes:
        if change.is_durable:
            op = change.op
            size = op.offset if op.kind == "truncate" else max(size, op.offset + len(op.data))
    return size
