"""The YAML file's sections: Spoolway's own, and those of the proxies whose file it may be."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from spoolway.worker.config.addresses import postgresql_url, sqlite_url
from spoolway.worker.config.errors import UsageError
from spoolway.worker.config.given import Given, Unused
from spoolway.worker.config.options import nearest
from spoolway.worker.config.settings import Settings
from spoolway.worker.config.yaml_file import Entry

_DATABASE: Final = {
    "url": "database_url",
    "pool_size": "database_pool_size",
    "max_overflow": "database_max_overflow",
    "pool_timeout": "database_pool_timeout",
    "echo": "database_echo",
    "echo_pool": "database_echo_pool",
    "auto_migrate": "auto_migrate",
}
_POSTGRES: Final = {
    "url": "database_url",
    "pool_size": "database_pool_size",
    "max_overflow": "database_max_overflow",
    "pool_timeout": "database_pool_timeout",
    "pool_recycle": "database_conn_max_lifetime",
    "echo": "database_echo",
    "echo_pool": "database_echo_pool",
}
"""Arguments of create_async_engine that a setting has; the others go to it as they are."""
_TREES: Final = frozenset(
    name for name, field in Settings.model_fields.items() if field.validation_alias is None
)
"""Settings of YAML alone: what is below them is lists and mappings."""


def of_yaml(root: Entry) -> Iterator[Given | Unused]:
    """Yield what a file gives, and what is left. Raises UsageError for an unknown key of ours."""
    for name, entry in root.entries().items():
        match name:
            case "spoolway":
                yield from _of_spoolway(entry)
            case "database":
                yield from _of_database(entry)
            case "dependencies" if entry.is_mapping:
                yield from _of_dependencies(entry)
            case "settings" if entry.is_mapping:
                yield from _of_settings(entry)
            case _:
                yield _unused(entry)


def _of_spoolway(section: Entry) -> Iterator[Given]:
    for name, entry in section.entries().items():
        if name not in Settings.model_fields:
            raise UsageError(f"{entry.where} is no setting{nearest(name, Settings.model_fields)}")
        yield Given(
            name,
            entry.where,
            entry.source,
            entry.tree if name in _TREES else entry.text,
        )


def _of_database(section: Entry) -> Iterator[Given | Unused]:
    entries = section.entries()
    known = {*_DATABASE, "backend", "connection"}
    for name, entry in entries.items():
        if name in _DATABASE:
            yield Given(_DATABASE[name], entry.where, entry.source, entry.text)
        elif name not in known:
            yield _unused(entry, f"no setting{nearest(name, known)}")
    if "connection" in entries or "backend" in entries:
        yield from _of_connection(section, entries)


def _of_connection(section: Entry, entries: Mapping[str, Entry]) -> Iterator[Given | Unused]:
    """Yield yaLLMproxy's `backend` and `connection`, with its defaults."""
    if "backend" not in entries:
        raise UsageError(f"{section.where} has a connection and no backend: add sqlite or postgres")
    backend = entries["backend"]
    of_each = entries["connection"].entries() if "connection" in entries else {}
    match (backend.text() or "").lower():
        case "sqlite":
            chosen, keys, read = "sqlite", {"path"}, _sqlite
        case "postgres" | "postgresql":
            chosen = "postgres"
            keys, read = {"host", "port", "database", "user", "password"}, _postgresql
        case _:
            raise UsageError(
                f"{backend.where} is no database that Spoolway writes to: use sqlite or postgres"
            )
    entry = of_each.get(chosen, backend)
    pieces = entry.entries() if chosen in of_each else {}
    yield Given("database_url", entry.where, entry.source, lambda: read(pieces))
    for name, piece in pieces.items():
        if name not in keys:
            yield _unused(piece, f"not understood there{nearest(name, keys)}")


def _sqlite(pieces: Mapping[str, Entry]) -> str:
    path = _text(pieces, "path") or "logs/yaLLM.db"
    try:
        return sqlite_url(path)
    except ValueError as error:
        raise UsageError(f"{pieces['path'].where} {error}") from None


def _postgresql(pieces: Mapping[str, Entry]) -> str:
    return postgresql_url(
        host=_text(pieces, "host") or "localhost",
        port=_text(pieces, "port") or "5432",
        database=_text(pieces, "database") or "yallm_proxy",
        user=_text(pieces, "user") or "postgres",
        password=_text(pieces, "password"),
    )


def _text(pieces: Mapping[str, Entry], name: str) -> str | None:
    return pieces[name].text() if name in pieces else None


def _of_dependencies(section: Entry) -> Iterator[Given | Unused]:
    """Yield OpenGateLLM's `postgres`: the arguments of create_async_engine."""
    for name, entry in section.entries().items():
        if name != "postgres":
            yield _unused(entry)
            continue
        arguments = entry.entries()
        for argument, value in arguments.items():
            if argument in _POSTGRES:
                read = partial(_recycle, value) if argument == "pool_recycle" else value.text
                yield Given(_POSTGRES[argument], value.where, value.source, read)
        if "hide_parameters" in arguments:
            yield _unused(arguments["hide_parameters"], "always true here")
        further = {
            name: value
            for name, value in arguments.items()
            if name not in {*_POSTGRES, "hide_parameters"}
        }
        if further:
            yield Given(
                "database_engine",
                entry.where,
                entry.source,
                partial(_trees, further),
            )


def _trees(entries: Mapping[str, Entry]) -> dict[str, Any]:
    return {name: entry.tree() for name, entry in entries.items()}


def _recycle(entry: Entry) -> Any:
    """Return SQLAlchemy's -1, for never, as 0."""
    text = entry.text()
    return "0" if text == "-1" else text


def _of_settings(section: Entry) -> Iterator[Given | Unused]:
    for name, entry in section.entries().items():
        if name == "monitoring_postgres_enabled":
            yield Given("enabled", entry.where, entry.source, entry.text)
        else:
            yield _unused(entry)


def _unused(entry: Entry, why: str = "not Spoolway's") -> Unused:
    return Unused(entry.where, why)
