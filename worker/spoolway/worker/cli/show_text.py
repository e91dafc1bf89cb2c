"""A request, or an error, as text to read: what is known of it, why it failed, what was said.

Everything in it came from a client or a backend: each line is made printable, and without `full`
none is longer than a person reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spoolway.worker.cli.amounts import co2, duration, energy, money, whole
from spoolway.worker.cli.shown import printable
from spoolway.worker.cli.streamed import streamed
from spoolway.worker.cli.turns import Part, Turn, answer, as_json, question, text_of, truncated

_LABEL: Final = 13
_MOST_LINES: Final = 20
_MOST_CHARACTERS: Final = 2_000
"""Of a part of a message, unless all of it is asked for."""
_TAB: Final = 4
_JSON: Final = ("usage_stats", "route", "headers", "extra", "enriched", "truncated")
"""Columns that are shown as they are."""
_WHO: Final = {
    "user": "user_id",
    "key": "api_key_id",
    "organization": "organization_id",
    "project": "project_id",
}
_CONVERSATION: Final = ("body", "response", "stream_chunks")


@dataclass(slots=True, frozen=True)
class Line:
    """One line, already printable."""

    text: str
    is_head: bool = False
    is_bad: bool = False


def request_text(row: Mapping[str, Any], *, full: bool) -> Iterator[Line]:
    """Yield a request with its errors, its attempts and its messages."""
    yield Line(f"request {row['id']}", is_head=True)
    yield from _fields(_of_request(row))
    errors = row["error_logs"] or row["errors"] or []
    if errors:
        failed = row["outcome"] == "error"
        yield from _head("why it failed" if failed else "errors on the way")
        for error in _mappings(errors):
            yield from _error(error, full=full)
    if attempts := _mappings(row["backend_attempts"]):
        yield from _head("attempts")
        for number, attempt in enumerate(attempts, start=1):
            yield from _attempt(number, attempt, full=full)
    turns = [
        *question(row["body"]),
        *answer(row["response"]),
        *streamed(row["stream_chunks"] or []),
    ]
    if turns:
        yield from _head("messages")
        yield from _conversation(turns, full=full)
    for name in (*_JSON, *(_CONVERSATION if full else ())):
        if row[name] not in (None, [], {}):
            yield from _head(name)
            yield from _indented(as_json(row[name]), "  ", full=full)


def error_text(row: Mapping[str, Any], *, full: bool) -> Iterator[Line]:
    """Yield an error event."""
    yield Line(f"error {row['id']}", is_head=True)
    request = row["request_log_id"] or row["request_id"]
    missing = "" if row["request_log_id"] or request is None else ", which is not there (yet)"
    yield from _fields(
        {
            "time": _time(row["timestamp"]),
            "type": row["error_type"],
            "status": row["http_status"],
            "model": row["model_name"],
            "backend": row["backend_name"],
            "path": row["request_path"],
            "request": request and f"{request}{missing}",
        }
    )
    if row["error_message"]:
        yield from _head("message")
        yield from _indented(row["error_message"], "  ", full=full, is_bad=True)
    if row["extra_context"] not in (None, {}):
        yield from _head("extra_context")
        yield from _indented(as_json(row["extra_context"]), "  ", full=full)


def _of_request(row: Mapping[str, Any]) -> dict[str, object]:
    status = f", HTTP {row['http_status']}" if row["http_status"] is not None else ""
    ttft = f", first token after {duration(row['ttft_ms'])}" if row["ttft_ms"] is not None else ""
    took = None if row["duration_ms"] is None else f"{duration(row['duration_ms'])}{ttft}"
    query = f"?{row['query']}" if row["query"] else ""
    path = " ".join(filter(None, (row["method"], f"{row['path'] or ''}{query}")))
    who = [f"{what} {row[column]}" for what, column in _WHO.items() if row[column]]
    answered = [row["provider"] and f"by {row['provider']}"]
    if row["provider_model"] not in (None, row["model_name"]):
        answered.append(f"as {row['provider_model']}")
    return {
        "time": _time(row["request_time"]),
        "outcome": f"{row['outcome'] or 'unknown'}{status}",
        "model": " ".join(filter(None, (row["model_name"], *answered))),
        "path": path,
        "duration": took,
        "stream": {True: "yes", False: "no"}.get(row["is_stream"]),
        "tokens": _tokens(row),
        "cost": row["cost"] if row["cost"] is None else f"{money(row['cost'])}{_by(row, 'cost')}",
        "footprint": _footprint(row),
        "stop reason": row["stop_reason"],
        "who": ", ".join(who),
        "client": row["client_ip"],
        "request_id": row["request_id"],
        "committed": _time(row["created_at"]),
    }


def _tokens(row: Mapping[str, Any]) -> str | None:
    named = {"total": "in all", "prompt": "asked", "completion": "answered"}
    named |= {"cached": "cached", "reasoning": "reasoning"}
    known = [
        f"{whole(row[f'{name}_tokens'])} {what}"
        for name, what in named.items()
        if row[f"{name}_tokens"] is not None
    ]
    return ", ".join(known) or None


def _footprint(row: Mapping[str, Any]) -> str | None:
    if row["kwh_max"] is None and row["kgco2eq_max"] is None:
        return None
    used = energy(row["kwh_min"], row["kwh_max"])
    carbon = co2(row["kgco2eq_min"], row["kgco2eq_max"])
    return f"{used}, {carbon} CO2eq{_by(row, 'footprint')}"


def _by(row: Mapping[str, Any], what: str) -> str:
    """Return who has worked it out, where the proxy did not send it."""
    filled = row["enriched"].get(what) if isinstance(row["enriched"], Mapping) else None
    return f", by {filled.get('by')}" if isinstance(filled, Mapping) else ""


def _error(error: Mapping[str, Any], *, full: bool) -> Iterator[Line]:
    status = error.get("http_status")
    said = (
        _time(error.get("timestamp")),
        error.get("error_type"),
        None if status is None else f"HTTP {status}",
        error.get("backend_name") and f"from {error['backend_name']}",
    )
    yield Line("  " + "  ".join(_line(part) for part in said if part), is_bad=True)
    if error.get("error_message"):
        yield from _indented(text_of(error["error_message"]), "    ", full=full, is_bad=True)
    if full and error.get("extra_context") not in (None, {}):
        yield from _indented(as_json(error["extra_context"]), "    ", full=full)


def _attempt(number: int, attempt: Mapping[str, Any], *, full: bool) -> Iterator[Line]:
    known = dict(attempt)
    status, took = known.pop("http_status", None), known.pop("duration_ms", None)
    backend = known.pop("backend", None)
    kind, message = known.pop("error_type", None), known.pop("error_message", None)
    said = [
        f"{number}.",
        _line(backend),
        None if status is None else f"HTTP {_line(status)}",
        duration(took) if isinstance(took, (int, float)) else None,
        _line(kind),
    ]
    yield Line("  " + "  ".join(filter(None, said)), is_bad=bool(kind or message))
    if message:
        yield from _indented(text_of(message), "     ", full=full, is_bad=True)
    if known:
        yield from _indented(as_json(known), "     ", full=full)


def _conversation(turns: Sequence[Turn], *, full: bool) -> Iterator[Line]:
    for turn in turns:
        yield Line(f"  {_line(turn.role)}", is_head=True)
        for part in turn.parts:
            yield from _part(part, full=full)


def _part(part: Part, *, full: bool) -> Iterator[Line]:
    named = part.text if part.kind == "text" else f"[{part.kind}] {part.text}"
    yield from _indented(named, "    ", full=full, is_bad=part.kind == "error")


def _indented(text: str, indent: str, *, full: bool, is_bad: bool = False) -> Iterator[Line]:
    """Yield a text line by line; of one that is too long, its beginning and how much is left out."""
    text = text.replace("\r\n", "\n")
    # Where a terminal would begin a line: not where Unicode has further ends of lines.
    lines = text.split("\n") if full else text[:_MOST_CHARACTERS].split("\n")[:_MOST_LINES]
    left = len(text) - len("\n".join(lines))
    for line in lines:
        yield Line(f"{indent}{printable(line.expandtabs(_TAB))}".rstrip(), is_bad=is_bad)
    if left > 0:
        yield Line(f"{indent}... {left:,} more characters: --full shows them")


def _fields(fields: Mapping[str, object]) -> Iterator[Line]:
    for name, value in fields.items():
        if value not in (None, ""):
            is_bad = name == "outcome" and str(value).startswith("error")
            yield Line(f"  {name:{_LABEL}}{_line(value)}", is_bad=is_bad)


def _head(text: str) -> Iterator[Line]:
    yield Line("")
    yield Line(text, is_head=True)


def _line(value: object) -> str:
    """Return a value on one line."""
    return printable(" ".join(text_of(value).split()))


def _time(text: object) -> str:
    """Return 2026-01-31T23:59:59.123456Z as people write it, to the millisecond."""
    return f"{str(text)[:23].replace('T', ' ')} UTC" if isinstance(text, str) else ""


def _mappings(value: object) -> list[Mapping[str, Any]]:
    if marker := truncated(value):
        return [{"error_message": marker.text}]
    if not isinstance(value, list):
        return []
    return [one if isinstance(one, Mapping) else {"error_message": one} for one in value]
