"""What a streamed answer says, put together from its chunks. Nothing raises, whatever they hold."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from spoolway.worker.cli.turns import Part, Turn, answer, problem, text_of, tool_call, truncated

_Key = tuple[object, ...]
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class _Growing:
    """Parts that grow chunk by chunk, in the order in which they began."""

    def __init__(self) -> None:
        self._texts: dict[_Key, list[str]] = {}
        self._names: dict[_Key, str] = {}
        self._whole: dict[_Key, Part] = {}

    def grow(self, key: _Key, piece: object) -> None:
        """Add to the part; the key's first is its kind."""
        if isinstance(piece, str) and piece:
            self._texts.setdefault(key, []).append(piece)

    def name(self, key: _Key, name: object) -> None:
        """Note which tool is called."""
        if name:
            self._texts.setdefault(key, [])
            self._names.setdefault(key, text_of(name))

    def add(self, part: Part) -> None:
        """Add a part that is whole."""
        key = ("whole", len(self._whole))
        self._texts[key] = []
        self._whole[key] = part

    def turns(self) -> list[Turn]:
        """Return what has grown: a turn for each of several choices."""
        turns: dict[object, Turn] = {}
        for key, pieces in self._texts.items():
            choice = key[1] if key[0] != "whole" else "whole"
            turn = turns.setdefault(choice, Turn("assistant"))
            if key in self._whole:
                turn.role = self._whole[key].kind
                turn.parts.append(self._whole[key])
            elif key[0] == "tool call":
                turn.parts.append(tool_call(self._names.get(key, ""), "".join(pieces)))
            else:
                turn.parts.append(Part(str(key[0]), "".join(pieces)))
        return list(turns.values())


def streamed(chunks: Any) -> list[Turn]:
    """Return what the chunks of a stream say together."""
    if not isinstance(chunks, Sequence) or isinstance(chunks, str):
        return answer(chunks)
    whole = _last_of_responses(chunks)
    if whole is not None:
        return answer(whole)
    growing = _Growing()
    for chunk in chunks:
        if isinstance(chunk, Mapping):
            _take(chunk, growing)
        elif isinstance(chunk, str):
            growing.grow(("text", 0), chunk)
    return growing.turns()


def _last_of_responses(chunks: Sequence[Any]) -> Any:
    """Return the answer that the last event of OpenAI's Responses holds as a whole."""
    for chunk in reversed(chunks):
        if isinstance(chunk, Mapping) and text_of(chunk.get("type")) in _ENDS:
            return chunk.get("response")
    return None


def _take(chunk: Mapping[str, Any], growing: _Growing) -> None:
    if marker := truncated(chunk):
        growing.add(marker)
        return
    if chunk.get("error"):
        growing.add(problem(chunk["error"]))
    _take_openai(chunk, growing)
    _take_typed(chunk, growing)
    for at, candidate in enumerate(_mappings(chunk.get("candidates"))):  # Gemini
        for part in _mappings(_mapping(candidate.get("content")).get("parts")):
            if called := _mapping(part.get("functionCall")):
                growing.add(tool_call(called.get("name"), called.get("args")))
            growing.grow(("thinking" if part.get("thought") else "text", at), part.get("text"))
    message = _mapping(chunk.get("message"))  # Ollama
    if isinstance(message.get("content"), str):
        growing.grow(("thinking", 0), message.get("thinking"))
        growing.grow(("text", 0), message["content"])
    growing.grow(("text", 0), chunk.get("response"))


def _take_openai(chunk: Mapping[str, Any], growing: _Growing) -> None:
    for choice in _mappings(chunk.get("choices")):
        at = choice.get("index") if isinstance(choice.get("index"), int) else 0
        delta = _mapping(choice.get("delta"))
        growing.grow(("thinking", at), delta.get("reasoning_content") or delta.get("reasoning"))
        growing.grow(("text", at), delta.get("content"))
        growing.grow(("refusal", at), delta.get("refusal"))
        growing.grow(("text", at), choice.get("text"))
        for number, call in enumerate(_mappings(delta.get("tool_calls"))):
            called = _mapping(call.get("function"))
            index = call.get("index")
            key = ("tool call", at, index if isinstance(index, int) else number)
            growing.name(key, called.get("name"))
            growing.grow(key, called.get("arguments"))


def _take_typed(chunk: Mapping[str, Any], growing: _Growing) -> None:
    """Take an event that says its type: of Anthropic, OpenAI's Responses, Cohere."""
    kind, delta, index = chunk.get("type"), chunk.get("delta"), str(chunk.get("index", ""))
    if kind == "content_block_start":
        block = _mapping(chunk.get("content_block"))
        if block.get("type") == "tool_use":
            growing.name(("tool call", 0, index), block.get("name"))
    elif kind == "content_block_delta":
        parts = _mapping(delta)
        growing.grow(("thinking", 0, index), parts.get("thinking"))
        growing.grow(("text", 0, index), parts.get("text"))
        growing.grow(("tool call", 0, index), parts.get("partial_json"))
    elif kind == "response.output_text.delta":
        growing.grow(("text", 0, str(chunk.get("output_index", ""))), delta)
    elif kind == "response.output_item.added":
        item = _mapping(chunk.get("item"))
        if item.get("type") == "function_call":
            growing.name(("tool call", 0, str(chunk.get("output_index", ""))), item.get("name"))
    elif kind == "response.function_call_arguments.delta":
        growing.grow(("tool call", 0, str(chunk.get("output_index", ""))), delta)
    elif kind == "content-delta":
        content = _mapping(_mapping(_mapping(delta).get("message")).get("content"))
        growing.grow(("text", 0), content.get("text"))


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
