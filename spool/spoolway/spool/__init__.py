"""The spool: events on disk while what should take them is away, and the way back.

A folder of segments: files of JSON lines, each with its checksum, that any number of processes
write and replay at once. It knows files alone: no Redis, no database, no event's content.
"""

from spoolway.spool.dead import DeadLetters
from spoolway.spool.disk import Disk
from spoolway.spool.errors import NotSpooled
from spoolway.spool.folder import SegmentFile, SpoolFolder
from spoolway.spool.letter import UNREADABLE, DeadLetter, KeptLetter
from spoolway.spool.segment import Chunk, Damaged, Segment
from spoolway.spool.writer import Limits, SpoolWriter

__all__ = [
    "UNREADABLE",
    "Chunk",
    "Damaged",
    "DeadLetter",
    "DeadLetters",
    "Disk",
    "KeptLetter",
    "Limits",
    "NotSpooled",
    "Segment",
    "SegmentFile",
    "SpoolFolder",
    "SpoolWriter",
]
