"""Streams that are cut anywhere, and what of them need not be parsed."""

import json
import tracemalloc
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoolway.producer.answers import Answer, Ends, Payload, StreamReader
from tests.answer_bodies import CHAT_STREAM, STREAMS, Stream, chat_chunk, compact, sse

MAX_BYTES = 64 * 1024


def split(
    body: bytes, cuts: list[int], max_bytes: int = MAX_BYTES, form: Literal["sse", "ndjson"] = "sse"
) -> list[Payload]:
    """The payloads of a body that comes in these parts."""
    reader = StreamReader(form, max_bytes)
    payloads: list[Payload] = []
    for a, b in pairwise([0, *cuts, len(body)]):
        payloads += reader.feed(body[a:b])
    return payloads + reader.close()


def read(payloads: list[Payload]) -> tuple[dict[str, object], int, object]:
    """Columns, the payload with the first token, and the problem."""
    answer = Answer()
    seen = []
    for payload in payloads:
        answer.read_piece(payload)
        seen.append(answer.has_token)
    return answer.columns(), seen.index(True), answer.problem


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_says_the_same_wherever_it_is_cut_in_two(stream: Stream) -> None:
    """The network's packets have nothing to do with events; nor has UTF-8, nor a line's end."""
    payloads = split(stream.body, [], form=stream.form)

    assert read(payloads) == (stream.columns, stream.token_at, stream.problem)
    for cut in range(len(stream.body) + 1):
        assert payloads == split(stream.body, [cut], form=stream.form)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_says_the_same_byte_by_byte_and_with_any_line_ends(stream: Stream) -> None:
    """CRLF and CR end a line like LF, and a BOM comes before the first one."""
    payloads = split(stream.body, [], form=stream.form)
    plain = stream.body.replace(b"\r\n", b"\n")
    bodies = [plain, plain.replace(b"\n", b"\r\n")]
    if stream.form == "sse":
        bodies += [plain.replace(b"\n", b"\r"), b"\xef\xbb\xbf" + plain]

    for body in bodies:
        assert payloads == split(body, [], form=stream.form)
        assert payloads == split(body, list(range(1, len(body))), form=stream.form)


EVENTS = st.lists(
    st.sampled_from(
        b"data: {}|data:x|data|data:|data: |: hi|event: a|id|daten|data: [DONE]|data:  \xc3\xbc"
        b"|\xef\xbb\xbf|\xef|data: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy|".split(b"|")
    )
)
LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\n\r"])


@given(st.data(), st.sampled_from(["sse", "ndjson"]), st.integers(1, 40))
def test_any_lines_are_split_the_same_wherever_they_are_cut(
    data: st.DataObject, form: Literal["sse", "ndjson"], max_bytes: int
) -> None:
    """Nothing but the bytes themselves decides what the payloads are; a reader's bound neither."""
    lines = data.draw(EVENTS)
    body = b"".join(line + data.draw(LINE_ENDS) for line in lines) + data.draw(st.binary())
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)))))

    assert split(body, [], max_bytes, form) == split(body, cuts, max_bytes, form)


@pytest.mark.parametrize(
    ("body", "payloads"),
    [
        (b"data: 1\n\ndata:2\n\ndata:  3\n\n", [b"1", b"2", b" 3"]),
        (b"data: {\ndata: }\n\n", [b"{\n}"]),
        (b": comment\nid: 7\nretry: 1\nevent: x\ndata: 1\nid: 8\n\n", [b"1"]),
        (b"data\ndata: \n\n\n\n", []),
        (b"database: 1\n\ndata : 2\n\n", []),
        (b"data: 1\r\rdata: 2\n\rdata: 3\r\n\r\n", [b"1", b"2", b"3"]),
        (b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n", [b"1"]),
        (b"data: whole\n\ndata: not term", [b"whole", b"not term"]),
        (b"data: one line end\n", [b"one line end"]),
        (b"", []),
    ],
)
def test_events_are_what_the_standard_says(body: bytes, payloads: list[bytes]) -> None:
    """Fields but data are passed over, an empty line ends an event, lines are joined by LF.

    Unlike in the standard an event that the end of the stream has cut off is kept.
    """
    assert payloads == split(body, [])


def test_lines_without_json_are_passed_over_in_json_lines() -> None:
    """Empty lines are none, and the last one needs no end."""
    assert split(b'{"a":1}\r\n\r\n \n{"b":2}\n{"c":3}', [], form="ndjson") == [
        b'{"a":1}',
        b'{"b":2}',
        b'{"c":3}',
    ]


@pytest.mark.parametrize("step", [1, 7, 1_000, 10**6])
@pytest.mark.parametrize("form", ["sse", "ndjson"])
def test_a_payload_too_long_to_be_kept_leaves_its_ends(
    form: Literal["sse", "ndjson"], step: int
) -> None:
    """Of more than max_bytes the first and the last half come out, and the others as they are."""
    mark = b"data: " if form == "sse" else b""
    long = bytes(range(32, 127)) * 100
    parts = (b"{1}", long[:1_000], long[:1_001], long, b"{2}")
    body = b"".join(mark + part + b"\n" * len(mark or b"1") for part in parts)

    assert split(body, list(range(step, len(body), step)), 1_000, form) == [
        b"{1}",
        long[:1_000],
        Ends(long[:500], long[501:1_001], 1_001),
        Ends(long[:500], long[-500:], len(long)),
        b"{2}",
    ]


def test_a_reader_holds_no_more_than_it_may() -> None:
    """Neither a long line nor many lines, of data or of anything else, are kept as a whole."""
    for mark, line in ((b"data: ", b"x" * 1_000), (b": ", b"x" * 1_000), (b"", b"data: y\n" * 100)):
        reader = StreamReader("sse", 10_000)
        reader.feed(mark)
        tracemalloc.start()
        for _ in range(200):
            assert reader.feed(line) == []
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 25_000  # with what a growing bytearray has in reserve


def test_a_reader_needs_room() -> None:
    """A bound of no bytes is a mistake of the caller."""
    with pytest.raises(ValueError) as raised:
        StreamReader("sse", 0)
    assert str(raised.value) == "max_bytes is 0: it must be at least 1"


@pytest.mark.parametrize("max_bytes", [900, 2_000])
def test_a_stream_of_which_some_payloads_are_too_long_says_the_same(max_bytes: int) -> None:
    """A picture in a delta, and a response that repeats all its text, cost nothing but themselves."""
    picture = chat_chunk(
        {"content": "", "images": [{"url": "data:image/png;base64," + "A" * 9_000}]}
    )
    first, rest = CHAT_STREAM.body.split(b"\n\n", 1)
    body = first + b"\n\n" + sse(picture) + rest

    assert read(split(body, [], max_bytes)) == (CHAT_STREAM.columns, 1, None)

    stream = STREAMS["RESPONSES_STREAM"]
    long = json.dumps("long " * 1_000)[1:-1].encode()
    body = stream.body.replace(b"You are a helpful assistant.", long)
    assert read(split(body, [], 4_000)) == (stream.columns, stream.token_at, None)


def test_a_stream_whose_middle_was_lost_still_gives_what_is_at_its_ends() -> None:
    """Whoever keeps only the first and the last payloads has model, stop reason and tokens."""
    for name, stream in STREAMS.items():
        payloads = split(stream.body, [], form=stream.form)
        answer = Answer()
        for payload in [payloads[0], payloads[1], b'{"half a pay', *payloads[-3:]]:
            answer.read_piece(payload)
        assert stream.columns == answer.columns(), name


# --- What is not parsed -----------------------------------------------------------


def _one_by_one(payloads: list[bytes]) -> dict[str, object]:
    """What a stream says when every payload is parsed: a new answer has no shortcuts."""
    model: dict[str, object] = {}
    usage: dict[str, object] = {}
    reason: dict[str, object] = {}
    for payload in payloads:
        answer = Answer()
        answer.read_piece(payload)
        said = answer.columns()
        model = model or {name: said.pop(name) for name in ("provider_model",) if name in said}
        reason = {name: said.pop(name) for name in ("stop_reason",) if name in said} or reason
        said.pop("provider_model", None)
        usage = said or usage
    return {**model, **reason, **usage}


TEXTS = st.text(max_size=8) | st.sampled_from(
    ['"', '\\"', '"},"finish_reason":"stop"', "\\", '"}}]}', 'x"obfuscation":"', "usage", "é𝄞"]
)


@st.composite
def chunks(draw: st.DrawFn) -> dict[str, Any]:
    """A chunk of a chat that may say anything, mostly nothing."""
    delta = {draw(st.sampled_from(("content", "reasoning_content", "text"))): draw(TEXTS)}
    finish = draw(st.sampled_from([None] * 8 + ["stop", "length"]))
    chunk = chat_chunk(delta, finish)
    if draw(st.booleans()):
        chunk["obfuscation"] = draw(TEXTS)
    if draw(st.integers(0, 9)) == 0:
        chunk["usage"] = {"prompt_tokens": draw(st.integers(0, 99)), "total_tokens": 3}
    if draw(st.integers(0, 9)) == 0:
        chunk["model"] = draw(TEXTS)
    return chunk


@given(st.lists(chunks(), max_size=30), st.booleans())
@example(
    [chat_chunk({"content": "a"}), chat_chunk({"content": 'a"}},"usage":{"prompt_tokens":1'})],
    False,
)
def test_what_is_not_parsed_says_nothing(stream: list[dict[str, Any]], is_ascii: bool) -> None:
    """The shortcut for chunks that differ in their text alone changes no column."""
    payloads = [
        json.dumps(chunk, separators=(",", ":"), ensure_ascii=is_ascii).encode() for chunk in stream
    ]
    answer = Answer()
    for payload in payloads:
        answer.read_piece(payload)

    assert _one_by_one(payloads) == answer.columns()


@pytest.mark.parametrize(
    ("learned", "next_one"),
    [
        # Of the same length behind the text.
        (chat_chunk({"content": "a"}, obfuscation="x"), chat_chunk({"content": "b"}, "no")),
        (chat_chunk({"content": "a"}), chat_chunk({"content": "b"}, "no")),
        # More behind what is random.
        (
            chat_chunk({"content": "a"}, obfuscation="x"),
            chat_chunk({"content": "b"}, obfuscation="y", choices=[{"finish_reason": "no"}]),
        ),
        (
            {"choices": [{"delta": {"content": "a"}}], "obfuscation": "x"},
            {
                "choices": [{"delta": {"content": "b"}}],
                "obfuscation": "y",
                "x_groq": {"usage": {"prompt_tokens": 1}},
            },
        ),
        # A text that begins as all ends.
        (
            {"choices": [{"delta": {"content": "a"}}]},
            {"choices": [{"delta": {"content": '"}}]}'}, "finish_reason": "no"}]},
        ),
        # Another key, another depth, another beginning.
        (
            {"choices": [{"delta": {"content": "a"}}]},
            {"choices": [{"delta": {"content": "a"}, "finish_reason": "no"}]},
        ),
        (
            {"choices": [{"delta": {"content": "a"}}]},
            {"choices": [{"finish_reason": "no", "delta": {"content": "a"}}]},
        ),
        # Something between two texts.
        (
            {"choices": [{"delta": {"content": "a"}, "finish_reason": None}]},
            {
                "choices": [
                    {"delta": {"content": "a"}, "finish_reason": "no"},
                    {"delta": {"content": "b"}, "finish_reason": None},
                ]
            },
        ),
        # Of the same length before it.
        (
            {"choices": [{"finish_reason": None, "delta": {"content": "a"}}]},
            {"choices": [{"finish_reason": "no", "delta": {"content": "a"}}]},
        ),
    ],
)
def test_a_chunk_that_says_more_than_the_one_before_is_parsed(
    learned: dict[str, Any], next_one: dict[str, Any]
) -> None:
    """Nothing but the text may be another one, however alike the rest looks."""
    answer = Answer()
    for _ in range(3):
        answer.read_piece(compact(learned))
    before = answer.columns()
    answer.read_piece(compact(next_one))

    assert before != answer.columns()
    assert _one_by_one([compact(learned), compact(next_one)]) == answer.columns()


def test_usage_in_every_chunk_gives_the_last() -> None:
    """Also among chunks without it, and behind the chunk that the shortcut was learned from."""
    answer = Answer()
    for count in range(50):
        answer.read_piece(compact(chat_chunk({"content": "x"})))
        usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": 1 + count}
        answer.read_piece(compact(chat_chunk({"content": "x"}, usage=usage)))
        assert answer.columns()["completion_tokens"] == count


def test_most_chunks_of_a_stream_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chat's 1000 chunks a few are parsed; otherwise a proxy would parse all it relays."""
    parsed = 0

    def counting(data: bytes) -> object:
        nonlocal parsed
        parsed += 1
        return json.loads(data)

    monkeypatch.setattr("spoolway.producer.answers.answer.parsed", counting)
    for padding in ({}, {"obfuscation": "abc"}):
        answer = Answer()
        for number in range(1_000):
            answer.read_piece(compact(chat_chunk({"content": f" wörd{number} \\ \n"}, **padding)))

    assert parsed < 30
