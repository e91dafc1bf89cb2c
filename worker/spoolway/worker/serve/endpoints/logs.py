"""Requests and errors: listed, one by one, exported, and as they come."""

from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Column
from starlette.types import ASGIApp

from spoolway.worker.reading.errors import COLUMNS as ERROR_COLUMNS
from spoolway.worker.reading.errors import ErrorQuery, Errors
from spoolway.worker.reading.failures import BadQuery
from spoolway.worker.reading.filters import COLUMNS as DIMENSIONS
from spoolway.worker.reading.listing import Page
from spoolway.worker.reading.logs import SUMMARY, WHOLE, LogQuery, Logs
from spoolway.worker.reading.period import LONGEST, Period, moment
from spoolway.worker.serve.answers import ApiError, json_response
from spoolway.worker.serve.asking import FILTERS, PERIOD, filters_of, period_of
from spoolway.worker.serve.endpoint import Asked, Endpoint
from spoolway.worker.serve.export import Export
from spoolway.worker.serve.parameters import (
    Parameter,
    choice,
    flag,
    identifier,
    integer,
    number,
    text,
)
from spoolway.worker.serve.schemas import TEXT, TIME, TRUTH, list_of, nullable, record, row_of

MOST_ROWS: Final = 500
"""Of a page."""
_ROWS: Final = 50
_LOOK_BACK: Final = timedelta(seconds=5)
"""A transaction that began before another may end after it: its rows are older than some seen."""
_TAIL_ROWS: Final = 200
_TAIL: Final = timedelta(minutes=1)
_LONGEST_TAIL: Final = timedelta(hours=1)
_KINDS: Final = {"application/x-ndjson": "ndjson", "text/csv": "csv"}

_STATUS: Final = text(
    "status", "HTTP status: 500, or 4xx; empty: none", longest=3, is_repeatable=True
)
_MODEL: Final = next(each for each in FILTERS if each.name == "model")
_ERROR_TYPE: Final = text("error_type", "With an error event of this type", is_repeatable=True)
_PAGING: Final = (
    integer("limit", f"Rows of a page. Default: {_ROWS}", 1, MOST_ROWS, None),
    text("after", "The `next` of the page before", longest=64),
    choice(
        "format",
        "ndjson and csv are everything that matches, streamed; as Accept says without it",
        ("json", "ndjson", "csv"),
    ),
)
_LOGS: Final[tuple[Parameter, ...]] = (
    *PERIOD,
    *FILTERS,
    _STATUS,
    text("path", "The path that was called; /v1/* is all that begin so", is_repeatable=True),
    text("request_id", "The client's or the proxy's id, or ours", is_repeatable=True),
    flag("is_stream", "Streamed answers alone, or others alone"),
    number("min_duration_ms", "At least so long"),
    number("max_duration_ms", "At most so long"),
    flag("has_error", "With any error event, or without"),
    _ERROR_TYPE,
    text("q", "Text in bodies, answers and errors: all of these words"),
    *_PAGING,
    flag("whole", "In an export: every column, bodies too", default=False),
)
_AS_GIVEN: Final = (
    *("status", "path", "request_id", "error_type", "has_error", "is_stream"),
    *("min_duration_ms", "max_duration_ms"),
)
_ERRORS: Final[tuple[Parameter, ...]] = (
    *PERIOD,
    _MODEL,
    _ERROR_TYPE,
    text("backend", "Of this backend", is_repeatable=True),
    _STATUS,
    identifier("request", "Of the request with this id"),
    text("q", "Text in error_message: all of these words"),
    *_PAGING,
)


async def logs(asked: Asked) -> ASGIApp:
    """Return a page of requests, or all that match."""
    given = asked.query
    query = LogQuery(
        period=_period(asked),
        filters=filters_of(asked),
        scope=asked.caller.scope,
        q=given["q"] or "",
        **{name: given[name] for name in _AS_GIVEN},
    )
    source = Logs(asked.sources.database, fragments=True)
    kind = _kind(asked)
    if kind != "json":
        whole = asked.query["whole"]
        rows = source.export(query, whole=whole)
        return _export(asked, rows, kind, "requests", WHOLE if whole else SUMMARY)
    return _page(await source.page(query, after=asked.query["after"], limit=_limit(asked)))


async def one(asked: Asked) -> ASGIApp:
    """Return a request with everything, and its errors."""
    try:
        log_id = _ID.read(asked.path["id"])
    except ValueError as error:
        raise BadQuery(f"the id in the path {error}") from None
    source = Logs(asked.sources.database, fragments=True)
    found = await source.one(log_id, asked.caller.scope)
    if found is None:
        raise ApiError(
            404, "not-found", "there is no request with this id, or it is not for this token"
        )
    return json_response(found)


async def errors(asked: Asked) -> ASGIApp:
    """Return a page of errors, or all that match."""
    query = ErrorQuery(
        period=_period(asked),
        scope=asked.caller.scope,
        model=asked.query["model"],
        error_type=asked.query["error_type"],
        backend=asked.query["backend"],
        status=asked.query["status"],
        request=asked.query["request"],
        q=asked.query["q"] or "",
    )
    source = Errors(asked.sources.database, fragments=True)
    kind = _kind(asked)
    if kind != "json":
        return _export(asked, source.export(query), kind, "errors", ERROR_COLUMNS)
    return _page(await source.page(query, after=asked.query["after"], limit=_limit(asked)))


async def tail(asked: Asked) -> ASGIApp:
    """Return what has come in since a moment, oldest first."""
    given = asked.query["since"]
    since = moment("since", given, now=asked.now) if given else asked.now - _TAIL
    since = max(since, asked.now - _LONGEST_TAIL)
    limit = asked.query["limit"]
    rows: list[dict[str, Any]]
    if asked.query["errors"]:
        others = [name for name in DIMENSIONS if name != "model" and asked.query[name]]
        if others:
            raise BadQuery(f"an error event has a model and no {others[0]}: leave that out")
        query = ErrorQuery(
            scope=asked.caller.scope,
            model=asked.query["model"],
            error_type=asked.query["error_type"],
        )
        errors_of = Errors(asked.sources.database, fragments=True)
        rows = await errors_of.recent(query, since=since - _LOOK_BACK, limit=limit)
    else:
        logs_of = Logs(asked.sources.database, fragments=True)
        wanted = LogQuery(
            filters=filters_of(asked),
            scope=asked.caller.scope,
            error_type=asked.query["error_type"],
        )
        rows = await logs_of.recent(wanted, since=since - _LOOK_BACK, limit=limit)
    newest = max((row["created_at"] for row in rows), default=None)
    return json_response({"data": rows, "now": newest or since})


def _period(asked: Asked) -> Period | None:
    """Return the period that is asked for; without any, everything is looked at."""
    if asked.query["from"] is None and asked.query["to"] is None:
        return None
    return period_of(asked, default=LONGEST)


def _limit(asked: Asked) -> int:
    limit: int | None = asked.query["limit"]
    return _ROWS if limit is None else limit


def _kind(asked: Asked) -> str:
    """Return the form of the answer: what is asked for, else what the client takes, else JSON."""
    kind: str | None = asked.query["format"]
    if kind is None:
        accepted = (each.partition(";")[0].strip().lower() for each in asked.accept.split(","))
        kind = next((_KINDS[each] for each in accepted if each in _KINDS), "json")
    for name in ("limit", "after"):
        if kind != "json" and asked.query[name] is not None:
            raise BadQuery(f"{name} is for pages: an export is everything, leave it out")
    if kind == "json" and asked.query.get("whole"):
        raise BadQuery("whole is for exports: add format=ndjson, or ask for /api/logs/{id}")
    return kind


def _export(
    asked: Asked,
    rows: AsyncIterator[dict[str, Any]],
    kind: str,
    name: str,
    columns: Iterable[Column[Any]],
) -> ASGIApp:
    names = [column.name for column in columns]
    return Export(rows, asked.sources.slots, kind=kind, name=name, columns=names)


def _page(page: Page) -> ASGIApp:
    return json_response({"data": page.data, "next": page.next, "complete": page.complete})


def _page_of(columns: Iterable[Column[Any]]) -> Any:
    return record(data=list_of(row_of(columns)), next=nullable(TEXT), complete=TRUTH)


_ID: Final = identifier("id", "Of the request")
_ONE: Final = {
    **row_of(WHOLE),
    "properties": {
        **row_of(WHOLE)["properties"],
        "error_logs": list_of(row_of(ERROR_COLUMNS)),
    },
}
ENDPOINTS: Final = (
    Endpoint(
        "/api/logs",
        "logs",
        "Requests without their bodies, newest first; go on with `next`, which may be there also "
        "where a page has fewer rows than asked for: `complete` is false, the time was over",
        logs,
        _page_of(SUMMARY),
        _LOGS,
        streams=True,
    ),
    Endpoint(
        "/api/logs/{id}",
        "log",
        "A request with its bodies, and its errors, the oldest first",
        one,
        _ONE,
        path_parameters=(_ID,),
        errors=(404,),
    ),
    Endpoint(
        "/api/errors",
        "errors",
        "Error events, newest first",
        errors,
        _page_of(ERROR_COLUMNS),
        _ERRORS,
        streams=True,
    ),
    Endpoint(
        "/api/tail",
        "tail",
        "What has come in of late, oldest first: ask again with `now` as `since`, and leave out the "
        "ids that are there already",
        tail,
        record(
            data=list_of({"anyOf": [row_of(SUMMARY), row_of(ERROR_COLUMNS)]}),
            now=TIME,
        ),
        (
            text(
                "since", "Since when: as `from`. At most an hour ago. Default: a minute", longest=64
            ),
            flag("errors", "Error events instead of requests", default=False),
            *FILTERS,
            _ERROR_TYPE,
            integer("limit", "The newest of them", 1, MOST_ROWS, _TAIL_ROWS),
        ),
        is_polled=True,
    ),
)
