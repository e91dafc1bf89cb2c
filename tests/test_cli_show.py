"""`spoolway show`: one request or error, found by whatever somebody has of its id."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from spoolway.schema import new_id
from spoolway.worker.reading.logs import Logs
from spoolway.worker.stores import Item
from tests.commands import Ended, refusal, run
from tests.either_database import HOSTILE, either, is_inert, put, url_of
from tests.reading_database import reading
from tests.servers.ports import ReservedPort
from tests.stores import Database, error, request

__all__ = ["either"]
pytest_plugins = ["tests.store_fixtures"]


def show(logs: Database | str, *arguments: str) -> Ended:
    """Run `spoolway show`, in this process."""
    url = logs if isinstance(logs, str) else url_of(logs)
    return run("show", *arguments, DATABASE_URL=url)


def failed_request() -> list[Item]:
    """A request that failed at its second backend, and its two errors."""
    made = request(
        model_name="gpt-4o",
        outcome="error",
        http_status=502,
        duration_ms=31_200,
        method="POST",
        path="/v1/chat/completions",
        request_id="req_8f14e45f",
        user_id="alice",
        api_key_id="ci",
        cost=0.0012,
        prompt_tokens=10,
        completion_tokens=2,
        total_tokens=12,
        kwh_min=0.001,
        kwh_max=0.002,
        kgco2eq_min=0.0001,
        kgco2eq_max=0.0002,
        body={"messages": [{"role": "user", "content": "Hello\nthere"}]},
        response={"error": {"type": "timeout", "message": "no answer"}},
        backend_attempts=[
            {"backend": "a", "http_status": 503, "duration_ms": 1200, "error_type": "busy"},
            {"backend": "b", "duration_ms": 30_000, "error_type": "timeout"},
        ],
        headers={"accept": "*/*"},
    )
    errors = [
        error(made, error_type="busy", backend_name="a", http_status=503),
        error(made, error_type="timeout", backend_name="b", error_message="no answer in 30 s"),
    ]
    return [made, *errors]


def id_of(item: Item) -> str:
    """An event's id."""
    return str(item.event.id)


def test_a_request_is_shown_with_why_it_failed_and_what_was_said(either: Database) -> None:
    """What is known, its errors and attempts in their order, the messages to read. Exit 0."""
    made, *errors = failed_request()
    put(either, [made, *errors, request(body={"messages": []})])
    done = show(either, id_of(made))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == f"request {id_of(made)}"
    for wanted in (
        "  outcome      error, HTTP 502",
        "  model        gpt-4o by b",
        "  path         POST /v1/chat/completions",
        "  duration     31.2 s",
        "  tokens       12 in all, 10 asked, 2 answered",
        "  cost         0.0012",
        "  footprint    1 to 2 Wh, 0.1 to 0.2 g CO2eq",
        "  who          user alice, key ci",
        "  request_id   req_8f14e45f",
    ):
        assert wanted.replace(" by b", "") in lines or wanted in lines
    why, attempts, messages = (
        lines.index(name) for name in ("why it failed", "attempts", "messages")
    )
    assert lines[why + 1].endswith(" UTC  busy  HTTP 503  from a")
    assert lines[why + 2].endswith(" UTC  timeout  from b")
    assert lines[why + 3] == "    no answer in 30 s"
    assert lines[attempts + 1 : attempts + 3] == [
        "  1.  a  HTTP 503  1.20 s  busy",
        "  2.  b  30.0 s  timeout",
    ]
    assert lines[messages + 1 : messages + 6] == [
        "  user",
        "    Hello",
        "    there",
        "  error",
        "    [error] timeout: no answer",
    ]


def test_an_event_is_found_by_whatever_is_known_of_its_id(either: Database) -> None:
    """The id in either case, with or without dashes, its beginning, a request_id, an error's id."""
    made, first, _ = failed_request()
    put(either, [made, first])
    whole = id_of(made)
    for text in (whole, whole.upper(), whole.replace("-", ""), whole[:18], "req_8f14e45f"):
        assert show(either, text).out.startswith(f"request {whole}\n"), text
    of_error = show(either, id_of(first))
    assert of_error.out.startswith(f"error {id_of(first)}\n")
    assert f"  request      {whole}\n" in of_error.out


def test_an_error_whose_request_is_not_there_says_so(sqlite_logs: Database) -> None:
    """It was given an id, and nothing has come by it."""
    missing = new_id()
    alone = error(missing, error_message="x")
    put(sqlite_logs, [alone])
    assert f"{missing}, which is not there (yet)" in show(sqlite_logs, id_of(alone)).out


def test_what_is_of_several_events_is_refused_with_their_ids(sqlite_logs: Database) -> None:
    """Two requests of one request_id: the operator chooses."""
    twins = [request(request_id="twin"), request(request_id="twin")]
    put(sqlite_logs, twins)
    said = refusal(show(sqlite_logs, "twin"))
    assert "'twin' is of 2 requests: give one of " in said
    assert all(id_of(twin) in said for twin in twins)


@pytest.mark.parametrize("text", ["01890000-0000-7000-8000-000000000000", "nobody", "", "%", "'"])
def test_no_such_event_is_exit_1(sqlite_logs: Database, text: str) -> None:
    """And one line that says what to do."""
    put(sqlite_logs, [request(request_id=None)])
    done = show(sqlite_logs, text)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"spoolway: there is no request or error {text!r}: spoolway tail lists what comes in\n"
    )


def test_json_is_what_is_stored(either: Database) -> None:
    """Every column, JSON as JSON with every digit, and the request's errors."""
    made, *errors = failed_request()
    exact = request(extra=orjson.Fragment(b'{"n":12345678901234567890123}'))
    put(either, [made, *errors, exact])
    assert b'"extra":{"n":12345678901234567890123}' in (
        show(either, id_of(exact), "--json").raw.replace(b": ", b":")
    )

    async def one() -> dict[str, Any] | None:
        async with reading(either) as database:
            return await Logs(database).one(made.event.id)

    found = show(either, id_of(made), "--json").json
    assert found == orjson.loads(orjson.dumps(asyncio.run(one())))
    assert [one["error_type"] for one in found["error_logs"]] == ["busy", "timeout"]
    of_error = show(either, id_of(errors[0]), "--json").json
    assert (of_error["error_type"], of_error["request_log_id"]) == ("busy", id_of(made))


def test_a_long_message_is_cut_unless_all_of_it_is_asked_for(sqlite_logs: Database) -> None:
    """20 lines or 2,000 characters; what is left out is counted."""
    messages = [
        {"role": "user", "content": "x" * 2_500},
        {"role": "user", "content": "\n".join(f"line {n}" for n in range(100))},
    ]
    made = request(body={"messages": messages})
    put(sqlite_logs, [made])
    short = show(sqlite_logs, id_of(made)).out
    assert "x" * 2_000 in short
    assert "x" * 2_001 not in short
    assert "    ... 500 more characters: --full shows them" in short
    assert "line 19\n" in short
    assert "line 20\n" not in short
    whole = show(sqlite_logs, id_of(made), "--full").out
    assert "x" * 2_500 in whole
    assert "line 99\n" in whole
    assert "more characters" not in whole


@pytest.mark.parametrize("full", [(), ("--full",), ("--json",)], ids=["short", "full", "json"])
def test_nothing_of_a_log_reaches_the_terminal_but_text(
    sqlite_logs: Database, full: tuple[str, ...]
) -> None:
    """In every column and place: escapes, other directions of text, ends of lines, NUL."""
    said = HOSTILE.replace("\x00", "")  # no database takes it
    everywhere = {
        "model_name": said,
        "path": said,
        "query": said,
        "method": said,
        "provider": said,
        "provider_model": said,
        "user_id": said,
        "client_ip": said,
        "stop_reason": said,
        "request_id": said,
    }
    json = {
        "body": {"messages": [{"role": HOSTILE, "content": HOSTILE}, HOSTILE]},
        "response": {"choices": [{"message": {"content": [{"type": HOSTILE, "x": HOSTILE}]}}]},
        "stream_chunks": [{"choices": [{"delta": {"content": HOSTILE}}]}],
        "backend_attempts": [{"backend": HOSTILE, "error_message": HOSTILE, HOSTILE: HOSTILE}],
        "headers": {HOSTILE: HOSTILE},
        "extra": {HOSTILE: [HOSTILE]},
    }
    made = request(outcome="error", **everywhere, **json)
    failed = error(made, error_type=said, error_message=said, backend_name=said)
    put(sqlite_logs, [made, failed])
    for item in (made, failed):
        done = show(sqlite_logs, id_of(item), *full)
        assert done.code == 0
        assert is_inert(done.out)
        assert "owned" in done.out


def test_without_an_answer_it_says_why_in_one_line(tmp_path: Path) -> None:
    """No database yet, a folder in its place, a server that is away: exit 1; no password."""
    missing = f"sqlite:///{tmp_path / 'none.db'}"
    away = f"postgresql://me:s3cret@127.0.0.1:{ReservedPort().number}/logs"
    for url in (missing, f"sqlite:///{tmp_path}", away):
        done = show(url, "01890000")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("spoolway: ")
        assert len(done.err.splitlines()) == 1
        assert "s3cret" not in done.err


def test_the_flag_for_the_database_wins_over_the_replica(sqlite_logs: Database) -> None:
    """SPOOLWAY_READ_DATABASE_URL is for who names none."""
    made = request()
    put(sqlite_logs, [made])
    done = run(
        "show",
        id_of(made),
        "--database-url",
        url_of(sqlite_logs),
        SPOOLWAY_READ_DATABASE_URL="sqlite:////nowhere/logs.db",
    )
    assert done.out.startswith(f"request {id_of(made)}")
