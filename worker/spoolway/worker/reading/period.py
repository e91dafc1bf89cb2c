"""From when until when: what a person or a program may write for it, and the ids of that time."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from spoolway.schema import id_range
from spoolway.worker.reading.failures import BadQuery

LONGEST: Final = timedelta(days=400)
"""Of a period: a year and a month, as long as the oldest id that a worker takes by default."""
CLOCKS_DIFFER: Final = timedelta(hours=1)
"""How far the time in an id may be from the event's own, for a period to find it among the ids."""

_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_AGO: Final = re.compile(r"(\d{1,6})\s*([smhdw])", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,16}(\.\d{1,9})?", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# A "+" in a URL that nobody encoded is read as a space.
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?) ?([Zz]|[+ -]?\d\d:?\d\d)?", re.ASCII
)
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` until before `end`, both aware.

    Raises:
        BadQuery: it does not end after it starts, is longer than `LONGEST`, or of no time that
            events have.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Bring both to UTC."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a period needs times with a time zone")
        for name in ("start", "end"):
            moment = getattr(self, name)
            if not _FIRST <= moment <= _LAST:
                raise BadQuery(f"a time must be between {_FIRST.year} and {_LAST.year}")
            object.__setattr__(self, name, moment.astimezone(UTC))
        if self.end <= self.start:
            raise BadQuery("the period must end after it starts: `to` is not later than `from`")
        if self.end - self.start > LONGEST:
            raise BadQuery(f"the period is longer than {LONGEST.days} days: ask for it in parts")

    @classmethod
    def of(
        cls, from_: str | None, to: str | None, *, now: datetime, default: timedelta
    ) -> "Period":
        """Read what somebody wrote; without `to` until now, without `from` for `default`.

        Each is a time as RFC 3339 has it (UTC, unless it says otherwise), Unix seconds, a date
        (a UTC day, which a `to` includes), how long ago (90m, 24h, 7d, 2w), or "now".

        Raises:
            BadQuery: it is none of these, or what `Period` raises.
        """
        end = moment("to", to, now=now, is_end=True) if to else now
        start = moment("from", from_, now=now) if from_ else max(end - default, _FIRST)
        return cls(start, end)

    def whole_hours(self) -> "Period":
        """Return the hours that it touches."""
        start = self.start.replace(minute=0, second=0, microsecond=0)
        end = self.end.replace(minute=0, second=0, microsecond=0)
        if end < self.end:
            end += timedelta(hours=1)
        # An hour more than LONGEST is no question of somebody's: it is what the answer is for.
        return _unchecked(start, end)

    def ids(self) -> tuple[UUID, UUID]:
        """Return the ids [first, last) that events of this time have.

        An id's time is when the request began, and so is the event's; they differ where a clock, or
        a producer of somebody's own, does. `CLOCKS_DIFFER` is how much they may.
        """
        return id_range(max(self.start - CLOCKS_DIFFER, _FIRST), self.end + CLOCKS_DIFFER)


def _unchecked(start: datetime, end: datetime) -> Period:
    period = object.__new__(Period)
    object.__setattr__(period, "start", start)
    object.__setattr__(period, "end", end)
    return period


def moment(name: str, text: str, *, now: datetime, is_end: bool = False) -> datetime:
    """Read a time, as `Period.of` does; `name` is whose it is, for the message.

    Raises:
        BadQuery: it is no time.
    """
    text = text.strip()
    try:
        found = _read(text, now, is_end=is_end)
    except (ValueError, OverflowError, OSError):
        found = None
    if found is None:
        hint = ""
        if _SECONDS.fullmatch(text):
            hint = "; Unix time is in seconds here"
        raise BadQuery(
            f"{name} is no time: give 2026-01-31T23:59:59Z, 2026-01-31, Unix seconds, 24h, 7d or "
            f"now{hint}"
        )
    return found


def _read(text: str, now: datetime, *, is_end: bool) -> datetime | None:
    if text == "now":
        return now
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    if _SECONDS.fullmatch(text):
        return datetime.fromtimestamp(float(text), UTC)
    if _DATE.fullmatch(text):
        day = datetime.combine(date.fromisoformat(text), time(), UTC)
        return day + timedelta(days=1) if is_end else day
    if parts := _TIME.fullmatch(text):
        offset = (parts[3] or "Z").upper()
        if offset[0] not in "Z+-":
            offset = f"+{offset.strip()}"
        return datetime.fromisoformat(f"{parts[1]}T{parts[2]}{offset}").astimezone(UTC)
    return None
