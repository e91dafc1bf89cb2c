"""Answers as the providers document and send them, and what the columns are to say of each."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Columns = dict[str, object]


@dataclass(frozen=True)
class Stream:
    """A streamed answer."""

    body: bytes
    token_at: int
    """Its payload, from 0, that holds the first token."""
    columns: Columns
    form: Literal["sse", "ndjson"] = "sse"
    problem: Columns | None = None


@dataclass(frozen=True)
class Whole:
    """An answer that comes at once."""

    body: bytes
    columns: Columns
    has_token: bool = True
    problem: Columns | None = field(default=None)


def compact(value: object) -> bytes:
    """JSON as most providers write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sse(*pieces: object, done: bool = False) -> bytes:
    """Server-sent events without a type."""
    end = b"data: [DONE]\n\n" if done else b""
    return b"".join(b"data: %s\n\n" % compact(piece) for piece in pieces) + end


def typed(*pieces: dict[str, Any]) -> bytes:
    """Server-sent events whose type stands in a line of its own as well."""
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (piece["type"].encode(), compact(piece)) for piece in pieces
    )


def lines(*pieces: object) -> bytes:
    """JSON lines."""
    return b"".join(compact(piece) + b"\n" for piece in pieces)


def _tokens(*counts: int | None, usage: object) -> Columns:
    names = ("prompt", "completion", "total", "cached", "reasoning")
    known = zip(names, counts, strict=False)
    return {
        **{f"{name}_tokens": count for name, count in known if count is not None},
        "usage_stats": usage,
    }


# --- OpenAI: chat completions -----------------------------------------------------

CHAT_USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 128,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CHAT_COLUMNS = {
    "provider_model": "gpt-4o-2024-08-06",
    "stop_reason": "stop",
    **_tokens(2006, 300, 2306, 1920, 128, usage=CHAT_USAGE),
}


def chat_chunk(
    delta: dict[str, Any] | None, finish: str | None = None, **more: object
) -> dict[str, Any]:
    """A chunk of a chat completion; without a delta, the last one, of usage."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-BabcDefGhijKlmnOpqrStuvWxyz12",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_fc9f1d7035",
        "choices": [] if delta is None else [choice],
        "usage": None,
        **more,
    }


TEXT = ("Gr", "üße", " an", ' "all', "e\\", "\n", "𝄞")
CHAT_STREAM = Stream(
    sse(
        chat_chunk({"role": "assistant", "content": "", "refusal": None}),
        *(chat_chunk({"content": text}, obfuscation="x" * len(text)) for text in TEXT),
        chat_chunk({}, "stop"),
        chat_chunk(None, usage=CHAT_USAGE),
        done=True,
    ),
    token_at=1,
    columns=CHAT_COLUMNS,
)
CHAT = Whole(
    json.dumps(
        {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": "gpt-4o-2024-08-06",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "".join(TEXT),
                        "refusal": None,
                        "annotations": [],
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": CHAT_USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_fc9f1d7035",
        },
        indent=2,
    ).encode(),
    CHAT_COLUMNS,
)
TOOL_STREAM = Stream(
    sse(
        chat_chunk({"role": "assistant", "content": None}),
        chat_chunk(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "call_DdmO9pD3xa9XTPNJ32zg2hcA",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": ""},
                    }
                ]
            }
        ),
        *(
            chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
            for part in ('{"', "city", '":"', "Köln", '"}')
        ),
        chat_chunk({}, "tool_calls"),
        done=True,
    ),
    token_at=1,
    columns={"provider_model": "gpt-4o-2024-08-06", "stop_reason": "tool_calls"},
)
AZURE_STREAM = Stream(
    sse(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
        },
        chat_chunk({"role": "assistant", "content": "Hi"}),
        chat_chunk({}, "content_filter"),
        done=True,
    ),
    token_at=1,
    columns={"provider_model": "gpt-4o-2024-08-06", "stop_reason": "content_filter"},
)
COMPLETION = Whole(
    compact(
        {
            "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7",
            "object": "text_completion",
            "created": 1589478378,
            "model": "gpt-3.5-turbo-instruct",
            "choices": [
                {"text": "\n\nA test", "index": 0, "logprobs": None, "finish_reason": "length"}
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        }
    ),
    {
        "provider_model": "gpt-3.5-turbo-instruct",
        "stop_reason": "length",
        **_tokens(5, 7, 12, usage={"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}),
    },
)
EMBEDDINGS = Whole(
    compact(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0023064255, -0.0093]}],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
    ),
    {
        "provider_model": "text-embedding-3-small",
        **_tokens(8, None, 8, usage={"prompt_tokens": 8, "total_tokens": 8}),
    },
    has_token=False,
)
TRANSCRIPTION = Whole(
    compact(
        {
            "text": "Imagine the wildest idea that you have ever had.",
            "usage": {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 10, "audio_tokens": 4},
                "output_tokens": 101,
                "total_tokens": 115,
            },
        }
    ),
    _tokens(
        14,
        101,
        115,
        usage={
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 10, "audio_tokens": 4},
            "output_tokens": 101,
            "total_tokens": 115,
        },
    ),
    has_token=False,
)

# --- Compatible with it -----------------------------------------------------------

DEEPSEEK_USAGE = {
    "prompt_tokens": 32,
    "completion_tokens": 60,
    "total_tokens": 92,
    "completion_tokens_details": {"reasoning_tokens": 44},
    "prompt_cache_hit_tokens": 24,
    "prompt_cache_miss_tokens": 8,
}
DEEPSEEK_STREAM = Stream(
    sse(
        chat_chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
        chat_chunk({"content": None, "reasoning_content": "Hm"}),
        chat_chunk({"content": None, "reasoning_content": ", so"}),
        chat_chunk({"content": "42", "reasoning_content": None}),
        chat_chunk({"content": "", "reasoning_content": None}, "stop", usage=DEEPSEEK_USAGE),
        done=True,
    ),
    token_at=1,
    columns={**CHAT_COLUMNS, **_tokens(32, 60, 92, 24, 44, usage=DEEPSEEK_USAGE)},
)


def _counted(completion: int) -> dict[str, int]:
    return {"prompt_tokens": 9, "completion_tokens": completion, "total_tokens": 9 + completion}


VLLM_STREAM = Stream(
    sse(
        chat_chunk({"role": "assistant", "content": ""}, usage=_counted(0)),
        *(chat_chunk({"content": "word"}, usage=_counted(n)) for n in range(1, 5)),
        chat_chunk({"content": ""}, "length", usage=_counted(5)),
        chat_chunk(None, usage=_counted(5)),
        done=True,
    ),
    token_at=1,
    columns={
        **_tokens(9, 5, 14, usage=_counted(5)),
        "provider_model": "gpt-4o-2024-08-06",
        "stop_reason": "length",
    },
)
GROQ_USAGE = {"queue_time": 0.01, "total_time": 0.3, **_counted(7)}
GROQ_STREAM = Stream(
    sse(
        chat_chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_01jbd6g2qdfw2ad"}),
        chat_chunk({"content": "Fast"}),
        chat_chunk({}, "stop", x_groq={"id": "req_01jbd6g2qdfw2ad", "usage": GROQ_USAGE}),
        done=True,
    ),
    token_at=1,
    columns={
        **_tokens(9, 7, 16, usage=GROQ_USAGE),
        "provider_model": "gpt-4o-2024-08-06",
        "stop_reason": "stop",
    },
)
XAI_USAGE = {
    "prompt_tokens": 32,
    "completion_tokens": 9,
    "total_tokens": 135,
    "prompt_tokens_details": {"text_tokens": 32, "cached_tokens": 6},
    "completion_tokens_details": {"reasoning_tokens": 94},
}
XAI_STREAM = Stream(
    sse(
        chat_chunk({"role": "assistant", "reasoning_content": "Well"}),
        chat_chunk({"content": "101"}),
        chat_chunk({}, "stop"),
        chat_chunk(None, usage=XAI_USAGE),
        done=True,
    ),
    token_at=0,
    columns={**CHAT_COLUMNS, **_tokens(32, 103, 135, 6, 94, usage=XAI_USAGE)},
)
OPENROUTER_STREAM = Stream(
    b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
    + sse(
        chat_chunk({"role": "assistant", "content": ""}, provider="Fireworks"),
        chat_chunk({"role": "assistant", "content": "half an ans"}, provider="Fireworks"),
        chat_chunk(
            {"content": ""}, "error", error={"code": 502, "message": "Provider disconnected"}
        ),
    ),
    token_at=1,
    columns={"provider_model": "gpt-4o-2024-08-06", "stop_reason": "error"},
    problem={"error_type": "502", "error_message": "Provider disconnected"},
)

# --- OpenAI: Responses ------------------------------------------------------------

RESPONSES_USAGE = {
    "input_tokens": 37,
    "input_tokens_details": {"cached_tokens": 16},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 48,
}


def response(status: str, **more: object) -> dict[str, Any]:
    """The response as far as it is."""
    return {
        "id": "resp_67c9fdcecf488190bdd9a0409de3a1ec07b8b0ad4e5eb654",
        "object": "response",
        "created_at": 1741290958,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": "You are a helpful assistant.",
        "max_output_tokens": None,
        "model": "gpt-4.1-2025-04-14",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": True,
        "text": {"format": {"type": "text"}},
        "tools": [],
        "usage": None,
        "user": None,
        "metadata": {},
        **more,
    }


def _message(text: str) -> dict[str, Any]:
    return {
        "id": "msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad4e5eb654",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def _delta(kind: str, number: int, delta: str) -> dict[str, Any]:
    return {
        "type": kind,
        "sequence_number": number,
        "item_id": "msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad4e5eb654",
        "output_index": 0,
        "content_index": 0,
        "delta": delta,
        "logprobs": [],
        "obfuscation": "aB3" * number,
    }


def _responses(kind: str, end: dict[str, Any]) -> bytes:
    message = _message("")
    return typed(
        {"type": "response.created", "sequence_number": 0, "response": response("in_progress")},
        {"type": "response.in_progress", "sequence_number": 1, "response": response("in_progress")},
        {
            "type": "response.output_item.added",
            "sequence_number": 2,
            "output_index": 0,
            "item": message | {"status": "in_progress", "content": []},
        },
        {
            "type": "response.content_part.added",
            "sequence_number": 3,
            "item_id": message["id"],
            "output_index": 0,
            "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
        *(_delta("response.output_text.delta", 4 + n, text) for n, text in enumerate(TEXT)),
        {
            "type": "response.output_text.done",
            "sequence_number": 20,
            "item_id": message["id"],
            "output_index": 0,
            "content_index": 0,
            "text": "".join(TEXT),
        },
        {"type": kind, "sequence_number": 21, "response": end},
    )


RESPONSES_END = response("completed", output=[_message("".join(TEXT))], usage=RESPONSES_USAGE)
RESPONSES_COLUMNS = {
    "provider_model": "gpt-4.1-2025-04-14",
    "stop_reason": "completed",
    **_tokens(37, 11, 48, 16, 4, usage=RESPONSES_USAGE),
}
RESPONSES_STREAM = Stream(
    _responses("response.completed", RESPONSES_END), token_at=4, columns=RESPONSES_COLUMNS
)
RESPONSES_CUT_SHORT_STREAM = Stream(
    _responses(
        "response.incomplete",
        RESPONSES_END
        | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    ),
    token_at=4,
    columns={**RESPONSES_COLUMNS, "stop_reason": "max_output_tokens"},
)
RESPONSES_FAILED_STREAM = Stream(
    _responses(
        "response.failed",
        response(
            "failed", error={"code": "server_error", "message": "The model failed to generate."}
        ),
    ),
    token_at=4,
    columns={"provider_model": "gpt-4.1-2025-04-14", "stop_reason": "failed"},
    problem={"error_type": "server_error", "error_message": "The model failed to generate."},
)
RESPONSES_CALL_STREAM = Stream(
    typed(
        {"type": "response.created", "sequence_number": 0, "response": response("in_progress")},
        {
            "type": "response.output_item.added",
            "sequence_number": 1,
            "output_index": 0,
            "item": {
                "type": "function_call",
                "id": "fc_67ca09c6",
                "call_id": "call_9ybtPu",
                "name": "get_weather",
                "arguments": "",
            },
        },
        _delta("response.function_call_arguments.delta", 2, '{"'),
        _delta("response.function_call_arguments.delta", 3, "city"),
        {"type": "response.completed", "sequence_number": 4, "response": RESPONSES_END},
    ),
    token_at=1,
    columns=RESPONSES_COLUMNS,
)
RESPONSES = Whole(json.dumps(RESPONSES_END, indent=2).encode(), RESPONSES_COLUMNS)
TRANSCRIPT_STREAM = Stream(
    sse(
        {"type": "transcript.text.delta", "delta": "I"},
        {"type": "transcript.text.delta", "delta": " see"},
        {
            "type": "transcript.text.done",
            "text": "I see",
            "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17},
        },
    ),
    token_at=0,
    columns=_tokens(
        14,
        3,
        17,
        usage={"type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17},
    ),
)

# --- Anthropic --------------------------------------------------------------------

CLAUDE = "claude-sonnet-4-20250514"
CLAUDE_USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 2048,
    "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 89,
    "service_tier": "standard",
}
CLAUDE_COLUMNS = {
    "provider_model": CLAUDE,
    "stop_reason": "end_turn",
    **_tokens(2360, 89, 2449, 2048, usage=CLAUDE_USAGE),
}


def _claude_start(usage: object) -> dict[str, Any]:
    return {
        "type": "message_start",
        "message": {
            "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
            "type": "message",
            "role": "assistant",
            "model": CLAUDE,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        },
    }


def _block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _claude_end(stop: str, usage: object) -> list[dict[str, Any]]:
    delta = {"stop_reason": stop, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": usage},
        {"type": "message_stop"},
    ]


def _texts() -> list[dict[str, Any]]:
    deltas = ({"type": "text_delta", "text": text} for text in TEXT)
    return _block(0, {"type": "text", "text": ""}, *deltas)


ANTHROPIC_STREAM = Stream(
    typed(
        _claude_start(CLAUDE_USAGE | {"output_tokens": 1}),
        {"type": "ping"},
        *_texts(),
        *_claude_end("end_turn", {"output_tokens": 89}),
    ),
    token_at=3,
    columns=CLAUDE_COLUMNS,
)
THINKING_USAGE = {
    "input_tokens": 25,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 1,
}
ANTHROPIC_THINKING_STREAM = Stream(
    typed(
        _claude_start(THINKING_USAGE),
        *_block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Let me see"},
            {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
        ),
        *_block(
            1,
            {"type": "tool_use", "id": "toolu_01T1x1fJ34q", "name": "get_weather", "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"city":"Köln"}'},
        ),
        *_claude_end(
            "tool_use",
            {
                "input_tokens": None,
                "output_tokens": 65,
                "output_tokens_details": {"thinking_tokens": 40},
            },
        ),
    ),
    token_at=2,
    columns={
        "provider_model": CLAUDE,
        "stop_reason": "tool_use",
        **_tokens(
            25,
            65,
            90,
            0,
            40,
            usage=THINKING_USAGE
            | {"output_tokens": 65, "output_tokens_details": {"thinking_tokens": 40}},
        ),
    },
)
ANTHROPIC_OVERLOADED_STREAM = Stream(
    typed(
        _claude_start(CLAUDE_USAGE | {"output_tokens": 1}),
        *_texts(),
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    ),
    token_at=2,
    columns={
        "provider_model": CLAUDE,
        **_tokens(2360, 1, 2361, 2048, usage=CLAUDE_USAGE | {"output_tokens": 1}),
    },
    problem={"error_type": "overloaded_error", "error_message": "Overloaded"},
)
ANTHROPIC = Whole(
    compact(
        {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": CLAUDE,
            "content": [{"type": "text", "text": "".join(TEXT)}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": CLAUDE_USAGE,
        }
    ),
    CLAUDE_COLUMNS,
)

# --- Gemini -----------------------------------------------------------------------


def gemini(text: str | None, finish: str | None = None, **usage: int) -> dict[str, Any]:
    """An answer, or a chunk of one."""
    parts = [{"text": text}] if text is not None else []
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": 19,
            **usage,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 19}],
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "mLqkaIf5Ec_ez7IPz5nB4AM",
    }


_COUNTS = {
    "candidatesTokenCount": 25,
    "thoughtsTokenCount": 106,
    "cachedContentTokenCount": 11,
    "totalTokenCount": 150,
}
GEMINI_CHUNKS = [
    gemini("Grüße", totalTokenCount=19),
    gemini(" an alle", candidatesTokenCount=12, totalTokenCount=31),
    gemini("\n", "STOP", **_COUNTS),
]
GEMINI_COLUMNS = {
    "provider_model": "gemini-2.5-flash",
    "stop_reason": "STOP",
    **_tokens(19, 131, 150, 11, 106, usage=GEMINI_CHUNKS[-1]["usageMetadata"]),
}
GEMINI_STREAM = Stream(
    sse(*GEMINI_CHUNKS).replace(b"\n\n", b"\r\n\r\n"), token_at=0, columns=GEMINI_COLUMNS
)
GEMINI = Whole(json.dumps(gemini("Hi", "STOP", **_COUNTS), indent=2).encode(), GEMINI_COLUMNS)
GEMINI_LIST = Whole(
    b"[" + b"\n,\n".join(json.dumps(chunk, indent=2).encode() for chunk in GEMINI_CHUNKS) + b"]\n",
    GEMINI_COLUMNS,
)
GEMINI_BLOCKED = Whole(
    compact(
        {
            "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
            "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
            "modelVersion": "gemini-2.5-flash",
        }
    ),
    {
        "provider_model": "gemini-2.5-flash",
        "stop_reason": "PROHIBITED_CONTENT",
        **_tokens(7, None, 7, usage={"promptTokenCount": 7, "totalTokenCount": 7}),
    },
    has_token=False,
)

# --- Ollama -----------------------------------------------------------------------

OLLAMA_USAGE = {
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}
OLLAMA_COLUMNS = {
    "provider_model": "llama3.2",
    "stop_reason": "stop",
    **_tokens(26, 282, 308, usage=OLLAMA_USAGE),
}


def _ollama(number: int, **more: object) -> dict[str, Any]:
    return {"model": "llama3.2", "created_at": f"2025-08-04T08:52:19.{number:06}Z", **more}


OLLAMA_CHAT_STREAM = Stream(
    lines(
        *(
            _ollama(n, message={"role": "assistant", "content": text}, done=False)
            for n, text in enumerate(("", *TEXT))
        ),
        _ollama(
            99,
            message={"role": "assistant", "content": ""},
            done_reason="stop",
            done=True,
            **OLLAMA_USAGE,
        ),
    ),
    token_at=1,
    columns=OLLAMA_COLUMNS,
    form="ndjson",
)
OLLAMA_GENERATE_STREAM = Stream(
    lines(
        *(_ollama(n, response=text, done=False) for n, text in enumerate(TEXT)),
        _ollama(99, response="", done=True, context=[1, 2, 3], **OLLAMA_USAGE),
    ),
    token_at=0,
    columns={name: value for name, value in OLLAMA_COLUMNS.items() if name != "stop_reason"},
    form="ndjson",
)
OLLAMA_BROKEN_STREAM = Stream(
    lines(
        _ollama(1, message={"role": "assistant", "content": "half"}, done=False),
        {"error": "an error was encountered while running the model: unexpected EOF"},
    ),
    token_at=0,
    columns={"provider_model": "llama3.2"},
    form="ndjson",
    problem={
        "error_type": None,
        "error_message": "an error was encountered while running the model: unexpected EOF",
    },
)
OLLAMA = Whole(
    compact(
        _ollama(
            1,
            message={"role": "assistant", "content": "".join(TEXT)},
            done_reason="stop",
            done=True,
            **OLLAMA_USAGE,
        )
    ),
    OLLAMA_COLUMNS,
)
OLLAMA_EMBED = Whole(
    compact(
        {
            "model": "all-minilm",
            "embeddings": [[0.010071029, -0.0017594862], [-0.0098027075, 0.06042469]],
            "total_duration": 14143917,
            "load_duration": 1019500,
            "prompt_eval_count": 8,
        }
    ),
    {
        "provider_model": "all-minilm",
        **_tokens(
            8,
            usage={"total_duration": 14143917, "load_duration": 1019500, "prompt_eval_count": 8},
        ),
    },
    has_token=False,
)

# --- Cohere -----------------------------------------------------------------------

COHERE_USAGE = {
    "billed_units": {"input_tokens": 5, "output_tokens": 418},
    "tokens": {"input_tokens": 71.0, "output_tokens": 418},
    "cached_tokens": 64,
}
COHERE_COLUMNS = {"stop_reason": "COMPLETE", **_tokens(71, 418, 489, 64, usage=COHERE_USAGE)}
COHERE_STREAM = Stream(
    typed(
        {
            "type": "message-start",
            "id": "29f14a5a-11de-4cae-9800-25e4747408ea",
            "delta": {"message": {"role": "assistant", "content": [], "tool_calls": []}},
        },
        {
            "type": "content-start",
            "index": 0,
            "delta": {"message": {"content": {"type": "text", "text": ""}}},
        },
        *(
            {
                "type": "content-delta",
                "index": 0,
                "delta": {"message": {"content": {"text": text}}},
            }
            for text in TEXT
        ),
        {"type": "content-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}},
    ),
    token_at=2,
    columns=COHERE_COLUMNS,
)
COHERE = Whole(
    compact(
        {
            "id": "c14c80c3-18eb-4519-9460-6c92edd8cfb4",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "LLMs stand"}]},
            "usage": COHERE_USAGE,
        }
    ),
    COHERE_COLUMNS,
)

STREAMS = {name: value for name, value in globals().items() if isinstance(value, Stream)}
WHOLES = {name: value for name, value in globals().items() if isinstance(value, Whole)}
