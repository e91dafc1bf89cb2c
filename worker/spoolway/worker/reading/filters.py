"""Which rows are asked for by their dimensions, and which of them a token may see."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from sqlalchemy import ColumnElement, FromClause, false, or_

from spoolway.schema.events import OUTCOMES
from spoolway.worker.reading.failures import BadQuery

MOST_VALUES: Final = 100
"""Of one filter."""
MOST_CHARACTERS: Final = 1_000
"""Of one value: longer than any name that is worth a dimension."""

COLUMNS: Final = {
    "model": "model_name",
    "provider": "provider",
    "outcome": "outcome",
    "user": "user_id",
    "key": "api_key_id",
    "organization": "organization_id",
    "project": "project_id",
}
"""A filter's name, and the column that it is about."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows a token sees: of these users and in these organizations; empty is everybody's.

    As in a filter "" is who has none.
    """

    users: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether there is nothing that the token does not see."""
        return not self.users and not self.organizations


EVERYTHING: Final = Scope()


@dataclass(frozen=True, slots=True)
class Filters:
    """Accepted values of each dimension; none is any. The value "" is a dimension that is NULL.

    Raises:
        BadQuery: a value that no row can have.
    """

    model: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    organization: tuple[str, ...] = ()
    project: tuple[str, ...] = ()
    is_nothing: bool = False
    """Whether no row is asked for: what was asked for and what may be seen have none in common."""

    COLUMNS: ClassVar = COLUMNS

    def __post_init__(self) -> None:
        """Refuse what cannot be compared with."""
        for name in COLUMNS:
            check_values(name, getattr(self, name))
        if unknown := [one for one in self.outcome if one and one not in OUTCOMES]:
            raise BadQuery(
                f"outcome is {', '.join(OUTCOMES)}, or empty for unknown; not {unknown[0]!r}"
            )

    @property
    def given(self) -> dict[str, tuple[str, ...]]:
        """Return what is filtered by: a column's name, and its accepted values."""
        return {
            column: values for name, column in COLUMNS.items() if (values := getattr(self, name))
        }

    def conditions(
        self, table: FromClause, *, without: Collection[str] = ()
    ) -> list[ColumnElement[bool]]:
        """Return the SQL of it, but for columns that the caller sees to.

        Raises:
            LookupError: the table has not all the columns. It is never narrowed by less than asked.
        """
        if self.is_nothing:
            return [false()]
        return [
            is_any_of(table.c[column], values)
            for column, values in self.given.items()
            if column not in without
        ]

    def matches(self, dimensions: Mapping[str, str | None]) -> bool:
        """Tell whether a row of these columns is asked for; one that is not there is NULL."""
        return not self.is_nothing and all(
            (dimensions.get(column) or "") in values for column, values in self.given.items()
        )

    def within(self, scope: Scope) -> "Filters":
        """Return these filters, narrowed to what a token may see."""
        user, organization = (
            _common(self.user, scope.users),
            _common(self.organization, scope.organizations),
        )
        if user is None or organization is None:
            return replace(self, is_nothing=True)
        return replace(self, user=user, organization=organization)


def _common(asked: tuple[str, ...], seen: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the values in both; None if there are none, for () would be any."""
    if not seen or not asked:
        return asked or seen
    return tuple(value for value in asked if value in seen) or None


def is_any_of(column: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Return the SQL of one of these values; "" is NULL, or text that is empty."""
    # An empty name counts as none, as `matches` has it, and as a page shows it.
    named = [value for value in values if value]
    conditions: list[ColumnElement[bool]] = [column.in_(named)] if named else []
    if "" in values:
        conditions += [column.is_(None), column == ""]
    return or_(*conditions)


def check_values(name: str, values: Sequence[str]) -> None:
    """Refuse values that no row can have.

    Raises:
        BadQuery: too many, too long, or no text that a database holds.
    """
    if len(values) > MOST_VALUES:
        raise BadQuery(f"{name} has {len(values)} values: give at most {MOST_VALUES}")
    for value in values:
        check_text(name, value)


def check_text(name: str, value: str) -> None:
    """Refuse text that no row can have. Raises BadQuery."""
    if len(value) > MOST_CHARACTERS:
        raise BadQuery(f"{name} is longer than {MOST_CHARACTERS} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadQuery(f"{name} is no text in UTF-8") from None
    if "\0" in value:
        raise BadQuery(f"{name} has a NUL character in it, which no row has")


EVERY_ROW: Final = Filters()
