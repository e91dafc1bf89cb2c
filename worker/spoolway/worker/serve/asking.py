"""The parameters that several endpoints have: which rows, and of what time."""

from datetime import timedelta
from typing import Any, Final

from spoolway.schema.events import OUTCOMES
from spoolway.worker.reading.filters import COLUMNS, MOST_CHARACTERS, Filters
from spoolway.worker.reading.period import Period
from spoolway.worker.serve.endpoint import Asked
from spoolway.worker.serve.parameters import Parameter, choice, text

DAY: Final = timedelta(days=1)
_TIME: Final = "RFC 3339 (UTC unless it says otherwise), a date, Unix seconds, how long ago (90m, 24h, 7d), or now"
PERIOD: Final = (
    text("from", f"From when: {_TIME}. Default: a day before `to`", longest=64),
    text("to", "Until before when: the same; of a date, its end. Default: now", longest=64),
)
_ANY: Final = "; as often as you like, for any of them. Empty: those without"
FILTERS: Final[tuple[Parameter, ...]] = tuple(
    choice(name, f"Only this {name}{_ANY}", (*OUTCOMES, ""), is_repeatable=True)
    if name == "outcome"
    else text(name, f"Only this {name}{_ANY}", longest=MOST_CHARACTERS, is_repeatable=True)
    for name in COLUMNS
)


def period_of(asked: Asked, default: timedelta = DAY) -> Period:
    """Return the period that is asked for. Raises BadQuery."""
    return Period.of(asked.query["from"], asked.query["to"], now=asked.now, default=default)


def filters_of(asked: Asked) -> Filters:
    """Return the filters that are asked for, within what the caller may see. Raises BadQuery."""
    given: dict[str, Any] = {name: asked.query[name] for name in COLUMNS}
    return Filters(**given).within(asked.caller.scope)
