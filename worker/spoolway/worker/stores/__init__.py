"""Stores: PostgreSQL and SQLite behind one small interface."""

from spoolway.worker.config import Settings
from spoolway.worker.stores.base import Conflict, Item, Store, Written
from spoolway.worker.stores.classify import classify, is_away
from spoolway.worker.stores.errors import (
    Refused,
    Refusing,
    Retryable,
    StoreError,
    Unknown,
    Unreachable,
)
from spoolway.worker.stores.isolate import Outcome, RefusedItem, write_isolating
from spoolway.worker.stores.postgres import PostgresStore
from spoolway.worker.stores.refusals import Refusals
from spoolway.worker.stores.sqlite import SqliteStore

__all__ = [
    "Conflict",
    "Item",
    "Outcome",
    "PostgresStore",
    "Refusals",
    "Refused",
    "RefusedItem",
    "Refusing",
    "Retryable",
    "SqliteStore",
    "Store",
    "StoreError",
    "Unknown",
    "Unreachable",
    "Written",
    "classify",
    "is_away",
    "open_store",
    "write_isolating",
]


def open_store(settings: Settings) -> Store:
    """Return the store for the settings' database; it connects at its first use."""
    url = settings.database
    if url.get_backend_name() == "sqlite":
        return SqliteStore(url, write_timeout=settings.write_timeout)
    return PostgresStore(
        url, pool_size=settings.database_pool_size, write_timeout=settings.write_timeout
    )
