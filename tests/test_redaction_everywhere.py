"""From the proxy to the database, through every disk and every log: no secret is anywhere."""

import io
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from spoolway.producer import Producer, Redaction
from spoolway.schema import decode_frame, new_id
from spoolway.spool import SpoolFolder
from tests.commands import run
from tests.secrets_corpus import remains, secrets
from tests.servers import ValkeyServer, eventually
from tests.workers import WorkerProcess, drained, ending, spooled

SECRETS = secrets()
AGES_AGO = datetime.now(UTC) - timedelta(days=4_000)
UPSTREAM = "ConnectError: POST https://me:{0}@host/v1?key={0}&x=1 failed: Authorization: Bearer {0}"


def events() -> Iterator[dict[str, Any]]:
    """Each secret in every place that an event has."""
    for secret in SECRETS.values():
        text = f"I use {secret} for it."
        json_text = '{"api_key": "' + secret.replace("\n", "\\n") + '", "n": 1}'
        everything = {
            "query": f"api_key={secret}&page=2",
            "headers": {"authorization": f"Bearer {secret}", "cookie": secret, "x-plain": text},
            "body": {"messages": [{"role": "user", "content": text}], "password": secret},
            "response": {"choices": [{"message": {"tool_calls": [{"arguments": json_text}]}}]},
            "stream_chunks": ["data: " + json_text, text],
            "backend_attempts": [{"request_headers": [["x-api-key", secret]], "error": text}],
            "errors": [{"error_message": UPSTREAM.format(secret)}],
            "route": {secret: repr({"token": secret})},
            "usage_stats": {"nested": [[[{"client_secret": [secret]}]]]},
            "path": f"/v1/x/{secret}",
            "user_id": text,
            "unknown": text,
            "extra": {"text": "x " * 600 + secret},
        }
        yield {"type": "request", **everything}
        yield {
            "type": "error",
            "error_type": "ConnectError",
            "error_message": UPSTREAM.format(secret),
            "request_path": f"/v1/x?token={secret}",
            "extra_context": {"exception": repr(ValueError(secret)), "headers": {"a": text}},
        }


def found_in(data: bytes) -> list[str]:
    """The families of which a part is in these bytes."""
    return [name for name, secret in SECRETS.items() if any(p in data for p in remains(secret))]


def in_files(folder: Path) -> dict[str, list[str]]:
    """What is found in the raw bytes of each file below a folder."""
    found = {path: found_in(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    return {str(path): families for path, families in found.items() if families}


def in_redis(server: ValkeyServer) -> bytes:
    """All keys, and all entries of all streams, unpacked."""
    out = io.BytesIO()
    with server.client() as client:
        for key in client.scan_iter():
            out.write(key)
            if client.type(key) == b"stream":
                for _, fields in client.xrange(key):
                    out.write(b"\n".join([*decode_frame(fields), *fields.values()]))
            else:
                out.write(client.dump(key) or b"")
    return out.getvalue()


def in_database(path: Path) -> bytes:
    """All values of all tables, besides the raw bytes of the files."""
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump()).encode()


def said_by(*arguments: str, folder: Path, url: str, database: str) -> bytes:
    """What a command prints, to either stream."""
    settings = {"SPOOLWAY_DIR": str(folder), "REDIS_URL": url, "DATABASE_URL": database}
    done = run(*arguments, **settings)
    return done.raw + done.err.encode()


def everything_after(
    redaction: Redaction, server: ValkeyServer, root: Path, caplog: pytest.LogCaptureFixture
) -> tuple[dict[str, bytes], dict[str, list[str]]]:
    """Send the corpus every way there is; return what can be looked at, and what files hold."""
    looked_at: dict[str, bytes] = {}
    proxy, folder = root / "proxy", root / "worker"
    database = root / "logs.db"
    url = f"sqlite:///{database}"
    worker = WorkerProcess(
        url, server.url, folder, SPOOLWAY_LOG_LEVEL="DEBUG", SPOOLWAY_STARTUP_TIMEOUT="0.5"
    )
    in_spools: dict[str, list[str]] = {}

    server.kill()
    with Producer(server.url, folder=proxy, redaction=redaction, linger=0.01) as producer:
        # What is refused, and logged.
        for secret in SECRETS.values():
            assert not producer.emit({"type": secret, "id": secret})
            producer._say_rejected._next = 0  # each of them is said
        sent = list(events())
        for event in sent:
            assert producer.emit(event)
        # To the proxy's disk, while Redis is away.
        eventually(lambda: producer.stats.spooled == len(sent), timeout=20)
        in_spools |= in_files(proxy)
        looked_at["stats of the producer"] = repr(producer.stats).encode()
        server.start()
        eventually(lambda: producer.stats.unspooled == len(sent), timeout=20)
        # Straight to Redis: other events, and what will be refused: too old, or with the same id.
        conflict = new_id()
        for number, event in enumerate(events()):
            assert producer.emit(event)
            assert producer.emit({**event, "id": new_id(lambda: int(AGES_AGO.timestamp() * 1e9))})
            if event["type"] == "request":
                assert producer.emit({**event, "id": conflict, "prompt_tokens": number})
        assert producer.flush(20)
        looked_at["redis"] = in_redis(server)

        # To the worker's disk, while the database is no database.
        database.mkdir()
        with ending(worker):
            worker.start()
            eventually(lambda: spooled(folder) > 0, timeout=30)
            drained(server, worker)
            in_spools |= in_files(folder)
            assert worker.terminate() == 0
        database.rmdir()
        with ending(worker):
            worker.started()
            eventually(lambda: not SpoolFolder(folder / "spool").segments(), timeout=30)
            drained(server, worker)
            for command in (["dead", "ls"], ["dead", "ls", "--json"], ["status", "--json"]):
                said = said_by(*command, folder=folder, url=server.url, database=url)
                looked_at[" ".join(command)] = said
            for letter in _letters(looked_at["dead ls --json"]):
                shown = said_by(
                    "dead", "show", letter, "--raw", folder=folder, url="", database=url
                )
                looked_at[f"dead show {letter}"] = shown
            assert worker.terminate() == 0
    looked_at["database"] = in_database(database)
    looked_at["log of the worker"] = worker.output().encode()
    looked_at["log of the producer"] = caplog.text.encode()
    assert looked_at["database"].count(b"INSERT INTO") > 3 * len(SECRETS)
    assert list((folder / "dead").glob("*.jsonl"))
    return looked_at, {**in_spools, **in_files(root)}


def _letters(listing: bytes) -> list[str]:
    letters = orjson.loads(listing)["letters"]
    assert {letter["reason"] for letter in letters} >= {"conflict"}
    return [str(letter["id"]) for letter in letters[:3]]


@pytest.mark.parametrize(
    "scan",
    [
        pytest.param(True, id="scanned"),
        pytest.param(False, id="proof that it can fail", marks=pytest.mark.chaos),
    ],
)
def test_no_secret_is_anywhere(
    scan: bool, private_valkey: ValkeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in Redis, on a disk, in a row, a dead letter, a log or a command's output.

    The same corpus without the search through bodies and texts is found in all of them: what is
    looked for can be there.
    """
    with caplog.at_level(logging.DEBUG):
        looked_at, in_spools = everything_after(
            Redaction(scan=scan), private_valkey, tmp_path, caplog
        )

    found = {place: families for place, data in looked_at.items() if (families := found_in(data))}
    if scan:
        assert found == {}
        assert in_spools == {}
        return
    assert found.keys() >= {"redis", "database"}
    assert set(found["redis"]) == set(found["database"]) == set(SECRETS)
    assert any(place.startswith("dead show") for place in found)
    for part in ("proxy/spool", "worker/spool", "worker/dead", "logs.db"):
        assert any(part in path for path in in_spools), part
    assert "log of the producer" not in found
