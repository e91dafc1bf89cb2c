"""Calls by LiteLLM's SDK, made in its environment: `python sdk_calls.py <upstream's URL>`."""

import asyncio
import contextlib
import sys
from typing import Any

import litellm

from spoolway.producer.litellm import logger

QUESTION = [{"role": "user", "content": "Why in batches?"}]
UPSTREAM = sys.argv[1]


def _backend(name: str, branch: str = "") -> dict[str, Any]:
    return {
        "model": f"openai/{name}",
        "api_base": f"{UPSTREAM}{branch}/v1",
        "api_key": "sk-of-the-upstream",
        "max_retries": 0,
    }


async def _with_asyncio() -> None:
    """The last calls end as the process does: what LiteLLM has in its queue then is not lost."""
    router = litellm.Router(
        [
            {"model_name": "first", "litellm_params": _backend("busy")},
            {"model_name": "second", "litellm_params": _backend("busy", "/backup")},
            {"model_name": "hopeless", "litellm_params": _backend("fail-500")},
        ],
        fallbacks=[{"first": ["second"]}],
        num_retries=1,
        disable_cooldowns=True,
    )
    with contextlib.suppress(litellm.InternalServerError):
        await router.acompletion("hopeless", QUESTION)
    with contextlib.suppress(litellm.InternalServerError):
        await litellm.acompletion(**_backend("fail-500"), messages=QUESTION)
    await router.acompletion("first", QUESTION)
    await litellm.acompletion(**_backend("small"), messages=QUESTION)


def _without() -> None:
    with contextlib.suppress(litellm.BadRequestError):
        litellm.completion(**_backend("fail-400"), messages=QUESTION)
    told = {"stream": True, "stream_options": {"include_usage": True}}
    for _ in litellm.completion(**_backend("large"), messages=QUESTION, **told):
        pass


litellm.callbacks = [logger]
_without()
asyncio.run(_with_asyncio())
