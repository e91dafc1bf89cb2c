"""Conversations as the page reads them, whoever's format they are in, and whatever is wrong in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browsing import needs_chromium, visiting
from tests.page_corpus import ELSEWHERE
from tests.page_traffic import put
from tests.serving_api import serving_in_thread, settings_for
from tests.stores import Templates, request

pytest_plugins = ["tests.store_fixtures", "tests.page_fixtures"]
pytestmark = needs_chromium

CUT = {
    "_truncated": True,
    "bytes": 5_000_000,
    "sha256": "ab" * 32,
    "preview": '{"model": "m", "mes',
}
READ = """async ([kind, value]) => {
  const { asked } = await import("/assets/talk/asked.js");
  const { answered } = await import("/assets/talk/answered.js");
  const { streamed } = await import("/assets/talk/streamed.js");
  const { conversation } = await import("/assets/talk/conversation.js");
  const found = { asked: () => asked(value)?.messages, answered: () => answered(value),
    streamed: () => streamed(value).messages }[kind]();
  if (!found) return null;
  const shown = conversation(found);
  document.body.append(shown);
  for (const one of shown.querySelectorAll("details")) one.open = true;
  await new Promise((resolve) => setTimeout(resolve)); // a fold is filled when it is told so
  const said = [...shown.children].map((one) => one.innerText.split(/\\s+/).join(" ").trim());
  shown.remove();
  return said;
}"""


@pytest.fixture(scope="module")
def page(
    browser: Browser, templates: Templates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """The page, open, to call its modules."""
    folder = tmp_path_factory.mktemp("talk")
    with (
        templates.sqlite(folder) as database,
        serving_in_thread(settings_for(database, folder)) as url,
        visiting(browser, url) as visitor,
    ):
        yield visitor.open("/#/errors")


def read(page: Page, kind: str, value: Any) -> list[str] | None:
    """Return what each message says, as one sees it."""
    found: list[str] | None = page.evaluate(READ, [kind, value])
    return found


def chunk(**delta: Any) -> dict[str, Any]:
    """A chunk of OpenAI's chat."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def test_what_is_asked_reads_the_same_in_every_format(page: Page) -> None:
    """System, user, tool call, result: OpenAI chat and Responses, Anthropic, Gemini."""
    call = '{"city": "Nice"}'
    chat = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": call}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
        ]
    }  # fmt: skip
    responses = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": call},
            {"type": "function_call_output", "call_id": "c1", "output": "21 degrees"},
        ],
    }
    anthropic = {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Nice"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21 degrees"}]},
        ],
    }  # fmt: skip
    expected = [
        "System Be brief.",
        "User Weather?",
        'Assistant calls weather c1 { "city": "Nice" }',
        "Tool returned c1 21 degrees",
    ]
    assert read(page, "asked", chat) == expected
    assert read(page, "asked", responses) == expected
    assert read(page, "asked", anthropic) == expected
    gemini = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Nice"}}}]},
        ],
    }  # fmt: skip
    assert read(page, "asked", gemini) == [
        *expected[:2],
        'Assistant calls weather { "city": "Nice" }',
    ]
    assert read(page, "asked", {"prompt": "Once upon"}) == ["User Once upon"]
    assert read(page, "asked", {"input": "Hello"}) == ["User Hello"]
    assert read(page, "asked", {"audio": "x"}) is None


def test_pictures_are_named_and_never_loaded(page: Page) -> None:
    """A URL is text; of what is in the request itself, type and size."""
    content = [
        {"type": "image_url", "image_url": {"url": f"{ELSEWHERE}/cat.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAAAAAA", "format": "wav"}},
    ]
    [said] = read(page, "asked", {"messages": [{"role": "user", "content": content}]}) or []
    assert said == (
        f"User Image, not loaded {ELSEWHERE}/cat.png Image (image/png), 3.00 kB, not loaded "
        "Image (image/gif), 3 B, not loaded Audio (wav), 6 B, not loaded"
    )


def test_streams_are_put_together(page: Page) -> None:
    """Of OpenAI chat and Responses, Anthropic, Gemini and Ollama: text, thinking, calls, the end."""
    chat = [
        chunk(role="assistant", content=""),
        chunk(reasoning_content="hm"),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": {"total_tokens": 3}},
    ]  # fmt: skip
    said = 'Assistant Thinking 2 characters hm Hello calls f c1 { "a": 1 } ended: '
    assert read(page, "streamed", chat) == [said + "tool_calls"]
    anthropic = [
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "c1", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]  # fmt: skip
    assert read(page, "streamed", anthropic) == [said + "tool_use"]
    begun = [
        {"type": "response.created", "response": {}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": []}},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "lo"},
    ]  # fmt: skip
    assert read(page, "streamed", begun) == ["Assistant Hello"]
    item = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hello!"}],
    }
    whole = {"type": "response.completed", "response": {"output": [item]}}
    assert read(page, "streamed", [*begun, whole]) == ["Assistant Hello!"]
    gemini = [{"candidates": [{"content": {"parts": [{"text": text}]}}]} for text in ("Hel", "lo")]
    assert read(page, "streamed", gemini) == ["Assistant Hello"]
    ollama = [{"message": {"role": "assistant", "content": text}} for text in ("Hel", "lo")]
    assert read(page, "streamed", [*ollama, {"done": True, "done_reason": "stop"}]) == [
        "Assistant Hello ended: stop"
    ]
    broken = [*chat[:4], {"error": {"type": "server_error", "message": "crashed"}}]
    assert read(page, "streamed", broken) == [
        "Assistant Thinking 2 characters hm Hello",
        "Error server_error crashed",
    ]


def test_answers_in_one_piece_are_read(page: Page) -> None:
    """Several choices, a refusal, an error that is kept as the text it was."""
    two = {"choices": [{"index": n, "message": {"content": t}, "finish_reason": "stop"} for n, t in enumerate("ab")]}  # fmt: skip
    assert read(page, "answered", two) == [
        "Assistant choice 1 of 2 a ended: stop",
        "Assistant choice 2 of 2 b ended: stop",
    ]
    refused = {"choices": [{"message": {"content": None, "refusal": "No."}}]}
    assert read(page, "answered", refused) == ["Assistant Refused No."]
    assert read(page, "answered", '{"error": {"type": "t", "message": "m"}}') == ["Error t m"]
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}]}
    assert read(page, "answered", message) == ["Assistant Hi"]
    assert read(page, "answered", {"data": [{"embedding": [0.1]}]}) is None


@pytest.mark.parametrize("kind", ["asked", "answered", "streamed"])
def test_nonsense_in_any_place_is_shown_or_passed_over(page: Page, kind: str) -> None:
    """Whatever stands where a message, a part, a name or a list is expected: never an exception."""
    odd: list[Any] = [None, 0, 1.5, True, "", "x", [], {}, [None], [[]], {"text": {}}, {"type": 7}]
    for one in odd:
        for value in (
            one,
            [one],
            {"messages": one, "choices": one, "output": one, "content": one, "candidates": one},
            {"messages": [one], "input": [one], "contents": [one], "choices": [one], "output": [one]},
            {"messages": [{"role": one, "content": one, "tool_calls": one, "name": one, "images": one}]},
            {"messages": [{"role": "user", "content": [one, {"type": "image_url", "image_url": one}]}]},
            {"choices": [{"message": one, "delta": one, "index": one, "finish_reason": one}]},
            [{"choices": [{"delta": {"content": one, "tool_calls": [one], "role": one}}]}],
            [{"type": "content_block_delta", "index": one, "delta": one, "content_block": one}],
            [{"type": "response.output_item.added", "item": one, "output_index": one, "delta": one}],
            {"error": one, "type": "message"},
        ):  # fmt: skip
            read(page, kind, value)


def test_what_was_cut_or_has_expired_is_explained(
    browser: Browser, templates: Templates, tmp_path: Path
) -> None:
    """A body over its cap says how large it was and how it began; one that is gone, why."""
    cut = request(body=CUT, stream_chunks=[chunk(content="Hel"), CUT], is_stream=True)
    gone = request(truncated=["body", "response", "_expired"])
    with (
        templates.sqlite(tmp_path) as database,
        serving_in_thread(settings_for(database, tmp_path)) as url,
        visiting(browser, url) as visitor,
    ):
        put(database, cut, gone)
        visitor.open(f"/#/request/{cut.event.id}")
        said = visitor.page.locator(".talks").inner_text()
        assert "Cut when it was recorded." in said
        assert "What was asked of 5.00 MB was over the cap" in said
        assert str(CUT["preview"]) in said
        assert "The stream of 5.00 MB" in said
        assert "Hel" in said
        visitor.open(f"/#/request/{gone.event.id}")
        said = visitor.page.locator(".talks").inner_text()
        assert "Retention has removed what was said" in said
        assert said.count("Not kept any more.") == 2
