"""The database's tables, brought to this version of Spoolway: Alembic behind a few functions.

Each function takes an SQLAlchemy URL with an asyncio driver and opens one connection of its own.
It must not know the worker: mistakes of an operator are `MigrationError`s of one line, everything
that goes wrong with a connection is the driver's exception.
"""

from spoolway.migrations.errors import (
    DatabaseIsNewer,
    DatabaseIsOlder,
    MigrationError,
    NoDatabaseFile,
    TablesInTheWay,
    UnknownRevision,
)
from spoolway.migrations.revisions import VERSION_TABLE, Revision, history, newest
from spoolway.migrations.runner import (
    Current,
    Migrated,
    check,
    current,
    downgrade,
    require_newest,
    revision,
    upgrade,
)

__all__ = [
    "VERSION_TABLE",
    "Current",
    "DatabaseIsNewer",
    "DatabaseIsOlder",
    "Migrated",
    "MigrationError",
    "NoDatabaseFile",
    "Revision",
    "TablesInTheWay",
    "UnknownRevision",
    "check",
    "current",
    "downgrade",
    "history",
    "newest",
    "require_newest",
    "revision",
    "upgrade",
]
