"""What a request asks for, of every provider's kind of request."""

import json
from typing import Any

import httpx
import pytest

from spoolway.producer.answers import Asked, asked_of

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


def asked(path: str, **body: Any) -> Asked:
    """What a JSON request asks for."""
    return asked_of(json.dumps(body).encode(), "application/json", path)


def test_model_stream_and_user_are_in_the_body() -> None:
    """OpenAI's and Anthropic's requests say it all themselves, and are kept as parsed."""
    body = {**CHAT, "stream": True, "user": "dora"}

    assert asked("/v1/chat/completions", **body) == Asked("gpt-4o", True, "dora", body)
    assert asked("/v1/chat/completions", **CHAT) == Asked("gpt-4o", False, None, CHAT)


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({"user": "u", "safety_identifier": "s"}, "u"),
        ({"safety_identifier": "s"}, "s"),
        ({"metadata": {"user_id": "a-1"}}, "a-1"),
        ({"user": {"name": "u"}, "metadata": ["user_id"]}, None),
        ({"user": ""}, None),
    ],
)
def test_a_user_goes_by_several_names(fields: dict[str, Any], user: str | None) -> None:
    """OpenAI's `user` or `safety_identifier`, Anthropic's `metadata.user_id`."""
    assert asked("/v1/messages", **fields).user == user


@pytest.mark.parametrize(
    ("path", "model", "is_stream"),
    [
        ("/v1beta/models/gemini-2.0-flash:streamGenerateContent", "gemini-2.0-flash", True),
        ("/v1beta/models/gemini-2.0-flash:generateContent", "gemini-2.0-flash", False),
        ("/v1beta/models/text-embedding-004:embedContent", "text-embedding-004", False),
        ("/v1beta/tunedModels/my-model:generateContent", "my-model", False),
        (
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude@20250514:streamRawPredict",
            "claude@20250514",
            True,
        ),
        ("/openai/deployments/my%20gpt/chat/completions", "my gpt", False),
        ("/v1/models/ft:gpt-4o:org::id", None, False),
        ("/v1beta/openai/chat/completions", None, False),
    ],
)
def test_a_model_in_the_path_is_what_the_server_goes_by(
    path: str, model: str | None, is_stream: bool
) -> None:
    """Gemini's, Vertex AI's and Azure's; a model in the body is then not asked for."""
    for body in ({}, {"model": "models/other"}):
        found = asked(path, **body)
        assert (found.model_name, found.is_stream) == (model or body.get("model"), is_stream)


@pytest.mark.parametrize(
    ("path", "fields", "is_stream"),
    [
        ("/api/chat", {}, True),
        ("/ollama/api/generate", {}, True),
        ("/api/chat", {"stream": False}, False),
        ("/api/generate", {"stream": True}, True),
        ("/api/embed", {}, False),
        ("/v1/chat/completions", {}, False),
    ],
)
def test_ollama_streams_unless_told_not_to(
    path: str, fields: dict[str, Any], is_stream: bool
) -> None:
    """Its own API's default is the other way round."""
    assert asked(path, model="llama3.2", **fields).is_stream is is_stream


def test_a_form_has_its_model_and_measures_its_files() -> None:
    """An audio transcription is a form; its file is not kept, even where it looks like a field."""
    audio = b'\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nliar\r\n' * 1_000
    request = httpx.Request(
        "POST",
        "http://proxy/v1/audio/transcriptions",
        data={"model": "gpt-4o-transcribe", "stream": "true", "prompt": "Grüße"},
        files={"file": ("hello.mp3", audio, "audio/mpeg")},
    )
    body = request.read()

    assert asked_of(body, request.headers["content-type"], request.url.path) == Asked(
        "gpt-4o-transcribe",
        True,
        None,
        {
            "model": "gpt-4o-transcribe",
            "stream": "true",
            "prompt": "Grüße",
            "file": {"filename": "hello.mp3", "bytes": len(audio)},
        },
    )


@pytest.mark.parametrize(
    ("body", "content_type", "content"),
    [
        (b'{"model":"m"}', "application/x-www-form-urlencoded", {"model": "m"}),
        (b"plain", "text/plain", "plain"),
        (b'{"model":', "application/json", '{"model":'),
        (b"null", "application/json", None),
        (b"\xff\x00", "application/octet-stream", None),
        (b"", "", None),
        (b"--b\r\n\r\n", "multipart/form-data", None),
        (b"no form", "multipart/form-data; boundary=b", None),
        (b"--b\r\nhalf a head", "multipart/form-data; boundary=b", None),
        (b'--b\r\nx: name="a"\r\n\r\ncut off', "multipart/form-data; boundary=b", None),
        (b'--b\r\nx: name="a"\r\n\r\n1\r\n--b--', 'multipart/form-data; boundary="b"', {"a": "1"}),
    ],
)
def test_content_is_what_can_be_read(body: bytes, content_type: str, content: object) -> None:
    """JSON whatever its type says, else text; nothing for bytes, and for what is broken."""
    assert asked_of(body, content_type, "/").content == content
