"""The rows as they arrive: read from SQLite, shown as a table, compared with the ledger."""

import json
import sqlite3
from collections import Counter, deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.ledger import Ledger
from spoolway.schema import lower_bound

OUTCOMES: Final = {"success": "green", "error": "red", "cancelled": "yellow"}
"""Each outcome and its colour."""
KEPT_ROWS: Final = 50

_ARRIVED: Final = """
SELECT rowid, id, request_time, model_name, is_stream, outcome, http_status, prompt_tokens,
       completion_tokens, ttft_ms, duration_ms, user_id
FROM request_logs WHERE rowid > ? ORDER BY rowid
"""
_ARRIVED_ERRORS: Final = "SELECT rowid, id FROM error_logs WHERE rowid > ? ORDER BY rowid"
_SENT: Final = """
SELECT id, outcome, (SELECT count(*) FROM error_logs WHERE request_log_id = request_logs.id)
FROM request_logs WHERE id IN (SELECT value FROM json_each(?))
"""


class Rows:
    """The rows that arrive while the demo runs."""

    def __init__(self, database: Path) -> None:
        """Open the migrated database, to read only; what is in it already is not looked at."""
        self._connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
        self._connection.row_factory = sqlite3.Row
        # Rows of an earlier run may arrive, if it was killed: they are shown, but not counted.
        self._first_id = str(lower_bound(datetime.now(UTC)))
        self._last = {table: self._newest(table) for table in ("request_logs", "error_logs")}
        self.latest: deque[sqlite3.Row] = deque(maxlen=KEPT_ROWS)
        """Newest first."""
        self.outcomes: Counter[str] = Counter()
        self.errors = 0

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def look(self) -> None:
        """Take notice of what has arrived since the last look."""
        for row in self._connection.execute(_ARRIVED, [self._last["request_logs"]]):
            self._last["request_logs"] = row["rowid"]
            self.latest.appendleft(row)
            self.outcomes[row["outcome"]] += row["id"] >= self._first_id
        for row in self._connection.execute(_ARRIVED_ERRORS, [self._last["error_logs"]]):
            self._last["error_logs"] = row["rowid"]
            self.errors += row["id"] >= self._first_id

    def settle(self, ledger: Ledger) -> int:
        """Tell the ledger which of its open requests are there; return how many are not."""
        for row in self._connection.execute(_SENT, [json.dumps(list(ledger.open))]):
            ledger.settle(*row)
        return len(ledger.open)

    def _newest(self, table: str) -> int:
        query = f"SELECT coalesce(max(rowid), 0) FROM {table}"  # noqa: S608 - one of two names above
        return int(self._connection.execute(query).fetchone()[0])


def live_table(rows: Rows, queue: int | None, most: int) -> RenderableType:
    """Return the newest rows, at most `most`, and under them the counts."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("time", "model", "answer", "outcome", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("tokens in+out", "first token", "duration"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in list(rows.latest)[:most]:
        table.add_row(
            _local_time(row["request_time"]),
            row["model_name"] or "-",
            "stream" if row["is_stream"] else "whole",
            Text(row["outcome"], style=OUTCOMES[row["outcome"]]),
            str(row["http_status"] or "-"),
            _tokens(row),
            _ms(row["ttft_ms"]),
            _ms(row["duration_ms"]),
        )
    counts = Text()
    for outcome, colour in OUTCOMES.items():
        counts.append(f"{outcome} {rows.outcomes[outcome]}", style=colour).append("   ")
    counts.append(f"errors {rows.errors}   queue {'?' if queue is None else queue}")
    return Group("", table, "", counts)


def summary(rows: Rows) -> str:
    """Return the counts of this run as plain lines."""
    lines = [f"  {outcome:<10}{rows.outcomes[outcome]:>6}" for outcome in OUTCOMES]
    return "\n".join(
        [
            *lines,
            f"  {'requests':<10}{rows.outcomes.total():>6}",
            f"  {'errors':<10}{rows.errors:>6}  (each linked to its request)",
        ]
    )


def _local_time(text: str) -> str:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).astimezone().strftime("%H:%M:%S")


def _tokens(row: sqlite3.Row) -> str:
    if row["prompt_tokens"] is None:
        return "-"
    return f"{row['prompt_tokens']}+{row['completion_tokens']}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
