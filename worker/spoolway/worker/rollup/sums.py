"""Sums in SQL that do not end in an error, whatever numbers an event had."""

from typing import Any, Final

from sqlalchemy import ColumnElement, func

_LARGEST: Final = 1e290
"""A sum above 1.8e308 is an error in PostgreSQL. So many of these nobody has."""


def whole(column: ColumnElement[int], dialect: str) -> ColumnElement[Any]:
    """Return the sum of whole numbers of any size: a decimal, or on SQLite a float."""
    # A sum above 2**63 is an error in SQLite. Its total() is exact to 2**53, nine million billions.
    return func.total(column) if dialect == "sqlite" else func.sum(column)


def fraction(column: ColumnElement[float], dialect: str) -> ColumnElement[Any]:
    """Return the sum of a column of fractions; of no rows it may be NULL."""
    if dialect == "sqlite":  # where it is infinite, or NULL of both infinities
        return func.coalesce(func.sum(column), 0.0)
    bounded = func.least(func.greatest(column, -_LARGEST), _LARGEST)
    return func.sum(bounded).filter(column.is_not(None))  # these two take no notice of a NULL
