"""What was said in a request, and answered, as turns of a conversation: for a person to read.

Of chat, completions and Responses as OpenAI has them, of Anthropic's messages, Gemini's contents,
Ollama and Cohere. Nothing here trusts a shape: what is not understood is shown as JSON, and nothing
raises. Texts are as they came: who prints them makes them printable.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

_PREVIEW: Final = "the rest was too large to be kept"


@dataclass(slots=True, frozen=True)
class Part:
    """A piece of what somebody said."""

    kind: str
    """"text", or what else it is: "thinking", "tool call", "tool result", "image", "error", ..."""
    text: str


@dataclass(slots=True)
class Turn:
    """What one of them said."""

    role: str
    parts: list[Part] = field(default_factory=list)


def question(body: Any) -> list[Turn]:
    """Return what a request's body asks; nothing where it is no conversation (a file, say)."""
    if isinstance(body, str):
        return [Turn("user", [Part("text", body)])] if body else []
    if not isinstance(body, Mapping):
        return []
    if marker := truncated(body):
        return [Turn("body", [marker])]
    return [turn for turn in _asked(body) if turn.parts]


def answer(response: Any) -> list[Turn]:
    """Return what a whole answer says."""
    if isinstance(response, str):
        return [Turn("assistant", [Part("text", response)])] if response else []
    if isinstance(response, list):  # Gemini's stream without SSE
        return [turn for one in _mappings(response) for turn in answer(one)]
    if not isinstance(response, Mapping):
        return []
    if marker := truncated(response):
        return [Turn("response", [marker])]
    return [turn for turn in _answered(response) if turn.parts]


def truncated(value: Any) -> Part | None:
    """Return what is known of a value that was too large to be kept; None if this is none."""
    if not isinstance(value, Mapping) or value.get("_truncated") is not True:
        return None
    said = f"{value.get('bytes')} bytes in all, {_PREVIEW}"
    preview = value.get("preview")
    return Part("truncated", f"{said}: {preview}" if isinstance(preview, str) else said)


def tool_call(name: object, arguments: object) -> Part:
    """Return a call of a tool: get_weather({"city": "Paris"})."""
    said = arguments if isinstance(arguments, str) else as_json(arguments)
    return Part("tool call", f"{text_of(name)}({said})")


def problem(value: object) -> Part:
    """Return an error that an answer says."""
    if isinstance(value, Mapping) and isinstance(value.get("message"), str):
        kind = value.get("type") or value.get("code") or value.get("status")
        return Part("error", ": ".join(filter(None, (text_of(kind), str(value["message"])))))
    return Part("error", text_of(value))


def text_of(value: object) -> str:
    """Return a text as it is, nothing for None, and anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else as_json(value)


def as_json(value: object) -> str:
    """Return JSON on one line."""
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        return "(nested too deeply to be shown)"


def _asked(body: Mapping[str, Any]) -> Iterator[Turn]:
    for name in ("system", "instructions"):  # Anthropic; OpenAI's Responses
        if value := body.get(name):
            yield Turn("system", list(content(value)))
    for name in ("systemInstruction", "system_instruction"):
        if value := body.get(name):
            yield Turn("system", list(_content_of_gemini(value)))
    for message in _list(body.get("messages")):
        yield _message(message)
    for message in _list(body.get("contents")):
        role = message.get("role") if isinstance(message, Mapping) else None
        yield Turn(str(role or "user"), list(_content_of_gemini(message)))
    for name in ("input", "prompt"):
        value = body.get(name)
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            for item in value:
                yield _item(item)
        elif value:
            yield Turn("user", [Part("text", text_of(value))])


def _answered(response: Mapping[str, Any]) -> Iterator[Turn]:
    for choice in _mappings(response.get("choices")):
        if "message" in choice:
            yield _message(choice["message"], "assistant")
        elif text := choice.get("text"):
            yield Turn("assistant", [Part("text", text_of(text))])
    for item in _list(response.get("output")):
        yield _item(item, "assistant")
    for candidate in _mappings(response.get("candidates")):
        yield Turn("assistant", list(_content_of_gemini(candidate.get("content"))))
    if "message" in response:  # Ollama, Cohere
        yield _message(response["message"], "assistant")
    if isinstance(response.get("response"), str):
        yield Turn("assistant", [Part("text", response["response"])])
    if "content" in response:
        yield _message(response, "assistant")
    if response.get("error"):
        yield Turn("error", [problem(response["error"])])


def _message(message: Any, role: str = "user") -> Turn:
    """Return a message of a chat: OpenAI's, Anthropic's, Ollama's, Cohere's."""
    if not isinstance(message, Mapping):
        return Turn(role, [Part("text", text_of(message))] if message else [])
    turn = Turn(text_of(message.get("role")) or role)
    for name in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(message.get(name), str) and message[name]:
            turn.parts.append(Part("thinking", message[name]))
            break
    turn.parts += content(message.get("content"))
    if message.get("refusal"):
        turn.parts.append(Part("refusal", text_of(message["refusal"])))
    turn.parts += [
        tool_call(called.get("name"), called.get("arguments"))
        for call in _mappings(message.get("tool_calls"))
        for called in [_mapping(call.get("function"))]
    ]
    if called := _mapping(message.get("function_call")):
        turn.parts.append(tool_call(called.get("name"), called.get("arguments")))
    return turn


def _item(item: Any, role: str = "user") -> Turn:
    """Return an item of OpenAI's Responses."""
    if not isinstance(item, Mapping):
        return Turn(role, [Part("text", text_of(item))])
    kind = text_of(item.get("type") or "message")
    if kind == "message":
        return _message(item, role)
    if kind in {"function_call", "custom_tool_call"}:
        return Turn(
            "assistant", [tool_call(item.get("name"), item.get("arguments") or item.get("input"))]
        )
    if kind in {"function_call_output", "custom_tool_call_output"}:
        return Turn("tool", [Part("tool result", text_of(item.get("output")))])
    if kind == "reasoning":
        return Turn("assistant", [Part("thinking", text) for text in _texts(item.get("summary"))])
    return Turn(role, list(content([item])))


def content(value: Any, *, is_within: bool = False) -> Iterator[Part]:
    """Yield the parts of a message's content: a text, or a list of blocks.

    `is_within` a block; in there a block that has blocks of its own is shown as JSON.
    """
    if isinstance(value, str):
        if value:
            yield Part("text", value)
    elif isinstance(value, list):
        for block in value:
            yield _block(block, is_within=is_within)
    elif isinstance(value, Mapping):
        yield truncated(value) or _block(value, is_within=is_within)


def _block(block: Any, *, is_within: bool) -> Part:
    if not isinstance(block, Mapping):
        return Part("text", text_of(block))
    kind = text_of(block.get("type"))
    if isinstance(block.get("text"), str):
        return Part("text", block["text"])
    if kind == "thinking":
        return Part("thinking", text_of(block.get("thinking")))
    if kind == "refusal":
        return Part("refusal", text_of(block.get("refusal")))
    if kind in {"tool_use", "server_tool_use"}:
        return tool_call(block.get("name"), block.get("input"))
    if kind == "tool_result" and not is_within:
        said = content(block.get("content"), is_within=True)
        return Part("tool result", "\n".join(part.text for part in said))
    return Part(_medium(kind) or kind or "content", as_json(block))


def _medium(kind: str) -> str:
    """Return what a block of this type shows or sounds."""
    return next(
        (medium for medium in ("image", "audio", "video", "file", "document") if medium in kind), ""
    )


def _content_of_gemini(value: Any) -> Iterator[Part]:
    if isinstance(value, str):
        yield Part("text", value)
    for part in _mappings(_mapping(value).get("parts")):
        if isinstance(part.get("text"), str):
            yield Part("thinking" if part.get("thought") else "text", part["text"])
        elif called := _mapping(part.get("functionCall") or part.get("function_call")):
            yield tool_call(called.get("name"), called.get("args"))
        elif answered := part.get("functionResponse") or part.get("function_response"):
            yield Part("tool result", text_of(answered))
        else:
            yield Part("content", as_json(part))


def _texts(value: Any) -> Iterator[str]:
    for one in _list(value):
        yield text_of(one.get("text") if isinstance(one, Mapping) else one)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> Iterable[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, Mapping)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
