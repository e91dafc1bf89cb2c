"""Who records, where to, and how that breaks: one contestant's servers in one round."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

from benchmarks.proxied.app import Recorder
from benchmarks.servers import VALKEY_SETTINGS
from spoolway.schema import DEFAULT_STREAM, RequestEvent, decode_frame, decode_line
from spoolway.spool.record import event_of
from tests.servers import PostgresServer, ValkeyServer, redis_binaries

Fault = Literal["stopped", "hung", "full"]
DATABASE: Final = "bench"


class LostRequests(Exception):
    """Not every request that was answered is recorded: its figures mean nothing."""


@dataclass(slots=True, frozen=True)
class Contestant:
    """One line of the table."""

    name: str
    """How `--contestant` calls it."""
    title: str
    """How the report calls it."""
    recorder: Recorder
    fault: Fault | None = None


CONTESTANTS: Final = (
    Contestant("none", "not recorded", "none"),
    Contestant("spoolway", "Spoolway", "spoolway"),
    Contestant("stopped", "Spoolway, Redis stopped", "spoolway", "stopped"),
    Contestant("hung", "Spoolway, Redis hung", "spoolway", "hung"),
    Contestant("full", "Spoolway, Redis full", "spoolway", "full"),
    Contestant("orm", "SQLAlchemy ORM, commit in each request", "orm"),
)


@dataclass(slots=True, frozen=True)
class Recording:
    """Where one proxy records to."""

    arguments: list[str]
    """What the proxy is told."""
    break_down: Callable[[], None]
    """Have the fault happen, if there is one."""
    check: Callable[[int], None]
    """Raise LostRequests unless so many are recorded. Called when the proxy has ended."""


@contextmanager
def recording(
    contestant: Contestant, folder: Path, postgres: PostgresServer | None
) -> Iterator[Recording]:
    """Start what a contestant records to, in a new folder; it ends with the block."""
    arguments = ["--recorder", contestant.recorder]
    if contestant.recorder == "none":
        yield Recording(arguments, _nothing, lambda _answered: None)
    elif contestant.recorder == "orm":
        if postgres is None:
            raise ValueError("the ORM records to PostgreSQL")
        server = postgres
        server.sql("TRUNCATE request_logs, error_logs", DATABASE)
        server.sql("CHECKPOINT", DATABASE)

        def count_rows(answered: int) -> None:
            rows = int(server.sql("SELECT count(*) FROM request_logs", DATABASE))
            _must_be(contestant, rows, answered)

        url = server.url(DATABASE)
        yield Recording([*arguments, "--database-url", url], _nothing, count_rows)
    else:
        binary = next(iter(redis_binaries().values()))
        with ValkeyServer(
            binary, folder / "valkey", append_only="everysec", extra=VALKEY_SETTINGS
        ) as valkey:
            yield _spoolway(contestant, arguments, folder / "proxy", valkey)


def _spoolway(
    contestant: Contestant, arguments: list[str], folder: Path, valkey: ValkeyServer
) -> Recording:
    def break_down() -> None:
        if contestant.fault == "stopped":
            valkey.stop()
        elif contestant.fault == "hung":
            valkey.suspend()
        elif contestant.fault == "full":
            with valkey.client() as client:
                client.config_set("maxmemory", 1)

    def check(answered: int) -> None:
        if contestant.fault == "stopped":
            valkey.start()
        elif contestant.fault == "hung":
            valkey.resume()
        spooled = _spooled(folder / "spool")
        if contestant.fault and not spooled:
            raise LostRequests(f"{contestant.title}: nothing was spooled: the fault has not fired")
        _must_be(contestant, len(spooled | _pushed(valkey)), answered)

    folder.mkdir(parents=True)
    redis = ["--redis-url", valkey.url, "--folder", str(folder)]
    return Recording([*arguments, *redis], break_down, check)


def _nothing() -> None:
    """Break nothing."""


def _must_be(contestant: Contestant, recorded: int, answered: int) -> None:
    if recorded != answered:
        raise LostRequests(
            f"{contestant.title}: {recorded} requests recorded, {answered} were answered"
        )


def _spooled(folder: Path) -> set[UUID]:
    """Return the ids of the requests in a spool."""
    found: set[UUID] = set()
    for path in folder.glob("*.jsonl*"):
        with path.open("rb") as file:
            found |= _ids(filter(None, map(event_of, file)))
    return found


def _pushed(valkey: ValkeyServer) -> set[UUID]:
    """Return the ids of the requests on the stream."""
    with valkey.client(timeout=60) as client:
        return _ids(
            line for _, fields in client.xrange(DEFAULT_STREAM) for line in decode_frame(fields)
        )


def _ids(lines: Iterable[bytes]) -> set[UUID]:
    events = map(decode_line, lines)
    return {event.id for event in events if isinstance(event, RequestEvent)}
