"""Settings: CLI flag > environment > default. Zero configuration works."""

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from spoolway.schema import DEFAULT_STREAM
from spoolway.schema.address import DEFAULT_REDIS_URL, REDIS_URL_EXPECTED, check_redis_url

DRIVERS = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}
"""URL schemes understood, and the SQLAlchemy dialect and driver of each."""


class UsageError(Exception):
    """What the operator gave cannot work: one line that says what, where, and what to do."""


def _env(name: str, default: Any, description: str, **constraints: Any) -> Any:
    return Field(default, validation_alias=name, description=description, **constraints)


class Settings(BaseSettings):
    """Every setting of the worker. `docs/settings.md` is this class as a table."""

    model_config = SettingsConfigDict(
        extra="ignore", populate_by_name=True, frozen=True, env_ignore_empty=True
    )

    dir: Path = _env(
        "SPOOLWAY_DIR",
        Path("var"),
        "Folder of everything Spoolway keeps on this machine: SQLite, spool, dead letters, Valkey's data.",
    )
    database_url: str = _env(
        "DATABASE_URL",
        "",
        "PostgreSQL or SQLite. Default: spoolway.db in SPOOLWAY_DIR.",
        repr=False,
    )
    database_pool_size: int = _env(
        "DATABASE_POOL_SIZE", 5, "Connections kept open to PostgreSQL.", ge=1, le=100
    )
    database_max_overflow: int = _env(
        "DATABASE_MAX_OVERFLOW", 0, "Connections beyond these, closed after use.", ge=0, le=100
    )
    database_pool_timeout: float = _env(
        "DATABASE_POOL_TIMEOUT", 10.0, "Seconds to wait for a connection of the pool.", gt=0, le=300
    )
    database_echo: bool = _env("DATABASE_ECHO", False, "Log every SQL statement, without values.")
    database_echo_pool: bool = _env("DATABASE_ECHO_POOL", False, "Log what the pool does.")
    auto_migrate: bool = _env(
        "DATABASE_AUTO_MIGRATE", True, "Bring the database to this version's tables at start."
    )
    redis_url: str = _env(
        "REDIS_URL",
        DEFAULT_REDIS_URL,
        "Redis or Valkey: redis://, rediss:// or unix://.",
        repr=False,
    )
    jobs_redis_url: str = _env(
        "SPOOLWAY_JOBS_REDIS_URL",
        "",
        "Redis of arq's control jobs; never a cluster. Default: REDIS_URL.",
        repr=False,
    )
    stream: str = _env("SPOOLWAY_STREAM", DEFAULT_STREAM, "Stream that producers push to.")
    streams: int = _env(
        "SPOOLWAY_STREAMS",
        1,
        "Streams that events are spread over, one per hash slot of a Redis Cluster.",
        ge=1,
        le=256,
    )
    group: str = _env("SPOOLWAY_GROUP", "spoolway", "Consumer group of all workers.")
    consumer: str = _env(
        "SPOOLWAY_CONSUMER",
        "",
        "Name of this worker in the group. Default: host name and a slot locked in SPOOLWAY_DIR.",
    )
    batch_events: int = _env(
        "SPOOLWAY_BATCH_EVENTS", 4000, "Events a batch aims for.", ge=1, le=100_000
    )
    batch_bytes: int = _env(
        "SPOOLWAY_BATCH_BYTES", 8 << 20, "Bytes of JSON lines a batch aims for.", ge=1024
    )
    in_flight: int = _env(
        "SPOOLWAY_IN_FLIGHT",
        3,
        "Batches at once: the next is read and decoded while others commit.",
        ge=1,
        le=16,
    )
    write_timeout: float = _env(
        "SPOOLWAY_WRITE_TIMEOUT",
        10.0,
        "Seconds a batch may take; a database that hangs longer is taken as unreachable.",
        gt=0,
        le=60,
    )
    startup_timeout: float = _env(
        "SPOOLWAY_STARTUP_TIMEOUT",
        10.0,
        "Seconds to wait at start: then without Redis it gives up, without a database it spools.",
        ge=0,
    )
    spool_max_bytes: int = _env(
        "SPOOLWAY_SPOOL_MAX_BYTES",
        10 << 30,
        "Most bytes in SPOOLWAY_DIR/spool; then events stay in Redis.",
        ge=0,
    )
    spool_min_free_bytes: int = _env(
        "SPOOLWAY_SPOOL_MIN_FREE_BYTES",
        100 << 20,
        "Bytes of its disk that the spool leaves free.",
        ge=0,
    )
    spool_drain: bool = _env(
        "SPOOLWAY_SPOOL_DRAIN",
        True,
        "Replay the spool by itself when the database is back; else by spoolway replay alone.",
    )
    refused_count: int = _env(
        "SPOOLWAY_REFUSED_COUNT",
        100,
        "Refused events in a run that stop the worker: a bad deploy, not bad data. 0: never.",
        ge=0,
    )
    refused_ratio: float = _env(
        "SPOOLWAY_REFUSED_RATIO", 0.5, "Share of a run that these must be.", gt=0, le=1
    )
    id_past_days: int = _env(
        "SPOOLWAY_ID_PAST_DAYS", 400, "Oldest id taken, in days; older ones are dead letters.", ge=1
    )
    id_future_days: int = _env(
        "SPOOLWAY_ID_FUTURE_DAYS", 2, "Newest id taken, in days ahead of this clock.", ge=1
    )
    request_retention_days: int = _env(
        "SPOOLWAY_REQUEST_RETENTION_DAYS", 0, "Days that request_logs keeps. 0: for ever.", ge=0
    )
    error_retention_days: int = _env(
        "SPOOLWAY_ERROR_RETENTION_DAYS", 0, "Days that error_logs keeps. 0: for ever.", ge=0
    )
    body_retention_days: int = _env(
        "SPOOLWAY_BODY_RETENTION_DAYS",
        0,
        "Days that bodies, responses and streams are kept in request_logs. 0: as the rows.",
        ge=0,
    )
    archive: bool = _env(
        "SPOOLWAY_ARCHIVE",
        False,
        "Also write every batch to SPOOLWAY_DIR/archive, as compressed JSON lines by day.",
    )
    http_host: str = _env(
        "SPOOLWAY_HTTP_HOST", "127.0.0.1", "Address that health and metrics listen on."
    )
    http_port: int | None = _env(
        "SPOOLWAY_HTTP_PORT",
        None,
        "Port of /healthz, /readyz and /metrics; 0 takes a free one. Default: none.",
        ge=0,
        le=65535,
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _env(
        "SPOOLWAY_LOG_LEVEL", "INFO", "Least severe level that is logged."
    )
    log_format: Literal["text", "json"] = _env(
        "SPOOLWAY_LOG_FORMAT", "text", "Lines for a person, or JSON."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def database(self) -> URL:
        """The database as SQLAlchemy takes it. Raises UsageError."""
        if self.database_url:
            return database_url(self.database_url)
        # Not as text: "?" and "%" may be in a folder's name, and mean something in a URL.
        return URL.create(DRIVERS["sqlite"], database=str(self.dir / "spoolway.db"))


def load(**flags: Any) -> Settings:
    """Return the settings; a flag that is None was not given.

    Raises:
        UsageError: a value that cannot be used, named by its setting; never with a secret in it.
    """
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"{name}: {problem['msg']}") from None
    settings.database  # noqa: B018 - raises here, at start, and not in the middle of the way
    _check_redis_url(settings.redis_url)
    return settings


def database_url(text: str) -> URL:
    """Parse a database URL into the dialect and driver that Spoolway uses.

    Raises:
        UsageError: malformed, or a scheme or driver that is not supported.
    """
    try:
        url = make_url(text.strip())
    except (ArgumentError, ValueError):
        raise UsageError(
            f"DATABASE_URL is malformed{_scheme_hint(text)}: expected "
            "postgresql://user:password@host:5432/name or sqlite:///path/to/file.db "
            "(percent-encode special characters in the password)"
        ) from None
    driver = DRIVERS.get(url.drivername)
    if driver is None:
        raise UsageError(
            f"DATABASE_URL has scheme {url.drivername!r}, which is not supported: use "
            "postgresql:// (driver asyncpg) or sqlite:/// (driver aiosqlite)"
        )
    if driver.startswith("sqlite"):
        if url.database in (None, "", ":memory:"):
            raise UsageError(
                "DATABASE_URL names an in-memory SQLite database, which is gone when the worker "
                "stops: give a file, sqlite:///path/to/file.db"
            )
    elif not url.database:
        raise UsageError(
            "DATABASE_URL names no database: add its name, postgresql://user@host:5432/name"
        )
    elif "sslmode" in url.query:
        # libpq's name, which every hosted PostgreSQL prints; asyncpg takes its values as `ssl`.
        query = dict(url.query)
        query["ssl"] = query.pop("sslmode")
        url = url.set(query=query)
    return url.set(drivername=driver)


def _scheme_hint(text: str) -> str:
    scheme = text.split("://", 1)[0]
    return f" (scheme {scheme!r})" if "://" in text and scheme.isidentifier() else ""


def _check_redis_url(text: str) -> None:
    """Refuse a REDIS_URL that redis-py does not understand, before it is asked to connect."""
    try:
        check_redis_url(text)
    except ValueError as error:
        raise UsageError(f"REDIS_URL: {error}") from None
    try:
        pool = ConnectionPool.from_url(text)
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError):
        raise UsageError(
            f"REDIS_URL has an option that redis-py does not take: {REDIS_URL_EXPECTED}"
        ) from None


def shown_url(url: URL | str) -> str:
    """Return a URL for a person to read: its password hidden, its options left out."""
    if isinstance(url, URL):
        return url.set(query={}).render_as_string(hide_password=True)
    parts = urlsplit(url)
    if parts.password is None:
        return parts._replace(query="").geturl()
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}", query="").geturl()
