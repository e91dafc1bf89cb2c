"""Token columns from a provider's own usage object, told apart by its field names.

The columns mean for every provider what they mean for OpenAI:

- `prompt_tokens` counts all the model has read, what came from a cache or was written to one
  included; `cached_tokens` is the part of it that was read from a cache.
- `completion_tokens` counts all the model has written, its reasoning included; `reasoning_tokens`
  is that part of it.
- `total_tokens` is the provider's own sum, or else prompt and completion together.

None where the provider does not say.
"""

from typing import Any

from spoolway.producer.answers.shapes import mapping, tokens

Columns = dict[str, object]


def token_columns(usage: dict[str, Any]) -> Columns:
    """Return the token columns of `request_logs`; whatever the object holds."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return _openai_chat(usage)
    if "input_tokens" in usage or "output_tokens" in usage:
        return _input_and_output(usage)
    if "promptTokenCount" in usage or "totalTokenCount" in usage:
        return _gemini(usage)
    if "prompt_eval_count" in usage or "eval_count" in usage:
        return _columns(tokens(usage.get("prompt_eval_count")), tokens(usage.get("eval_count")))
    if "tokens" in usage or "billed_units" in usage:
        return _cohere(usage)
    return _columns(total=tokens(usage.get("total_tokens")))


def _openai_chat(usage: dict[str, Any]) -> Columns:
    prompt, completion = tokens(usage.get("prompt_tokens")), tokens(usage.get("completion_tokens"))
    total = tokens(usage.get("total_tokens"))
    reasoning = _first(mapping(usage.get("completion_tokens_details")), "reasoning_tokens")
    if reasoning is None:
        reasoning = _first(usage, "reasoning_tokens")
    # xAI leaves reasoning out of completion_tokens, which the total shows.
    if reasoning and total is not None and _sum(prompt, completion, reasoning) == total:
        completion = _sum(completion, reasoning)
    cached = _first(mapping(usage.get("prompt_tokens_details")), "cached_tokens")
    if cached is None:
        # DeepSeek's, and Moonshot's.
        cached = _first(usage, "prompt_cache_hit_tokens", "cached_tokens")
    return _columns(prompt, completion, total, cached, reasoning)


def _input_and_output(usage: dict[str, Any]) -> Columns:
    """The names that OpenAI's Responses API, audio and images share with Anthropic."""
    prompt = tokens(usage.get("input_tokens"))
    cached = _first(usage, "cache_read_input_tokens")
    if "total_tokens" not in usage and prompt is not None:
        # Anthropic's input_tokens are those that no cache had anything to do with.
        prompt = _sum(prompt, cached, _first(usage, "cache_creation_input_tokens"))
    if cached is None:
        # The Responses API's, and the audio API's.
        for details in ("input_tokens_details", "input_token_details"):
            cached = (
                _first(mapping(usage.get(details)), "cached_tokens") if cached is None else cached
            )
    reasoning = _first(
        mapping(usage.get("output_tokens_details")), "reasoning_tokens", "thinking_tokens"
    )
    completion, total = tokens(usage.get("output_tokens")), tokens(usage.get("total_tokens"))
    return _columns(prompt, completion, total, cached, reasoning)


def _gemini(usage: dict[str, Any]) -> Columns:
    # What tools bring is read by the model like the prompt, and is part of the total.
    prompt = _sum(_first(usage, "promptTokenCount"), _first(usage, "toolUsePromptTokenCount"))
    completion, total = _first(usage, "candidatesTokenCount"), _first(usage, "totalTokenCount")
    reasoning = _first(usage, "thoughtsTokenCount")
    # Thoughts are counted beside the candidates; where the total says so, already with them.
    if reasoning and (completion is None or _sum(prompt, completion) != total):
        completion = _sum(completion, reasoning)
    cached = _first(usage, "cachedContentTokenCount")
    return _columns(prompt, completion, total, cached, reasoning)


def _cohere(usage: dict[str, Any]) -> Columns:
    counted = mapping(usage.get("tokens")) or mapping(usage.get("billed_units"))
    prompt, completion = tokens(counted.get("input_tokens")), tokens(counted.get("output_tokens"))
    return _columns(prompt, completion, cached=_first(usage, "cached_tokens"))


def _columns(
    prompt: int | None = None,
    completion: int | None = None,
    total: int | None = None,
    cached: int | None = None,
    reasoning: int | None = None,
) -> Columns:
    if total is None and prompt is not None and completion is not None:
        total = _sum(prompt, completion)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "cached_tokens": cached,
        "reasoning_tokens": reasoning,
    }


def _first(fields: dict[str, Any], *names: str) -> int | None:
    """Return the first of these fields that is a count."""
    counts = (tokens(fields.get(name)) for name in names)
    return next((count for count in counts if count is not None), None)


def _sum(*counts: int | None) -> int | None:
    """Return the sum of those that are known; None if none is, or no column could hold it."""
    known = [count for count in counts if count is not None]
    return tokens(sum(known)) if known else None
