"""What a search finds in a text, as SQLite is told by Python; PostgreSQL's is in the listing's tests."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.worker.reading import BadQuery
from spoolway.worker.reading.words import has_words, words_of
from tests.strategies import legal_json, legal_text


def found(word: str, *values: Any, ascii_only: bool = False, tight: bool = False) -> bool:
    """Search in JSON that was written in one of the ways there are."""
    separators = (",", ":") if tight else None
    texts = [json.dumps(one, ensure_ascii=ascii_only, separators=separators) for one in values]
    return has_words(json.dumps([word]), *texts)


@pytest.mark.parametrize(
    ("word", "value", "expected"),
    [
        ("hello", {"a": "Say HELLO!"}, True),
        ("ell", {"a": "hello"}, True),
        ("über", "ÜBER", True),
        ("über", "Über", True),
        ("ÜBER", "über", True),
        ("é", "cafÉ", True),
        ("1,2", [1, 2], False),
        ("1,2", "1,2", True),
        ("model", {"model": None}, True),
        ('"model"', {"model": None}, False),
        ('"no"', 'he said "no"', True),
        ("C:\\users", "c:\\Users\\me", True),
        ("null", {"a": None}, True),
        ("http://a/b", "see HTTP://A/B.", True),
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("tight", [True, False])
def test_it_does_not_matter_how_json_was_written(
    word: str, value: Any, expected: bool, ascii_only: bool, tight: bool
) -> None:
    """Escapes, spaces and case: what is found is what PostgreSQL finds in its jsonb."""
    assert found(word, value, ascii_only=ascii_only, tight=tight) == expected


@given(legal_json(), legal_text(), st.booleans(), st.booleans())
def test_text_is_found_wherever_it_is(value: Any, text: str, ascii_only: bool, tight: bool) -> None:
    """In any value, as a key or within one."""
    for word in text.split():
        for holder in ({"k": [value, f"a{text}b"]}, {text: value}):
            assert found(word, holder, ascii_only=ascii_only, tight=tight)


@given(st.text())
def test_what_is_no_json_is_searched_as_it_is(text: str) -> None:
    """Another program may have put anything there: no search fails for it."""
    assert has_words('["needle"]', f"{text} needle")
    assert not has_words('["needle, "]', None, "", text.replace("needle", ""))


def test_words_are_told_apart_by_spaces() -> None:
    """Each once; a question has a limit."""
    assert words_of(" b  a\tb\n") == ("b", "a")
    assert words_of("") == words_of("  ") == ()
    with pytest.raises(BadQuery, match="at most 8 words"):
        words_of(" ".join("abcdefghi"))
    with pytest.raises(BadQuery):
        words_of("x" * 201)
