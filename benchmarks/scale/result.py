"""What a run measured: written as JSON, and read again by whoever predicts from it."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from benchmarks.scale.costs import Cost
from benchmarks.scale.fitting import NoCosts
from benchmarks.scale.indexes import WithoutIndex
from benchmarks.scale.rows import ByRows
from benchmarks.scale.waiting import ByBacklog
from benchmarks.scale.workers import ByWorkers

_FOLDER: Final = Path(__file__).parent.parent / "results"
_PREFIX: Final = "scale-"


@dataclass(slots=True)
class Result:
    """All turns of all parts that were run. Seconds, bytes, events."""

    at: str
    machine: dict[str, Any]
    servers: dict[str, Any]
    quick: bool
    workers: list[ByWorkers] = field(default_factory=list)
    rows: list[ByRows] = field(default_factory=list)
    backlog: list[ByBacklog] = field(default_factory=list)
    indexes: list[WithoutIndex] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)


def write(result: Result, path: Path | None) -> Path:
    """Write it to a file, by default a new one in results/."""
    path = path or _FOLDER / f"{_PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        orjson.dumps(asdict(result), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    return path


def read(path: Path) -> Result:
    """Read what `write` wrote."""
    return msgspec.convert(orjson.loads(path.read_bytes()), Result)


def latest_with_costs(folder: Path = _FOLDER) -> Path:
    """Return the newest run that has the costs of events of all sizes.

    Raises:
        NoCosts: there is none.
    """
    for path in sorted(folder.glob(f"{_PREFIX}*.json"), reverse=True):
        result = read(path)
        if result.costs and not result.quick:
            return path
    raise NoCosts(f"no run in {folder} has them")
