"""Stores: PostgreSQL and SQLite behind one small interface."""

import logging

from spoolway.migrations.postgresql import UnusableOption
from spoolway.worker.config import Settings, UsageError
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
    """Return the store for the settings' database; it connects at its first use.

    Raises:
        UsageError: a limit, or an option of the URL, that no connection can be made with.
    """
    url = settings.database
    if url.get_backend_name() == "sqlite":
        return SqliteStore(url, write_timeout=settings.write_timeout)
    # By their loggers, and not as arguments: those would print beside the worker's own log.
    if settings.database_echo:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
        logging.getLogger("spoolway.sql").setLevel(logging.DEBUG)
    if settings.database_echo_pool:
        logging.getLogger("sqlalchemy.pool").setLevel(logging.DEBUG)
    try:
        return PostgresStore(
            url,
            pool_size=settings.database_pool_size,
            write_timeout=settings.write_timeout,
            options={
                "max_overflow": settings.database_max_overflow,
                "pool_timeout": settings.database_pool_timeout,
                "pool_recycle": settings.database_conn_max_lifetime or -1,
                **settings.database_engine,
            },
        )
    except UnusableOption as error:
        raise UsageError(str(error)) from error
