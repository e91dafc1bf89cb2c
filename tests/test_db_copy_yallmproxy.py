"""`spoolway db copy` from a yaLLMproxy file: its rows keep what they said, under ids that sort."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from spoolway.schema import is_uuid7, time_of
from spoolway.spool import DeadLetters
from tests.commands import Ended, run
from tests.stores import Database

pytest_plugins = ("tests.store_fixtures",)

# As its own models make them (src/database/models), on SQLite.
SCHEMA = """
CREATE TABLE request_logs (
    request_time DATETIME NOT NULL, model_name VARCHAR(255) NOT NULL, is_stream BOOLEAN NOT NULL,
    path VARCHAR(512), method VARCHAR(10), "query" VARCHAR(1024), headers JSON, body JSON,
    route JSON, backend_attempts JSON, stream_chunks JSON, errors JSON, usage_stats JSON,
    outcome VARCHAR(50), duration_ms INTEGER, request_path VARCHAR(1024), stop_reason VARCHAR(50),
    full_response TEXT, is_tool_call BOOLEAN NOT NULL, tool_calls JSON, conversation_turn INTEGER,
    modules_log JSON, id UUID NOT NULL, created_at DATETIME NOT NULL, PRIMARY KEY (id)
);
CREATE TABLE request_metadata (
    request_time DATETIME NOT NULL, model_name VARCHAR(255) NOT NULL, is_stream BOOLEAN NOT NULL,
    path VARCHAR(512), method VARCHAR(10), "query" VARCHAR(1024), request_path VARCHAR(1024),
    outcome VARCHAR(50), duration_ms INTEGER, stop_reason VARCHAR(50),
    is_tool_call BOOLEAN NOT NULL, conversation_turn INTEGER, app_key_id VARCHAR(255),
    backend_name VARCHAR(255), backend_status INTEGER, prompt_tokens INTEGER,
    completion_tokens INTEGER, total_tokens INTEGER, cached_tokens INTEGER,
    reasoning_tokens INTEGER, tokens_per_second FLOAT, weighted_tokens FLOAT,
    full_request_path VARCHAR(2048), full_request_expires_at DATETIME, id UUID NOT NULL,
    created_at DATETIME NOT NULL, PRIMARY KEY (id)
);
CREATE TABLE error_logs (
    timestamp DATETIME NOT NULL, model_name VARCHAR(255), error_type VARCHAR(100) NOT NULL,
    error_message TEXT NOT NULL, backend_name VARCHAR(255), http_status INTEGER,
    request_path VARCHAR(1024), request_log_id UUID, extra_context JSON, id UUID NOT NULL,
    created_at DATETIME NOT NULL, PRIMARY KEY (id)
);
"""
# An older file has no NOT NULL where a later release put one.
LENIENT = SCHEMA.replace(" NOT NULL", "")
WHEN = "2026-03-29 01:30:00.123456"  # naive, and UTC: in Europe's summer time there is none such


def make(path: Path, schema: str = SCHEMA, **tables: list[dict[str, Any]]) -> None:
    """Write a file as yaLLMproxy leaves it."""
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript(schema)
        for table, rows in tables.items():
            for row in rows:
                names = ", ".join(f'"{name}"' for name in row)
                marks = ", ".join("?" * len(row))
                file.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [*row.values()])


def a_request(**fields: Any) -> dict[str, Any]:
    """Return a request's row; ids are 32 hex digits, as SQLAlchemy writes them there."""
    known = {"id": uuid4().hex, "request_time": WHEN, "created_at": WHEN, "model_name": "m"}
    return {**known, "is_stream": 1, "is_tool_call": 0, **fields}


def an_error(**fields: Any) -> dict[str, Any]:
    """Return an error's row."""
    known = {"id": uuid4().hex, "timestamp": WHEN, "created_at": WHEN, "error_type": "timeout"}
    return {**known, "error_message": "too late", **fields}


def copy(file: Path, target: Database, state: Path, *arguments: str) -> Ended:
    """Run the copy in this process."""
    url = target.url.render_as_string(hide_password=False)
    options = ["--from", f"sqlite:///{file}", "--to", url, "--json", *arguments]
    return run("db", "copy", *options, SPOOLWAY_DIR=str(state))


def by_original(target: Database, table: str, column: str) -> dict[str, dict[str, Any]]:
    """Return the rows by the id that they had."""
    found = asyncio.run(target.rows(table))
    return {row[column]["yallmproxy_id"]: row for row in found}


def test_requests_errors_and_their_links_arrive_once_with_ids_of_their_time(
    newest_logs: Database, tmp_path: Path
) -> None:
    """Every column has a place; the id is of the request's time, and the same at the next run."""
    full = a_request(
        body='{"messages": [{"role": "user", "content": "é \\u0000"}]}',
        headers='{"x": "1e400"}',
        usage_stats='{"prompt_tokens": 3}',
        outcome="success",
        duration_ms=12,
        stop_reason="stop",
        full_response="hello",
        tool_calls='[{"id": "call"}]',
        conversation_turn=2,
        path="/v1/chat/completions",
    )
    both = a_request(body="[1]")
    narrow = a_request(prompt_tokens=7, app_key_id="key", backend_status=200, backend_name="b")
    linked = an_error(request_log_id=narrow["id"], extra_context='{"a": 1}')
    dangling = an_error(request_log_id=uuid4().hex, http_status=500)
    file = tmp_path / "yaLLM.db"
    make(
        file,
        request_logs=[full, both],
        request_metadata=[{**a_request(), "id": both["id"], "prompt_tokens": 9}, narrow],
        error_logs=[linked, dangling, an_error()],
    )
    first = copy(file, newest_logs, tmp_path / "state")
    assert first.code == 0, first
    assert first.json["source"] == "yallmproxy"
    assert (first.json["rows"], first.json["inserted"], first.json["is_same"]) == (6, 6, True)
    again = copy(file, newest_logs, tmp_path / "state")
    assert (again.code, again.json["inserted"], again.json["duplicate"]) == (0, 0, 6)

    requests = by_original(newest_logs, "request_logs", "extra")
    when = datetime.fromisoformat(WHEN).replace(tzinfo=UTC)
    for row in requests.values():
        assert is_uuid7(row["id"])
        assert time_of(row["id"]) == when.replace(microsecond=123_000)
        assert (row["request_time"], row["created_at"]) == (when, when)
    row = requests[str(UUID(full["id"]))]
    assert row["body"] == {"messages": [{"role": "user", "content": "é �"}]}
    assert (row["headers"], row["usage_stats"]) == (
        {"x": "1e400"},
        {"prompt_tokens": ("number", 3)},
    )
    assert (row["outcome"], row["duration_ms"], row["is_stream"]) == ("success", 12.0, True)
    assert (row["stop_reason"], row["path"]) == ("stop", full["path"])
    assert row["extra"]["full_response"] == "hello"
    assert row["extra"]["tool_calls"] == [{"id": "call"}]
    assert row["extra"]["is_tool_call"] is False
    assert row["extra"]["_altered"] == ["body"]
    row = requests[str(UUID(both["id"]))]
    assert (row["body"], row["prompt_tokens"]) == ([("number", 1)], 9)
    row = requests[str(UUID(narrow["id"]))]
    assert (row["prompt_tokens"], row["http_status"], row["api_key_id"]) == (7, 200, "key")
    assert row["extra"]["backend_name"] == "b"

    errors = by_original(newest_logs, "error_logs", "extra_context")
    row = errors[str(UUID(linked["id"]))]
    assert row["request_log_id"] == requests[str(UUID(narrow["id"]))]["id"]
    assert row["extra_context"]["a"] == ("number", 1)
    row = errors[str(UUID(dangling["id"]))]
    assert (row["request_log_id"], row["http_status"]) == (None, 500)
    reference = str(UUID(dangling["request_log_id"]))
    assert row["extra_context"]["yallmproxy_request_log_id"] == reference


def test_no_odd_row_is_skipped_in_silence(sqlite_logs: Database, tmp_path: Path) -> None:
    """Text that is no JSON, no time, ids that SQLite took for numbers: kept, or a dead letter."""
    digits = "12345678901234567890123456789012"
    rows = [
        a_request(body="no json {", outcome="strange", headers="5", model_name=None),
        a_request(request_time=None),
        a_request(request_time="yesterday", created_at="0001-01-01 00:00:00"),
        a_request(id=digits, path="a\0b"),
        a_request(route=b"\xff\xfe", query="\ud800".encode(errors="surrogatepass")),
    ]
    file = tmp_path / "yaLLM.db"
    make(file, LENIENT, request_logs=rows, error_logs=[an_error(request_log_id=digits)])
    rehearsed = copy(file, sqlite_logs, tmp_path / "state", "--dry-run")
    assert (rehearsed.json["inserted"], rehearsed.json["dead"]) == (5, 1)
    for inserted in (5, 0):
        done = copy(file, sqlite_logs, tmp_path / "state")
        assert (done.code, done.json["rows"], done.json["inserted"]) == (1, 6, inserted), done
        assert (done.json["dead"], done.json["conflict"]) == (1, 0)
        assert done.json["tables"]["request_logs"]["differing_days"] == {}
    [kept] = [kept.letter for kept in DeadLetters(tmp_path / "state" / "dead").letters()]
    assert kept is not None
    assert "no time" in kept.message
    assert b"yesterday" in kept.raw
    requests = by_original(sqlite_logs, "request_logs", "extra")
    row = requests[str(UUID(rows[0]["id"]))]
    assert (row["body"], row["headers"]) == ("no json {", ("number", 5))
    assert (row["outcome"], row["extra"]["outcome"]) == (None, "strange")
    assert requests[str(UUID(rows[1]["id"]))]["request_time"].year == 2026
    [(number, of_digits)] = [
        (name, row) for name, row in requests.items() if row["path"] is not None
    ]
    assert float(number) == float(digits)  # all that SQLite has kept of it
    assert of_digits["path"] == "a�b"
    [error] = asyncio.run(sqlite_logs.rows("error_logs"))
    assert error["request_log_id"] == of_digits["id"]
