"""How the terminal commands say numbers, trends and conversations; and that nothing breaks them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.worker.cli import amounts
from spoolway.worker.cli.shown import cells, cut, padded, table
from spoolway.worker.cli.sparkline import ASCII, BLOCKS, sparkline, steps_for
from spoolway.worker.cli.streamed import streamed
from spoolway.worker.cli.turns import Turn, answer, question

# --- Amounts ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (None, "-"),
        (0, "0 ms"),
        (0.25, "0.25 ms"),
        (12.34, "12.3 ms"),
        (99.6, "100 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (9_994, "9.99 s"),
        (9_996, "10.0 s"),
        (59_940, "59.9 s"),
        (59_960, "1 min 00 s"),
        (125_000, "2 min 05 s"),
        (3_599_700, "1 h 00 min"),
        (90 * 3_600_000, "90 h 00 min"),
        (-50, "-50 ms"),
    ],
)
def test_a_duration_is_said_in_the_unit_that_fits(milliseconds: float | None, said: str) -> None:
    """Three digits, whatever it is; never 60 s or 1000 ms."""
    assert amounts.duration(milliseconds) == said


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, "-"),
        (0.0, "0.00"),
        (0.0042, "0.0042"),
        (0.00001234, "0.000012"),
        (0.5, "0.5"),
        (0.994, "0.99"),
        (0.996, "1.00"),
        (1234.567, "1,234.57"),
        (1e-30, "<0.000001"),
        (-3.0, "-3.00"),
    ],
)
def test_a_small_cost_keeps_two_digits_that_count(amount: float | None, said: str) -> None:
    """A request costs parts of a cent: 0.00 would be a lie."""
    assert amounts.money(amount) == said


def test_a_share_that_is_not_all_or_nothing_is_never_said_to_be() -> None:
    """One failure of a million requests is seen."""
    said = [
        amounts.share(part, of) for part, of in ((0, 5), (1, 10**6), (10**6 - 1, 10**6), (5, 5))
    ]
    assert said == ["0.0 %", "<0.1 %", ">99.9 %", "100.0 %"]
    assert amounts.share(1, 0) == amounts.share(None, 3) == "-"


def test_footprint_is_said_in_grams_and_watt_hours_until_it_is_more() -> None:
    """Between its bounds; where they are one, that."""
    assert amounts.co2(0.0012, 0.0034) == "1.2 to 3.4 g"
    assert amounts.co2(1.5, 1.5) == "1.5 kg"
    assert amounts.energy(0.0000001, 0.002) == "0.0001 to 2 Wh"
    assert amounts.energy(1, 2000) == "1 to 2,000 kWh"
    assert amounts.co2(None, 1.0) == amounts.energy(None, None) == "-"


def test_a_rate_that_is_not_zero_is_never_zero() -> None:
    """One event in a minute is something."""
    said = [amounts.rate(one) for one in (None, 0, 0.01, 0.5, 9.9, 12.4, 12_345.6)]
    assert said == ["-", "0", "<0.1", "0.5", "9.9", "12", "12,346"]


# --- Trends -------------------------------------------------------------------


def test_a_trend_is_from_zero_to_its_most() -> None:
    """Twice as high is twice as much; nothing is a space, unknown a question mark."""
    assert sparkline([0, 1, 2, 4, 8, None], width=10) == " ▁▂▄█?"
    assert sparkline([0, 0], width=10) == "  "
    assert sparkline([], width=10) == ""


def test_a_trend_that_is_too_long_is_squeezed() -> None:
    """Each character is the mean of what it stands for."""
    assert sparkline([1, 1, 8, 8, None, None], width=3) == "▁█?"
    assert len(sparkline(list(range(1000)), width=40)) == 40


@pytest.mark.parametrize(
    ("encoding", "steps"),
    [("utf-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("no-such", ASCII)],
)
def test_a_terminal_without_blocks_gets_ascii(encoding: str | None, steps: str) -> None:
    """As many steps as there are blocks."""
    assert steps_for(encoding) == steps
    assert len(ASCII) == len(BLOCKS) == 8


@given(st.lists(st.none() | st.floats(allow_nan=False, min_value=-1e300, max_value=1e300)))
def test_any_trend_has_its_width(values: list[float | None]) -> None:
    """No value is too large, too small or too unknown."""
    assert len(sparkline(values, width=7)) == min(len(values), 7)


# --- Columns ------------------------------------------------------------------


def test_columns_are_as_wide_as_a_terminal_shows_them() -> None:
    """A letter of Chinese takes two columns, an accent of its own none."""
    assert [cells(text) for text in ("abc", "模型", "e\u0301")] == [3, 4, 1]
    assert padded("模型", 6) == "模型  "
    assert padded("模型", 6, to_the_right=True) == "  模型"
    assert table([("模型", "1"), ("gpt", "22")], right=[1]) == ["模型   1", "gpt   22"]


def test_what_is_too_wide_is_cut() -> None:
    """Never in the middle of a wide letter; what was cut can be seen."""
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abc..."
    assert cut("模型模型", 6) == "模..."
    assert cut("abc", 2) == ".."


# --- Conversations ------------------------------------------------------------


def said(turns: list[Turn]) -> list[tuple[str, str, str]]:
    """Who said what, and as what."""
    return [(turn.role, part.kind, part.text) for turn in turns for part in turn.parts]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {
                "messages": [
                    {"role": "system", "content": "Be short."},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is this?"},
                            {"type": "image_url", "image_url": {"url": "data:x"}},
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {"id": "1", "function": {"name": "look", "arguments": '{"at": 1}'}}
                        ],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": "a cat"},
                ]
            },
            [
                ("system", "text", "Be short."),
                ("user", "text", "What is this?"),
                ("user", "image", '{"type":"image_url","image_url":{"url":"data:x"}}'),
                ("assistant", "tool call", 'look({"at": 1})'),
                ("tool", "text", "a cat"),
            ],
        ),
        (  # Anthropic
            {
                "system": [{"type": "text", "text": "Be kind."}],
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "Hm."},
                            {"type": "tool_use", "name": "look", "input": {"at": 1}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {"type": "tool_result", "content": [{"type": "text", "text": "a dog"}]}
                        ],
                    },
                ],
            },
            [
                ("system", "text", "Be kind."),
                ("user", "text", "Hi"),
                ("assistant", "thinking", "Hm."),
                ("assistant", "tool call", 'look({"at":1})'),
                ("user", "tool result", "a dog"),
            ],
        ),
        (  # OpenAI's Responses
            {
                "instructions": "Be fast.",
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                    {"type": "function_call", "name": "look", "arguments": "{}"},
                    {"type": "function_call_output", "output": "a fox"},
                ],
            },
            [
                ("system", "text", "Be fast."),
                ("user", "text", "Hi"),
                ("assistant", "tool call", "look({})"),
                ("tool", "tool result", "a fox"),
            ],
        ),
        (  # Gemini
            {
                "systemInstruction": {"parts": [{"text": "Be wise."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "Hi"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {}}}]},
                ],
            },
            [
                ("system", "text", "Be wise."),
                ("user", "text", "Hi"),
                ("model", "tool call", "look({})"),
            ],
        ),
        ({"prompt": "Once upon"}, [("user", "text", "Once upon")]),
        ({"input": ["a", "b"]}, [("user", "text", '["a","b"]')]),
        (
            {"_truncated": True, "bytes": 5, "preview": '{"mess'},
            [
                (
                    "body",
                    "truncated",
                    '5 bytes in all, the rest was too large to be kept: {"mess',
                )
            ],
        ),
        ("plain text", [("user", "text", "plain text")]),
        (None, []),
        ({"file": {"name": "a.wav"}}, []),
    ],
)
def test_what_was_asked_is_read_as_a_conversation(
    body: object, expected: list[tuple[str, str, str]]
) -> None:
    """Whichever provider's form it has."""
    assert said(question(body)) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (
            {"choices": [{"message": {"role": "assistant", "content": "4", "reasoning": "2+2"}}]},
            [("assistant", "thinking", "2+2"), ("assistant", "text", "4")],
        ),
        ({"choices": [{"text": "a time"}]}, [("assistant", "text", "a time")]),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
            [("assistant", "text", "Hello")],
        ),
        (
            {
                "output": [
                    {"type": "reasoning", "summary": [{"text": "Hm."}]},
                    {"type": "message", "role": "assistant", "content": [{"text": "Yes"}]},
                ]
            },
            [("assistant", "thinking", "Hm."), ("assistant", "text", "Yes")],
        ),
        (
            {"candidates": [{"content": {"parts": [{"text": "Bonjour"}]}}]},
            [("assistant", "text", "Bonjour")],
        ),
        ({"message": {"role": "assistant", "content": "Hallo"}}, [("assistant", "text", "Hallo")]),
        (
            {"error": {"type": "rate_limit", "message": "slow down"}},
            [("error", "error", "rate_limit: slow down")],
        ),
    ],
)
def test_what_was_answered_is_read_as_a_conversation(
    response: object, expected: list[tuple[str, str, str]]
) -> None:
    """Whichever provider's form it has."""
    assert said(answer(response)) == expected


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (
            [
                {"choices": [{"delta": {"role": "assistant", "content": "Hel"}}]},
                {"choices": [{"delta": {"content": "lo"}}]},
                {"choices": [{"index": 1, "delta": {"content": "Hi"}}]},
                {"choices": [], "usage": {}},
            ],
            [("assistant", "text", "Hello"), ("assistant", "text", "Hi")],
        ),
        (
            [
                {
                    "choices": [
                        {"delta": {"tool_calls": [{"index": 0, "function": {"name": "look"}}]}}
                    ]
                },
                {
                    "choices": [
                        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}
                    ]
                },
            ],
            [("assistant", "tool call", "look({})")],
        ),
        (  # Anthropic
            [
                {"type": "message_start", "message": {"role": "assistant", "content": []}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
                {"type": "content_block_delta", "index": 0, "delta": {"text": "Hel"}},
                {"type": "content_block_delta", "index": 0, "delta": {"text": "lo"}},
                {
                    "type": "content_block_start",
                    "index": 1,
                    "content_block": {"type": "tool_use", "name": "look"},
                },
                {"type": "content_block_delta", "index": 1, "delta": {"partial_json": "{}"}},
            ],
            [("assistant", "text", "Hello"), ("assistant", "tool call", "look({})")],
        ),
        (  # OpenAI's Responses, to its end
            [
                {"type": "response.output_text.delta", "output_index": 0, "delta": "He"},
                {
                    "type": "response.completed",
                    "response": {"output": [{"type": "message", "content": [{"text": "Hello"}]}]},
                },
            ],
            [("assistant", "text", "Hello")],
        ),
        (  # and broken off
            [{"type": "response.output_text.delta", "output_index": 0, "delta": "He"}],
            [("assistant", "text", "He")],
        ),
        (
            [{"candidates": [{"content": {"parts": [{"text": "Bon"}]}}]}] * 2,
            [("assistant", "text", "BonBon")],
        ),
        (
            [{"message": {"content": "Hal"}}, {"message": {"content": "lo"}}],
            [("assistant", "text", "Hallo")],
        ),
        (
            [
                {"type": "content-delta", "delta": {"message": {"content": {"text": "Ciao"}}}},
                {"_truncated": True, "bytes": 9},
            ],
            [
                ("assistant", "text", "Ciao"),
                ("truncated", "truncated", "9 bytes in all, the rest was too large to be kept"),
            ],
        ),
        (
            [
                {"choices": [{"delta": {"content": "Hel"}}]},
                {"error": {"message": "overloaded", "code": 529}},
            ],
            [("assistant", "text", "Hel"), ("error", "error", "529: overloaded")],
        ),
    ],
)
def test_a_stream_is_put_together(chunks: object, expected: list[tuple[str, str, str]]) -> None:
    """Text, tool calls and errors, of every provider's chunks."""
    assert said(streamed(chunks)) == expected


_NAMES = st.sampled_from(
    [
        *("messages", "role", "content", "system", "contents", "parts", "text", "input", "type"),
        *("choices", "message", "delta", "tool_calls", "function", "name", "arguments", "output"),
        *("candidates", "error", "index", "content_block", "response", "_truncated", "summary"),
    ]
)
_WORDS = st.sampled_from(
    ["user", "tool_use", "tool_result", "message", "reasoning", "content_block_delta"]
)
_ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=30,
)


@given(_ANYTHING)
def test_no_json_breaks_a_conversation(value: Any) -> None:
    """Whatever a client or another program has put there: parts with texts come out."""
    for turns in (question(value), answer(value), streamed(value), streamed([value, value])):
        for turn in turns:
            texts = [turn.role, *(text for part in turn.parts for text in (part.kind, part.text))]
            assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize("name", ["content", "tool_result", "list", "parts"])
def test_no_depth_breaks_a_conversation(name: str) -> None:
    """A thousand levels are what a database takes."""
    value: Any = "x"
    for _ in range(1000):
        value = {
            "content": {"role": "user", "content": value},
            "tool_result": {"type": "tool_result", "content": [value]},
            "list": [value],
            "parts": {"parts": [value]},
        }[name]
    for body in (value, {"messages": [{"content": value}]}, {"input": [value]}):
        for read in (question, answer, streamed):
            assert isinstance(read(body), list)
