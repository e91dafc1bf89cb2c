"""What of a batch goes into the roll-ups: one JSON text for its requests, one for its errors.

Made of the events that are new, and written in their transaction. Nothing is grouped or added up
here: a batch of many users has about as many groups as events, and grouping costs more than all the
rest. The job that merges them does it, for many batches at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from spoolway.schema import ErrorEvent, RequestEvent, time_of
from spoolway.schema.usage import ERROR_FACT, REQUEST_FACT

_encode: Final = msgspec.json.Encoder().encode
_fact_of_request: Final = attrgetter(*REQUEST_FACT)
_fact_of_error: Final = attrgetter(*ERROR_FACT)

REQUEST: Final = "request"
ERROR: Final = "error"


def facts_of(
    requests: Sequence[RequestEvent], errors: Sequence[ErrorEvent]
) -> Iterator[tuple[str, str]]:
    """Yield the rows of `usage_pending` for events that were inserted: (kind, facts)."""
    if requests:
        yield REQUEST, _json(requests, map(_fact_of_request, requests))
    if errors:
        yield ERROR, _json(errors, map(_fact_of_error, errors))


def _json(
    events: Sequence[RequestEvent] | Sequence[ErrorEvent], facts: Iterable[tuple[Any, ...]]
) -> str:
    rows = list(facts)
    for at, row in enumerate(rows):
        if row[0] is None:
            rows[at] = (time_of(events[at].id), *row[1:])
    return _encode(rows).decode()
