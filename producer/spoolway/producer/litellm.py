"""A callback for LiteLLM: the requests and errors of its proxy, or of its SDK, as events.

    litellm_settings:
      callbacks: spoolway.producer.litellm.logger

or `litellm.callbacks = [logger]`. Settings come from the environment: REDIS_URL, SPOOLWAY_STREAM,
SPOOLWAY_DIR. This module alone needs LiteLLM.

What LiteLLM tells, and when: `async_pre_call_hook` once the proxy has let a request in;
`async_pre_call_deployment_hook` and `async_post_call_failure_deployment_hook` for each attempt; then
`async_log_success_event`, also for the part of a stream that was there when the client hung up, or
`async_post_call_failure_hook`, also for what the proxy refuses itself. Without the proxy
`async_log_failure_event` or `log_failure_event` for each attempt, and nothing when its router gives
up.
"""

import atexit
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import litellm
from litellm.integrations.custom_logger import CustomLogger

from spoolway.producer.litellm_requests import Requests
from spoolway.producer.producer import Producer
from spoolway.producer.rarely import Rarely

_log: Final = logging.getLogger("spoolway.producer")


class SpoolwayLogger(CustomLogger):  # type: ignore[misc] # mypy runs without LiteLLM
    """What LiteLLM calls. Every method returns at once, and raises nothing."""

    def __init__(self, producer: Producer | None = None) -> None:
        """Nothing is connected before the first event. `producer` is by default one of its own.

        Raises:
            ValueError: a setting in the environment that cannot work.
        """
        super().__init__()
        self.producer: Final = producer or Producer()
        self._requests = Requests(self.producer)
        self._say_failed = Rarely(_log.warning)
        atexit.register(self._at_exit)  # runs before the producer's, which is registered already

    async def async_pre_call_hook(
        self, user_api_key_dict: object, cache: object, data: dict[str, Any], call_type: str
    ) -> None:
        """Note that the proxy has let a request in."""
        if not _is_unlogged(data):
            self._safely(self._requests.begun, data, user_api_key_dict)

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: object
    ) -> None:
        """Note that an attempt begins."""
        self._safely(self._requests.attempt_begun, kwargs)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: object,
        fallback_depth: int | None = None,
    ) -> None:
        """Note that an attempt has failed."""
        if not _is_unlogged(request_data):
            self._safely(self._requests.attempt_failed, request_data, exception)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: object,
        traceback_str: str | None = None,
    ) -> None:
        """Record a request that the proxy answers with an error."""
        if not _is_unlogged(request_data):
            self._safely(
                self._requests.refused, request_data, original_exception, user_api_key_dict
            )

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record a request that a backend has answered."""
        self._safely(self._requests.answered, kwargs)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record a call by the SDK that has failed."""
        self._safely(self._requests.call_failed, kwargs)

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Do as `async_log_success_event`, for calls without asyncio."""
        self._safely(self._requests.answered, kwargs)

    def log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Do as `async_log_failure_event`, for calls without asyncio."""
        self._safely(self._requests.call_failed, kwargs)

    def _at_exit(self) -> None:
        """Record what is still in LiteLLM's queue, and then what it has not told the end of."""
        module = sys.modules.get("litellm.litellm_core_utils.logging_worker")
        queue = getattr(module, "GLOBAL_LOGGING_WORKER", None)
        flush = getattr(queue, "_flush_on_exit", None)
        if callable(flush):
            self._safely(flush)  # by itself it would do so when the producer is closed already
        self._safely(self._requests.close)

    def _safely(self, do: Callable[..., object], *arguments: object) -> None:
        try:
            do(*arguments)
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong in here is the request's
            # Not its message: it may hold what is in the request.
            self._say_failed(
                "what LiteLLM has told could not be recorded: %s in %s",
                type(error).__name__,
                getattr(do, "__name__", "a callback"),
            )


def _is_unlogged(call: Mapping[str, Any]) -> bool:
    """Tell whether the client wants no log, and may: LiteLLM will not tell of a success then."""
    return call.get("no-log") is True and not getattr(litellm, "global_disable_no_log_param", False)


logger: Final = SpoolwayLogger()
"""The one to name in LiteLLM's settings."""
