"""What a store raises, named by what the caller does next. Drivers' exceptions end here."""


class StoreError(Exception):
    """A write that did not happen. `sqlstate` is PostgreSQL's, where there is one."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Unreachable(StoreError):
    """No database to write to: refused, hung past the deadline, full, read-only. Hold the batch."""


class Retryable(StoreError):
    """Another transaction was in the way (deadlock, lock, serialization). Try the same again."""


class Refused(StoreError):
    """The database will not take a row of this batch. Isolate it.

    `row` is the index in the batch of the row that was refused, where the database told and the
    batch is of one table.
    """

    def __init__(self, message: str, sqlstate: str | None = None, row: int | None = None) -> None:
        super().__init__(message, sqlstate)
        self.row = row


class Unknown(StoreError):
    """Nothing says whose fault it is: the schema, a permission, a bug. Hold the batch and shout."""


class Refusing(StoreError):
    """Most rows are suddenly refused: a bad deploy, not bad data. Stop, keep everything, shout."""
