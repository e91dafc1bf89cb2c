"""Requests and errors over HTTP: what a token sees, pages, exports, and what is as it was stored."""

import asyncio
import csv
import io
import json
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from spoolway.worker.reading.failures import TooSlow, Unavailable
from spoolway.worker.reading.logs import SUMMARY, WHOLE
from spoolway.worker.serve.answers import ApiError
from spoolway.worker.serve.export import BrokenOffError, Export
from spoolway.worker.serve.limits import MOST_EXPORTS, Slots
from spoolway.worker.stores import Item
from tests.serving_api import ALL, error_of, serving, settings_for
from tests.stores import Database, error, request, requests

pytest_plugins = ["tests.store_fixtures"]

NDJSON: Final = "application/x-ndjson"
ALICE, ACME = "of-alice-only-00001", "of-acme-only-000001"
TOKENS: Final = [
    {"name": "alice", "token": ALICE, "users": ["alice"]},
    {"name": "acme", "token": ACME, "organizations": ["acme"]},
    {"name": "both", "token": "alice-in-acme-00001", "users": ["alice"], "organizations": ["acme"]},
]


async def stored(logs: Database, *items: Item) -> None:
    """Put events into a database as the worker does."""
    async with logs.opened() as store:
        await store.write(items)


def bearer(token: str) -> dict[str, str]:
    """Headers with a token."""
    return {"authorization": f"Bearer {token}"}


def ids(rows: list[dict[str, Any]]) -> list[str]:
    """The ids of rows."""
    return [row["id"] for row in rows]


async def test_a_token_sees_its_rows_and_nothing_of_others(logs: Database, tmp_path: Path) -> None:
    """At no path, by no filter, in no export, with no id: what is not in its scope is not there."""
    mine = request(user_id="alice", organization_id="acme", body={"text": "common words"})
    elsewhere = request(user_id="alice", organization_id="other", body={"text": "common words"})
    others = request(user_id="bob", organization_id="acme", body={"text": "common secret"})
    nobodys = request(body={"text": "common"})
    faults = [error(each, error_type="Boom") for each in (mine, elsewhere, others, nobodys)]
    await stored(logs, mine, elsewhere, others, nobodys, *faults, error(error_type="Loose"))
    of_token = {
        ALICE: [mine, elsewhere],
        ACME: [mine, others],
        "alice-in-acme-00001": [mine],
        ALL: [mine, elsewhere, others, nobodys],
    }
    settings = settings_for(logs, tmp_path, api_token=ALL, api_tokens=TOKENS)
    async with serving(settings) as client:
        for token, seen in of_token.items():
            client.headers["authorization"] = f"Bearer {token}"
            expected = {str(each.event.id) for each in seen}
            for query in ("", "q=common", "user=alice&user=bob&user=", "outcome=success"):
                found = (await client.get(f"/api/logs?{query}")).json()["data"]
                assert set(ids(found)) <= expected, (token, query)
                assert "user" in query or set(ids(found)) == expected, (token, query)
            assert set(ids((await client.get("/api/tail")).json()["data"])) == expected
            lines = (await client.get("/api/logs?format=ndjson&whole=true")).text.splitlines()
            assert {json.loads(line)["id"] for line in lines} == expected
            for each in (mine, elsewhere, others, nobodys):
                answer = await client.get(f"/api/logs/{each.event.id}")
                assert answer.status_code == (200 if each in seen else 404)
                assert ("secret" in answer.text) == (each is others and each in seen)
            of_seen = {
                str(fault.event.id)
                for fault, of in zip(faults, (mine, elsewhere, others, nobodys), strict=True)
                if of in seen
            }
            for path in ("/api/errors?error_type=Boom", "/api/tail?errors=1&error_type=Boom"):
                assert set(ids((await client.get(path)).json()["data"])) == of_seen, path
            loose = (await client.get("/api/errors?error_type=Loose")).json()["data"]
            assert len(loose) == (token == ALL)
        client.headers["authorization"] = f"Bearer {ALICE}"
        assert (await client.get("/api/logs?user=bob")).json()["data"] == []
        assert (await client.get("/api/logs?q=secret")).json()["data"] == []


async def test_a_request_is_shown_as_it_was_stored(logs: Database, tmp_path: Path) -> None:
    """Every column, every digit, hostile text and all; its errors, the oldest first."""
    body = {"n": 12345678901234567890, "x": 0.1, "text": "<script>\u2028\U0001f600\x1b[31m"}
    item = request(body=body, model_name="=cmd|' /C calc'!A0", errors=[{"a": None}])
    await stored(logs, item, error(item, error_type="first"), error(item, error_type="second"))
    async with serving(settings_for(logs, tmp_path)) as client:
        answer = await client.get(f"/api/logs/{item.event.id}")
        found = answer.json()
        assert found.keys() == {*(column.name for column in WHOLE), "error_logs"}
        assert found["body"] == body
        assert "12345678901234567890" in answer.text
        assert found["errors"] == [{"a": None}]
        assert found["headers"] is None
        assert [each["error_type"] for each in found["error_logs"]] == ["first", "second"]
        assert datetime.fromisoformat(found["request_time"]).tzinfo == UTC
        [row] = (await client.get("/api/logs")).json()["data"]
        assert row.keys() == {column.name for column in SUMMARY}


async def test_pages_go_on_where_the_last_one_ended(sqlite_logs: Database, tmp_path: Path) -> None:
    """Newest first, each row once, whatever comes in meanwhile; the last page has no `next`."""
    items = requests(25, model_name="m")
    await stored(sqlite_logs, *items)
    newest_first = sorted((str(item.event.id) for item in items), reverse=True)
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        found: list[str] = []
        after: str | None = None
        for _ in range(3):
            query = {"limit": "10", "model": "m"} | ({"after": after} if after else {})
            page = (await client.get("/api/logs", params=query)).json()
            assert page["complete"] is True
            found += ids(page["data"])
            after = page["next"]
            await stored(sqlite_logs, *requests(2, model_name="m"))
        assert (found, after) == (newest_first, None)


async def test_tail_goes_on_without_a_gap(sqlite_logs: Database, tmp_path: Path) -> None:
    """Asked again with `now`, it has what is new, and a little of what was there."""
    first, second = request(), request()
    await stored(sqlite_logs, first)
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        found = (await client.get("/api/tail")).json()
        assert ids(found["data"]) == [str(first.event.id)]
        await stored(sqlite_logs, second)
        again = (await client.get("/api/tail", params={"since": found["now"]})).json()
        assert ids(again["data"])[-1] == str(second.event.id)
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        nothing = (await client.get("/api/tail", params={"since": later})).json()
        assert nothing["data"] == []
        refused = await client.get("/api/tail?errors=1&user=x")
        assert error_of(refused)[2] == "an error event has a model and no user: leave that out"


async def test_exports_have_everything_that_matches(logs: Database, tmp_path: Path) -> None:
    """As lines of JSON or as CSV with a header, by `format` or Accept; as attachments."""
    await stored(logs, *requests(30, model_name="a", body={"x": 1}), *requests(5, model_name="b"))
    async with serving(settings_for(logs, tmp_path)) as client:
        for asked in (
            client.get("/api/logs?model=a&format=ndjson"),
            client.get("/api/logs?model=a", headers={"accept": NDJSON}),
        ):
            answer = await asked
            assert answer.headers["content-type"] == NDJSON
            assert answer.headers["content-disposition"] == 'attachment; filename="requests.ndjson"'
            rows = [json.loads(line) for line in answer.text.splitlines()]
            assert len(rows) == 30
            assert rows[0].keys() == {column.name for column in SUMMARY}
            assert ids(rows) == sorted(ids(rows), reverse=True)
        answer = await client.get("/api/logs?format=csv&whole=1", headers={"accept": "text/html"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(table) == 35
        assert list(table[0]) == [column.name for column in WHOLE]
        assert all(json.loads(row["body"]) == {"x": 1} for row in table if row["model_name"] == "a")
        nothing = await client.get("/api/errors?format=csv")
        assert nothing.text.splitlines()[0].startswith("id,")
        assert (await client.get("/api/errors?format=ndjson")).content == b""
        head = await client.head("/api/logs?format=csv")
        assert (head.status_code, head.content) == (200, b"")


async def test_no_cell_of_a_csv_is_a_formula(sqlite_logs: Database, tmp_path: Path) -> None:
    """What begins as one has a ' before it, also as JSON; numbers stay numbers; commas are quoted."""
    evil = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x","y")']
    evil += ["\uff1d1", "\uff0b1", "\uff0d1", "\uff20A1"]
    await stored(
        sqlite_logs,
        *(request(model_name=text, body=text, user_id='a,"b"\nc') for text in evil),
        request(model_name="fine", duration_ms=-1.5),
    )
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        answer = await client.get("/api/logs?format=csv&whole=true")
        table = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert sorted(row["model_name"] for row in table) == sorted(
            ["fine", *("'" + x for x in evil)]
        )
        for row in table:
            for cell in row.values():
                assert not cell.startswith(("=", "+", "@", "\t", "\r"))
        assert {row["duration_ms"] for row in table} == {"", "-1.5"}
        assert {row["user_id"] for row in table} == {"", 'a,"b"\nc'}


class Rows:
    """Rows of a database that fails at some point, or waits."""

    def __init__(self, count: int, then: BaseException | None = None) -> None:
        self.count, self.then = count, then
        self.closed = False
        self.read = 0

    async def __call__(self) -> AsyncIterator[dict[str, Any]]:
        """Yield them."""
        try:
            for number in range(self.count):
                self.read += 1
                yield {"id": number, "text": "x" * 200}
                await asyncio.sleep(0)
            if self.then is not None:
                raise self.then
        finally:
            self.closed = True


class Client:
    """The other side of an ASGI application."""

    def __init__(self, *, hangs_up_after: int | None = None) -> None:
        self.messages: list[Any] = []
        self.bytes = 0
        self.last = b""
        self._left = asyncio.Event()
        self._hangs_up_after = hangs_up_after

    async def receive(self) -> dict[str, Any]:
        """Wait until it hangs up."""
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Take a piece."""
        if message["type"] == "http.response.start":
            self.messages.append(message)
            return
        self.bytes += len(message["body"])
        self.last = message["body"] or self.last
        if self._hangs_up_after is not None and self.bytes > self._hangs_up_after:
            self._left.set()
        await asyncio.sleep(0)


async def exported(rows: Rows, kind: str, client: Client, slots: Slots | None = None) -> None:
    """Export rows to a client."""
    export = Export(rows(), slots or Slots(1), kind=kind, name="x", columns=["id", "text"])
    await export({"type": "http", "method": "GET"}, client.receive, client.send)


async def test_an_export_that_breaks_says_so() -> None:
    """NDJSON ends with an error; a CSV is cut; what fails before the first row is a plain error."""
    for failure in (Unavailable("away"), TooSlow(5)):
        client, rows = Client(), Rows(1_000, failure)
        await exported(rows, "ndjson", client)
        last = json.loads(client.last.splitlines()[-1])
        assert last["error"]["code"] in ("unavailable", "too-slow")
        assert last["error"]["message"] == str(failure)
        with pytest.raises(BrokenOffError):
            await exported(Rows(1_000, failure), "csv", Client())
        client = Client()
        with pytest.raises(type(failure)):
            await exported(Rows(0, failure), "ndjson", client)
        assert client.messages == []
        assert rows.closed


async def test_an_export_stops_when_its_client_hangs_up() -> None:
    """No row is read for nobody, and its place is free for the next."""
    slots = Slots(1)
    for _ in range(MOST_EXPORTS + 1):
        rows = Rows(10_000_000)
        await exported(rows, "csv", Client(hangs_up_after=1_000_000), slots)
        assert rows.closed
        assert rows.read < 20_000


async def test_an_export_takes_the_same_memory_however_long_it_is() -> None:
    """Six MB in less than one."""
    for kind in ("ndjson", "csv"):
        client = Client()
        tracemalloc.start()
        try:
            await exported(Rows(30_000), kind, client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert client.bytes > 6_000_000
        assert peak < 1_000_000


async def test_only_a_few_exports_run_at_once() -> None:
    """One more is told to come again; it has not begun."""
    slots, client = Slots(1), Client()
    with slots.export(), slots.export():
        with pytest.raises(ApiError) as busy:
            await exported(Rows(1), "csv", client, slots)
        assert (busy.value.status, busy.value.code) == (503, "busy")
        assert client.messages == []


async def test_a_csv_that_breaks_is_seen_by_an_ordinary_client(
    sqlite_logs: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunked body has no end: every HTTP client fails, and none takes it for whole."""
    await stored(sqlite_logs, *requests(3))

    def broken(self: object, *_: object, **__: object) -> AsyncIterator[dict[str, Any]]:
        return Rows(5_000, Unavailable("away"))()

    monkeypatch.setattr("spoolway.worker.reading.logs.Logs.export", broken)
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/logs?format=csv")
        lines = (await client.get("/api/logs?format=ndjson")).text.splitlines()
        assert json.loads(lines[-1]) == {"error": {"code": "unavailable", "message": "away"}}
