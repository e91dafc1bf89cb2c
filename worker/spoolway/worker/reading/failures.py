"""What a question to the database ends with when there is no answer, named by whose turn it is."""

from typing import Final


class Unavailable(Exception):
    """The database is away, or cannot be used. The message is for anybody: no host, file or SQL.

    `reason` is for the operator alone: what is wrong, where, and what to do.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class TooSlow(Exception):
    """The question took longer than it may: to be asked again for less."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the answer takes longer than {seconds:g} s: ask for a shorter period, with fewer "
            "filters, or with SPOOLWAY_QUERY_TIMEOUT raised"
        )


class BadQuery(ValueError):
    """A question that cannot be asked: HTTP 400, exit code 2. The message says how it can be."""


AWAY: Final = "the database cannot be reached: the log of spoolway has the reason; try again"
NOT_THERE: Final = (
    "there is no database yet: it is made by spoolway worker or spoolway up when they first start"
)
NOT_OURS: Final = (
    "the database does not have this version's tables, or they may not be read: run spoolway db "
    "upgrade, and see the log of spoolway"
)
NO_TABLES: Final = (
    "this version's tables are made by spoolway db upgrade, or by a worker that starts"
)
"""Of the reason for the operator, who has been told which is missing."""
BUSY: Final = "the database is busy with something that locks its tables: try again in a moment"
