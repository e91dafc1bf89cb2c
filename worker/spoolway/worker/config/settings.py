"""The settings: their names, defaults and ranges."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from sqlalchemy.engine import URL

from spoolway.schema import DEFAULT_STREAM
from spoolway.schema.address import DEFAULT_REDIS_URL
from spoolway.worker.config import durations
from spoolway.worker.config.addresses import DRIVERS, address, database_url
from spoolway.worker.config.api_tokens import ApiToken, check_token, checked_tokens
from spoolway.worker.config.engine import checked
from spoolway.worker.config.prices import ModelPrice, checked_prices


def _env(name: str, default: Any, description: str, **constraints: Any) -> Any:
    return Field(default, validation_alias=name, description=description, **constraints)


class Settings(BaseModel):
    """Every setting of the worker. `docs/settings.md` is this class as a table.

    It reads nothing by itself: `load` does. The alias of a field is its environment variable.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)

    enabled: bool = _env(
        "SPOOLWAY_ENABLED", True, "false: nothing is recorded; producers and workers stay idle."
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
    database_conn_max_lifetime: float = _env(
        "DATABASE_CONN_MAX_LIFETIME",
        0.0,
        "Age at which a connection is replaced, in seconds or as 1h30m. 0: never.",
        ge=0,
    )
    database_engine: dict[str, Any] = Field(
        default={},
        description="YAML alone: further arguments of create_async_engine, connect_args among them.",
        validate_default=True,
        repr=False,
    )
    database_echo: bool = _env("DATABASE_ECHO", False, "Log every SQL statement, without values.")
    database_echo_pool: bool = _env("DATABASE_ECHO_POOL", False, "Log what the pool does.")
    auto_migrate: bool = _env(
        "DATABASE_AUTO_MIGRATE", True, "Bring the database to this version's tables at start."
    )
    redis_url: str = _env(
        "REDIS_URL",
        DEFAULT_REDIS_URL,
        "Redis or Valkey: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://.",
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
    enrich: bool = _env(
        "SPOOLWAY_ENRICH",
        True,
        "Fill in cost and footprint that the proxy did not send; see docs/cost.md.",
    )
    prices: dict[str, ModelPrice] = Field(
        default={},
        description="YAML alone: own prices of models, which win over those of genai-prices.",
    )
    electricity_zone: str = _env(
        "SPOOLWAY_ELECTRICITY_ZONE",
        "",
        "Country whose electricity models run on, as FRA; WOR is the world. Default: the provider's.",
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
    read_database_url: str = _env(
        "SPOOLWAY_READ_DATABASE_URL",
        "",
        "Where usage and logs are read: a replica, or a user who may only read. Default: DATABASE_URL.",
        repr=False,
    )
    query_timeout: float = _env(
        "SPOOLWAY_QUERY_TIMEOUT",
        5.0,
        "Seconds that one question to the database may take.",
        gt=0,
        le=300,
    )
    api_host: str = _env(
        "SPOOLWAY_API_HOST",
        "127.0.0.1",
        "Address that spoolway serve listens on; any but this machine's own needs a token.",
    )
    api_port: int = _env(
        "SPOOLWAY_API_PORT",
        9465,
        "Port of the page and the API; 0 takes a free one.",
        ge=0,
        le=65535,
    )
    api_token: str = _env(
        "SPOOLWAY_API_TOKEN", "", "Token that may ask the API for everything.", repr=False
    )
    api_tokens: tuple[ApiToken, ...] = Field(
        default=(),
        description="YAML alone: further tokens, each with a name, and whose rows it sees.",
        repr=False,
    )
    api_rate: int = _env(
        "SPOOLWAY_API_RATE", 600, "Requests to the API a minute, per token. 0: no limit.", ge=0
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

    @field_validator("database_echo", mode="before")
    @classmethod
    def _without_rows(cls, value: object) -> object:
        """SQLAlchemy's third value would log the rows, too: what clients have said."""
        return True if value == "debug" else value

    @field_validator("database_conn_max_lifetime", mode="before")
    @classmethod
    def _in_seconds(cls, value: object) -> object:
        return durations.seconds(value) if isinstance(value, str) else value

    @field_validator("prices", mode="before")
    @classmethod
    def _of_models(cls, value: object) -> dict[str, ModelPrice]:
        return checked_prices(value)

    @field_validator("electricity_zone")
    @classmethod
    def _is_a_country(cls, value: str) -> str:
        if value and not (len(value) == 3 and value.isascii() and value.isalpha()):
            raise ValueError("is no country: give three letters, as FRA, or WOR for the world")
        return value.upper()

    @field_validator("database_engine", mode="before")
    @classmethod
    def _with_what_the_url_says(cls, value: object, info: ValidationInfo) -> dict[str, Any]:
        arguments = checked(value)
        try:
            of_url = address(info.data.get("database_url") or "sqlite:///default").connect_args
        except ValueError:
            return arguments  # said where the URL is used
        if of_url:
            arguments["connect_args"] = {**of_url, **arguments.get("connect_args", {})}
        return arguments

    @field_validator("api_token")
    @classmethod
    def _can_be_sent(cls, value: str) -> str:
        return check_token(value) if value else value

    @field_validator("api_tokens", mode="before")
    @classmethod
    def _with_names(cls, value: object) -> tuple[ApiToken, ...]:
        return checked_tokens(value)

    @property
    def database(self) -> URL:
        """The database as SQLAlchemy takes it. Raises UsageError."""
        if self.database_url:
            return database_url(self.database_url)
        # Not as text: "?" and "%" may be in a folder's name, and mean something in a URL.
        return URL.create(DRIVERS["sqlite"], database=str(self.dir / "spoolway.db"))

    @property
    def read_database(self) -> URL:
        """The database that is only read. Raises UsageError."""
        if self.read_database_url:
            return database_url(self.read_database_url, "SPOOLWAY_READ_DATABASE_URL")
        return self.database

    @property
    def read_engine(self) -> dict[str, Any]:
        """Further arguments of create_async_engine for `read_database`. Raises ValueError."""
        if not self.read_database_url:
            return self.database_engine
        of_url = address(self.read_database_url).connect_args
        given = self.database_engine.get("connect_args", {})
        return {**self.database_engine, "connect_args": {**given, **of_url}}
