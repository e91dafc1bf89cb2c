"""What requests ask for and what answers say of themselves, read while they flow by.

    asked = asked_of(body, content_type, path)       # model_name, is_stream, user
    answer = Answer()
    reader = StreamReader("sse", max_bytes=64 * 1024)
    for payload in reader.feed(data):                # for each chunk, cut anywhere
        answer.read_piece(payload)
    answer.columns()                                 # model, stop reason, tokens

Providers are told apart by the shape of their JSON: OpenAI (chat, completions, Responses,
embeddings) and what is compatible with it, Anthropic, Gemini, Ollama, Cohere. Pure functions over
bytes and parsed JSON: no I/O, and nothing here may raise for what a client or a provider sends.
"""

from spoolway.producer.answers.answer import Answer
from spoolway.producer.answers.asked import Asked, asked_of
from spoolway.producer.answers.problems import problem_in, problem_of
from spoolway.producer.answers.stream import Ends, Payload, StreamReader

__all__ = [
    "Answer",
    "Asked",
    "Ends",
    "Payload",
    "StreamReader",
    "asked_of",
    "problem_in",
    "problem_of",
]
