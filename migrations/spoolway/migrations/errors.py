"""What an operator has to decide before a database can be migrated. One line each."""


class MigrationError(Exception):
    """The database stays as it is; the message says why and what to do."""


class DatabaseIsNewer(MigrationError):
    """A newer version of Spoolway has migrated this database: this one does not know its tables."""

    def __init__(self, revision: str, newest: str) -> None:
        super().__init__(
            f"the database is at revision {revision}, which this version of spoolway does not know "
            f"(its newest is {newest}): upgrade spoolway, or run `spoolway db downgrade {newest}` "
            "with the newer version"
        )
        self.revision = revision
        self.newest = newest


class DatabaseIsOlder(MigrationError):
    """The tables are those of an earlier version, or not there at all."""

    def __init__(self, revision: str, newest: str) -> None:
        super().__init__(
            f"the database is at revision {revision}, and this version of spoolway needs {newest}: "
            "run `spoolway db upgrade`"
        )
        self.revision = revision
        self.newest = newest


class TablesInTheWay(MigrationError):
    """The tables' names are taken, and not by Spoolway: its own leave a mark beside them."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"the database already has {' and '.join(names)}, not made by spoolway: rename what is "
            "there, or give spoolway a database or a PostgreSQL schema (search_path) of its own"
        )


class UnknownRevision(MigrationError):
    """No revision of that name."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"there is no revision {revision!r}: see `spoolway db history`")


class NoDatabaseFile(MigrationError):
    """SQLite would make an empty file and answer from it; only `upgrade` makes one."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no SQLite database {path}: `spoolway db upgrade` makes it")
