"""Periods as people write them, and filters narrowed to what a token may see. No database."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.schema.tables import error_logs, request_logs
from spoolway.schema.usage import MODEL_HOURS
from spoolway.worker.reading import BadQuery, Filters, Period, Scope
from spoolway.worker.reading.filters import COLUMNS

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def period(start: str | None, end: str | None = None) -> Period:
    """Read a period, as of NOW, of a day by default."""
    return Period.of(start, end, now=NOW, default=DAY)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (NOW - DAY, NOW)),
        ("", "", (NOW - DAY, NOW)),
        ("90m", None, (NOW - timedelta(minutes=90), NOW)),
        ("7d", "1d", (NOW - 7 * DAY, NOW - DAY)),
        ("2w", "now", (NOW - 14 * DAY, NOW)),
        (None, "1d", (NOW - 2 * DAY, NOW - DAY)),
        ("2026-03-01", "2026-03-01", (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))),
        ("1773100800", None, (datetime(2026, 3, 10, tzinfo=UTC), NOW)),
        ("2026-03-10T01:00:00+01:00", None, (datetime(2026, 3, 10, tzinfo=UTC), NOW)),
        ("2026-03-10T01:00:00 01:00", None, (datetime(2026, 3, 10, tzinfo=UTC), NOW)),
        ("2026-03-10 00:00", "2026-03-10t00:00:01.5z", (datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 10, 0, 0, 1, 500_000, tzinfo=UTC))),
    ],
)  # fmt: skip
def test_a_period_is_read_as_people_write_it(
    start: str | None, end: str | None, expected: tuple[datetime, datetime]
) -> None:
    """Times, dates, Unix seconds and how long ago; a day that is an end is in it."""
    found = period(start, end)
    assert (found.start, found.end) == expected


@pytest.mark.parametrize(
    "bad",
    [
        *("x", "yesterday", "-5h", "1e5", "٣h", "24H", "999999w", "now\0", "\ud800", " "),
        *("2026-02-30", "2026-13-01", "0000-01-01", "9999-12-31", "1969-12-31"),
        *("2026-01-01T25:00:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00+99:00"),
        *("9999999999999", "1773100800000", "9" * 400, "nan", "inf"),
        *("2024-01-01", "2026-03-11", "now"),
    ],
)
def test_what_is_no_period_is_refused_in_one_line(bad: str) -> None:
    """Not read, too long, of no time that events have, or empty."""
    with pytest.raises(BadQuery) as refused:
        period(bad)
    assert "\n" not in str(refused.value)
    assert bad == " " or len(str(refused.value)) < 200


@given(st.text(), st.text())
def test_any_text_is_a_period_or_refused(start: str, end: str) -> None:
    """And nothing else."""
    try:
        found = period(start, end)
    except BadQuery:
        return
    assert found.start < found.end


def test_a_period_in_whole_hours_touches_all_of_it() -> None:
    """An hour that it has a part of is counted as a whole."""
    found = Period(NOW - timedelta(minutes=45), NOW).whole_hours()
    assert (found.start.hour, found.end.hour) == (11, 13)
    assert found.whole_hours() == found
    east = Period(NOW.astimezone(timezone(timedelta(hours=5, minutes=30))), NOW + DAY)
    assert east.whole_hours().start == NOW.replace(minute=0)


VALUES = st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=3).map(tuple)


ROWS = st.tuples(st.sampled_from([None, "a", "b"]), st.sampled_from([None, "c"]))


@given(VALUES, VALUES, st.tuples(VALUES, VALUES), ROWS)
def test_a_scope_always_wins(
    users: Any, organizations: Any, asked_for: Any, row_of: tuple[str | None, str | None]
) -> None:
    """What is in both the filter and the scope, and never all because that is nothing."""
    (user, organization), (its_user, its_organization) = asked_for, row_of
    scope = Scope(users, organizations)
    asked = Filters(user=user, organization=organization)
    row = {"user_id": its_user, "organization_id": its_organization}
    is_in_scope = (not users or (its_user or "") in users) and (
        not organizations or (its_organization or "") in organizations
    )
    assert asked.within(scope).matches(row) == (asked.matches(row) and is_in_scope)


def test_a_table_without_the_column_is_never_read_as_if_it_had_it() -> None:
    """Rows of errors or of models have no user: a filter on that is an error of ours, not less."""
    for table in (error_logs, MODEL_HOURS.table):
        assert Filters(model=("a",)).conditions(table)
        with pytest.raises(LookupError):
            Filters(user=("a",)).conditions(table)


def test_every_filter_is_a_column_of_the_requests() -> None:
    """By the names that the API has."""
    assert set(COLUMNS.values()) <= set(request_logs.c.keys())
    all_of_them: dict[str, Any] = dict.fromkeys(COLUMNS, ("",))
    assert len(Filters(**all_of_them).conditions(request_logs)) == len(COLUMNS)
