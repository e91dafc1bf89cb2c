"""Alembic's environment: it runs the revisions on the connection it is given, and only there.

The caller has begun the transaction, holds the lock, and commits (see `runner`).
"""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.dialects.postgresql import JSONB

from spoolway.migrations.differences import OPTIONS
from spoolway.schema.tables import UtcTime, UuidText, metadata


def _freeze(kind: str, item: Any, draft: AutogenContext) -> str | Literal[False]:
    """Write our column types as they are today: a revision must not follow them when they change."""
    if kind == "type" and isinstance(item, UuidText):
        return 'sa.Uuid().with_variant(sa.Text(), "sqlite")'
    if kind == "type" and isinstance(item, UtcTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, JSONB):
        draft.imports.add("from sqlalchemy.dialects.postgresql import JSONB")
        return 'JSONB().with_variant(sa.Text(), "sqlite")'
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite alters a table by copying it.
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=_freeze,
    **OPTIONS,
)
context.run_migrations()
