"""Further arguments of SQLAlchemy's create_async_engine, and of asyncpg's connect below it.

Those that are objects cannot stand in a file; those that a setting of its own has are settings.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from spoolway.worker.config.options import SSL_MODES, nearest

_STRICT = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class ConnectArguments(BaseModel):
    """What asyncpg.connect takes that a file can hold."""

    model_config = _STRICT

    server_settings: dict[str, str] = {}
    command_timeout: float | None = None
    timeout: float | None = None
    statement_cache_size: int = 0
    prepared_statement_cache_size: int = 0
    max_cached_statement_lifetime: int = 0
    max_cacheable_statement_size: int = 0
    ssl: bool | Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = False
    direct_tls: bool = False
    target_session_attrs: str = ""
    passfile: str = ""
    password: str = ""
    krbsrvname: str = ""
    gsslib: str = ""


class EngineArguments(BaseModel):
    """What create_async_engine takes that a file can hold, and no setting has."""

    model_config = _STRICT

    connect_args: ConnectArguments = ConnectArguments()
    execution_options: dict[str, Any] = {}
    isolation_level: str = ""
    pool_pre_ping: bool = False
    pool_use_lifo: bool = False
    pool_reset_on_return: str | None = None
    query_cache_size: int = 0
    insertmanyvalues_page_size: int = 0
    use_insertmanyvalues: bool = True
    label_length: int | None = None
    max_identifier_length: int | None = None
    logging_name: str = ""
    pool_logging_name: str = ""
    skip_autocommit_rollback: bool = False
    enable_from_linting: bool = True
    future: bool = True


def checked(arguments: object) -> dict[str, Any]:
    """Return the arguments with their types; only those that were given.

    Raises:
        ValueError: one that is not known, or has a value that it cannot have; named.
    """
    try:
        given = EngineArguments.model_validate(arguments)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        path = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            model = ConnectArguments if path[:1] == ["connect_args"] else EngineArguments
            taken = "asyncpg.connect" if model is ConnectArguments else "create_async_engine"
            raise ValueError(
                f"{'.'.join(path)} is no argument of {taken} that a file can hold"
                f"{nearest(path[-1], model.model_fields)}"
            ) from None
        if path[:2] == ["connect_args", "ssl"]:
            raise ValueError(f"connect_args.ssl is one of {', '.join(SSL_MODES)}") from None
        raise ValueError(f"{'.'.join(path)}: {problem['msg']}") from None
    return given.model_dump(exclude_unset=True)
