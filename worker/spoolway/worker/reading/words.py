"""What a search finds, on both databases alike: every word, anywhere in the text of a row.

A word is found as a part of longer ones too. Upper and lower case are the same: of a to z wherever
they are, of other letters where all of the word's have one case, or its first alone is a capital.

JSON is searched as PostgreSQL's jsonb writes it: characters as they are and not by their numbers, a
space after each colon and comma. SQLite has the text as it came, so it asks Python.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    case,
    cast,
    collate,
    false,
    func,
    literal,
    or_,
    true,
    type_coerce,
)

from spoolway.worker.reading.failures import BadQuery
from spoolway.worker.reading.filters import check_text

MOST_WORDS: Final = 8
MOST_CHARACTERS: Final = 200
SQLITE_FUNCTION: Final = "spoolway_has_words"

_STRUCTURE: Final = frozenset("{}[]:,")
_LIKE: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
_ESCAPED: Final = re.compile(rb"\\[u/]", re.IGNORECASE)


def words_of(text: str) -> tuple[str, ...]:
    """Return the words to search for; none for blank text.

    Raises:
        BadQuery: too many, too long, or what no row can have.
    """
    check_text("q", text)
    words = tuple(dict.fromkeys(text.split()))
    if len(words) > MOST_WORDS or len(text) > MOST_CHARACTERS:
        raise BadQuery(f"q has at most {MOST_WORDS} words and {MOST_CHARACTERS} characters")
    return words


def in_json(
    dialect: str,
    columns: Sequence[ColumnElement[Any]],
    words: Sequence[str],
    *,
    by_index: bool = True,
) -> ColumnElement[bool]:
    """Return the SQL of all words being in these columns, each in any of them.

    Not `by_index`: PostgreSQL walks by id. It has no statistics of texts of this length, takes every
    word for a rare one, and would read and sort all rows of a day for one that they all have.
    """
    if dialect == "sqlite":
        texts = [type_coerce(column, Text()) for column in columns]
        return func.spoolway_has_words(json.dumps(words), *texts) == literal(1)
    as_text = [cast(column, Text()) for column in columns]
    found = and_(*(_like(as_text, _quoted(word)) for word in words))
    # Of a CASE it thinks that half of the rows have it, and no index is of one.
    return found if by_index else case((found, true()), else_=false())


def in_text(column: ColumnElement[str], words: Sequence[str], dialect: str) -> ColumnElement[bool]:
    """Return the SQL of all words being in a column of plain text."""
    if dialect == "sqlite":  # its LIKE takes a to z for A to Z, and no other letters
        return and_(
            *(
                or_(*(column.like(_pattern(spelt), escape="\\") for spelt in _spellings(word)))
                for word in words
            )
        )
    return and_(*(_like([column], word) for word in words))


def _like(columns: Sequence[ColumnElement[str]], word: str) -> ColumnElement[bool]:
    # "C" takes a to z for A to Z, and no other letters, whatever the database's locale is.
    return or_(
        *(
            collate(column, "C").ilike(_pattern(spelt))
            for column in columns
            for spelt in _spellings(word)
        )
    )


def _pattern(text: str) -> str:
    return f"%{text.translate(_LIKE)}%"


def _quoted(word: str) -> str:
    """Return a word as JSON has it within a string."""
    return json.dumps(word, ensure_ascii=False)[1:-1]


def _spellings(word: str) -> list[str]:
    """Return the cases to look for: one where a to z are the only letters."""
    if word.isascii():
        return [word]
    return list(dict.fromkeys((word, word.lower(), word.upper(), word.capitalize())))


# --- SQLite -------------------------------------------------------------------


def has_words(words: str, *columns: str | None) -> bool:
    """Tell whether every word of a JSON array is in one of these texts of JSON."""
    searched, is_structure = _searched(words)
    texts = [_searchable(column, is_structure) for column in columns if column]
    return all(any(one in text for text in texts for one in spellings) for spellings in searched)


@lru_cache(maxsize=64)
def _searched(words: str) -> tuple[list[list[bytes]], bool]:
    """Return each word's spellings, and whether one may span what is no string."""
    found: list[str] = json.loads(words)
    spellings = [[spelt.encode().lower() for spelt in _spellings(_quoted(one))] for one in found]
    return spellings, any(not _STRUCTURE.isdisjoint(one) for one in found)


def _searchable(column: str, is_structure: bool) -> bytes:
    text = column.encode(errors="replace").lower()  # of a to z alone
    if is_structure or _ESCAPED.search(text):
        return _as_jsonb(column).encode(errors="replace").lower()
    return text


def _as_jsonb(text: str) -> str:
    """Return JSON as jsonb writes it, but for numbers with an exponent."""
    try:
        return json.dumps(json.loads(text, object_pairs_hook=_in_order), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text  # as it is: nobody but another program can have put it there


def _in_order(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    def place(name: str) -> tuple[int, bytes]:
        encoded = name.encode(errors="replace")
        return len(encoded), encoded

    found = dict(pairs)
    return {name: found[name] for name in sorted(found, key=place)}
