"""Where a database differs from `spoolway.schema.tables`, told in lines for a person.

Alembic compares tables, columns, types, nullability, defaults, foreign keys and the columns of
indexes. What it does not look at is compared here: primary keys, CHECK constraints, the method and
predicate of an index, the partition key, and compression.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, Dialect, Inspector, Table, inspect, text

from spoolway.migrations.revisions import VERSION_TABLE
from spoolway.schema.tables import JSON_COLUMNS, metadata
from spoolway.schema.usage import USAGE_VIEW

SEARCH_INDEX: Final = "ix_request_logs_search"
"""Optional, by `spoolway db index`: no migration makes it or drops it."""


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Leave out the worker's partitions and every table that is not Spoolway's."""
    return kind != "table" or name in metadata.tables


def _is_declared(item: Any, name: str | None, kind: str, reflected: bool, _other: object) -> bool:
    """Leave out an index that is optional, and the foreign keys that PostgreSQL gives partitions."""
    if kind == "index" and reflected and name == SEARCH_INDEX:
        return False
    if kind == "foreign_key_constraint" and reflected:
        return all(
            key.target_fullname.rsplit(".", 1)[0] in metadata.tables for key in item.elements
        )
    return True


OPTIONS: Final[dict[str, Any]] = {
    "version_table": VERSION_TABLE,
    "include_name": _is_ours,
    "include_object": _is_declared,
    "compare_type": True,
    "compare_server_default": True,
}
"""How Alembic reads a database, for comparing and for migrating."""

FUNCTIONS: Final = (
    "spoolway_make_partition(text,date)",
    "spoolway_drop_partition(text,date)",
    "spoolway_note_expired(date,timestamptz)",
)
"""Of the tables' owner, on PostgreSQL. A dump of single tables leaves them behind."""


def differences(connection: Connection) -> list[str]:
    """Return one line per difference; an empty list when the tables are as declared."""
    inspector = inspect(connection)
    declared = metadata.sorted_tables
    there = [table for table in declared if inspector.has_table(table.name)]
    missing = {table.name for table in declared if table not in there}
    lines = [f"{name}: table is missing" for name in sorted(missing)]
    if USAGE_VIEW not in inspector.get_view_names():
        lines.append(f"{USAGE_VIEW}: view is missing")
    context = MigrationContext.configure(connection, opts=OPTIONS)
    changes = _flat(compare_metadata(context, metadata), missing)
    lines += [_line(connection.dialect, *change) for change in changes]
    for table in there:
        lines += [f"{table.name}: {line}" for line in _beyond_alembic(inspector, table)]
        if connection.dialect.name == "postgresql" and table.name in JSON_COLUMNS:
            lines += [f"{table.name}: {line}" for line in _of_postgresql(connection, table)]
    if connection.dialect.name == "postgresql" and not missing:
        is_missing = text("SELECT to_regprocedure(:name) IS NULL")
        lines += [
            f"function {name} is missing"
            for name in FUNCTIONS
            if connection.scalar(is_missing, {"name": name})
        ]
    return lines


def _flat(changes: Iterable[Any], missing: set[str]) -> Iterator[tuple[Any, ...]]:
    """Undo the grouping of one column's changes, and leave out missing tables and their parts."""
    for change in changes:
        if isinstance(change, list):
            yield from change
        elif change[0] == "add_index" and change[1].table.name in missing:
            continue
        elif change[0] != "add_table":
            yield change


def _line(dialect: Dialect, change: str, *what: Any) -> str:
    """Say what is the matter with the database; `change` is what Alembic would do about it."""
    match [change, *what]:
        case ["add_column" | "remove_column", _, table, column]:
            return f"{table}: column {column.name} {_state(change)}"
        case ["add_index" | "remove_index", index]:
            columns = ", ".join(column.name for column in index.columns)
            return f"{index.table.name}: index {index.name} ({columns}) {_state(change)}"
        case ["add_fk" | "remove_fk" | "add_constraint" | "remove_constraint", constraint]:
            return f"{constraint.table.name}: constraint {constraint.name} {_state(change)}"
        case [_, _, table, column, _, is_now, declared] if change.startswith("modify_"):
            aspect = change.removeprefix("modify_")
            return (
                f"{table}: column {column} has {aspect} {_sql(is_now, dialect)}, "
                f"not {_sql(declared, dialect)}"
            )
    return f"{change} {what}"  # nothing that Alembic finds may be kept quiet


def _state(change: str) -> str:
    return "is missing" if change.startswith("add_") else "is not declared"


def _sql(value: Any, dialect: Dialect) -> str:
    """Return a type, a default's expression, or what else was compared, on one line."""
    value = getattr(value, "arg", value)
    compiled = value.compile(dialect=dialect) if hasattr(value, "compile") else value
    return " ".join(str(compiled).split())


def _beyond_alembic(inspector: Inspector, table: Table) -> Iterator[str]:
    key = inspector.get_pk_constraint(table.name)["constrained_columns"]
    if key != [column.name for column in table.primary_key]:
        yield f"primary key is ({', '.join(key)})"

    checks = {
        check["name"]: check["sqltext"] for check in inspector.get_check_constraints(table.name)
    }
    declared = {
        str(constraint.name): str(constraint.sqltext)
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    for name, condition in declared.items():
        if name not in checks:
            yield f"CHECK {name} is missing"
        elif _literals(checks[name]) != _literals(condition):
            yield f"CHECK {name} is {checks[name]}, not {condition}"
    for undeclared in checks.keys() - declared.keys():
        yield f"CHECK {undeclared} is not declared"

    indexes = {index["name"]: index for index in inspector.get_indexes(table.name)}
    dialect = inspector.dialect.name
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if str(index.name) not in indexes:
            continue  # Alembic has told
        found = indexes[str(index.name)].get("dialect_options", {})
        if dialect == "postgresql":
            # A btree is reflected without its name, and declared without it.
            method = index.dialect_options["postgresql"]["using"] or "btree"
            is_now = found.get("postgresql_using", "btree")
            if is_now != method:
                yield f"index {index.name} is {is_now}, not {method}"
        predicate = index.dialect_options[dialect]["where"]
        if _bare(found.get(f"{dialect}_where")) != _bare(predicate):
            yield f"index {index.name} is for {found.get(f'{dialect}_where')}, not {predicate}"


def _literals(condition: str) -> set[str]:
    """Return what a condition compares with: PostgreSQL rewrites the rest (IN becomes = ANY)."""
    return set(re.findall(r"'([^']*)'", condition))


def _bare(predicate: object) -> str:
    """Return a predicate without what a database adds to it: brackets, spaces and case."""
    return re.sub(r"[\s()]", "", str(predicate)).lower()


def _of_postgresql(connection: Connection, table: Table) -> Iterator[str]:
    is_now = connection.scalar(
        text("SELECT pg_get_partkeydef(to_regclass(:table))"), {"table": table.name}
    )
    declared = table.dialect_options["postgresql"]["partition_by"]
    if is_now != declared:
        yield f"is partitioned by {is_now or 'nothing'}, not {declared}"
    # Where the server cannot do lz4 there is nothing to miss.
    slow = connection.scalars(
        text(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:table) "
            "AND attname = ANY(:columns) AND attcompression <> 'l' "
            "AND (SELECT 'lz4' = ANY(enumvals) FROM pg_settings "
            "WHERE name = 'default_toast_compression') ORDER BY attnum"
        ),
        {"table": table.name, "columns": JSON_COLUMNS[table.name]},
    )
    for column in slow:
        yield f"column {column} is not compressed with lz4"
