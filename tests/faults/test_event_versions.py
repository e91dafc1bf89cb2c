"""Fault 16: errors before their requests, unknown fields, and events of older and newer versions."""

import random

import pytest

from spoolway.schema import encode_line, new_id
from tests.faults.oracle import key_and_hash
from tests.faults.site import Site, error_line
from tests.workers import request_line, rows


def test_errors_that_come_first_are_stored_at_once_and_linked_later(site: Site) -> None:
    """An error never waits for its request; when that comes, in whatever order, they are linked."""
    requests = [request_line(model_name="m", body={"n": n}) for n in range(300)]
    errors = [
        error_line(request_id=key_and_hash(line)[0], error_message=f"of {n}")
        for n, line in enumerate(requests)
    ]
    site.worker(SPOOLWAY_BATCH_EVENTS="40").started()
    site.send(errors, per_frame=7)
    site.settle()
    [(stored,)] = rows(site.database, "SELECT count(*) FROM error_logs")
    assert stored == 300, "all errors are there before the first request"
    random.Random(1).shuffle(requests)
    site.send(requests, per_frame=11)
    site.proven(fired=stored)
    unlinked = "SELECT count(*) FROM error_logs WHERE request_log_id IS NULL"
    assert rows(site.database, unlinked) == [(0,)]


OLDEST = b'{"type":"request","id":"%s","body":{"oldest":true}}'
"""What every version sends, and no more."""
NEWER = {
    "tokens_per_second": 17.5,
    "tool_calls": [{"name": "search", "ok": True}],
    "nested": {"unknown": {"deeply": None}},
    "v": 7,
}
"""Columns that this version does not know."""
OTHERWISE = {"http_status": "200", "is_stream": 1, "duration_ms": "12.5", "prompt_tokens": 7.0}
"""What an older one sends with another type."""


@pytest.mark.parametrize(
    "either_logs",
    ["postgresql", pytest.param("sqlite", marks=pytest.mark.chaos)],
    indirect=True,
)
def test_events_of_older_and_newer_versions_are_all_stored(either_site: Site) -> None:
    """Fields that are missing, unknown, or of another type never kill an event."""
    site = either_site
    site.worker().started()
    lines = []
    for n in range(50):
        lines += [
            OLDEST % str(new_id()).encode(),
            request_line(body={"n": n}, **NEWER),
            request_line(body={"n": n}, **OTHERWISE),
            error_line(error_message=f"of {n}", **NEWER),
            encode_line({"type": "error", "id": new_id()}),
        ]
    site.send(lines, per_frame=5)
    found = site.proven(fired=True)
    assert len(found.rows) == 251
    kept = "SELECT count(*) FROM request_logs WHERE CAST(extra AS text) LIKE '%tool_calls%'"
    assert rows(site.database, kept) == [(50,)]
    fitted = "SELECT count(*) FROM request_logs WHERE http_status = 200 AND prompt_tokens = 7"
    assert rows(site.database, fitted) == [(50,)]
