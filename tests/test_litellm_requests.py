"""Requests through LiteLLM whose end is told late, twice, or never. The real thing: tests/litellm."""

import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from spoolway.producer import Producer
from spoolway.producer.litellm_requests.pending import (
    ENDED_S,
    SETTLE_S,
    Pending,
    PendingRequests,
    weakly,
)
from spoolway.producer.litellm_requests.requests import MAX_ATTEMPTS, Requests
from spoolway.schema import ErrorEvent, Event, RequestEvent
from tests.pushed import events, json_of
from tests.servers import ValkeyServer


class LoggingObject:
    """What LiteLLM keeps for as long as a request lasts."""


class Busy(Exception):
    """A backend that has no time."""

    status_code = 503
    llm_provider = "openai"


@pytest.fixture
def producer(valkey: ValkeyServer) -> Iterator[Producer]:
    """A producer for the shared server."""
    with Producer(valkey.url) as producer:
        yield producer


@pytest.fixture
def sent(producer: Producer, valkey: ValkeyServer) -> Callable[[], list[Event]]:
    """Everything that has been sent so far."""

    def sent() -> list[Event]:
        assert producer.flush()
        return events(valkey)

    return sent


def call(name: str = "call", owner: object = None) -> dict[str, Any]:
    """The arguments of a call through the proxy."""
    return {
        "model": "small",
        "litellm_call_id": name,
        "litellm_logging_obj": owner,
        "metadata": {"litellm_received_at": datetime.now(UTC), "model_group": "group"},
    }


def fail(requests: Requests, data: dict[str, Any]) -> None:
    """One attempt that fails."""
    requests.attempt_begun(data)
    requests.attempt_failed(data, Busy("no time"))


def one_request(found: list[Event]) -> RequestEvent:
    """The only request."""
    [request] = [event for event in found if isinstance(event, RequestEvent)]
    return request


def test_attempts_without_an_end_are_an_error_when_the_process_ends(
    producer: Producer, sent: Any
) -> None:
    """Each is an error event that refers to the request."""
    requests, data = Requests(producer), call(owner=LoggingObject())
    requests.begun(data, None)
    fail(requests, data)
    fail(requests, data)
    requests.close()

    found = sent()
    request = one_request(found)
    assert (request.outcome, request.http_status, request.model_name) == ("error", 503, "group")
    assert len(json_of(request.backend_attempts)) == 2
    errors = [event.request_id for event in found if isinstance(event, ErrorEvent)]
    assert errors == [request.id] * 2


def test_a_request_of_which_nothing_is_told_is_recorded_without_an_outcome(
    producer: Producer, sent: Any
) -> None:
    """It was there; how it ended is not known."""
    requests = Requests(producer)
    requests.begun(call(), None)
    requests.close()

    request = one_request(sent())
    assert (request.outcome, request.request_id, request.http_status) == (None, "call", None)


def test_what_is_told_twice_is_recorded_once(producer: Producer, sent: Any) -> None:
    """As when a guardrail refuses what a backend has answered: that error is not lost."""
    requests, data = Requests(producer), call(owner=LoggingObject())
    requests.begun(data, None)
    success = {**data, "litellm_params": {"metadata": data["metadata"]}}
    requests.answered(success)
    requests.answered(success)
    requests.refused(data, ValueError("not that"), None)
    requests.close()

    found = sent()
    request = one_request(found)
    assert request.outcome == "success"
    assert [(e.request_id, e.error_type) for e in found if isinstance(e, ErrorEvent)] == [
        (request.id, "ValueError")
    ]


def test_a_client_cannot_say_that_it_hung_up(producer: Producer, sent: Any) -> None:
    """What it sends as metadata is among LiteLLM's own."""
    requests, data = Requests(producer), call(owner=LoggingObject())
    data["metadata"]["client_disconnected"] = True
    requests.begun(data, None)
    requests.answered({**data, "litellm_params": {"metadata": data["metadata"]}})

    assert one_request(sent()).outcome == "success"


def test_calls_without_any_shape_are_recorded(producer: Producer, sent: Any) -> None:
    """Nothing is raised; the request is there, and all that is not known is NULL."""
    requests = Requests(producer)
    requests.begun({}, None)
    requests.attempt_begun({})
    requests.refused({}, ValueError("x"), object())
    requests.answered({"standard_logging_object": 5, "litellm_params": "x"})
    requests.call_failed({"exception": None})
    requests.attempt_failed({"metadata": []}, Busy())
    requests.close()

    outcomes = [event.outcome for event in sent() if isinstance(event, RequestEvent)]
    assert outcomes == ["error", "success", "error"]


def test_attempts_of_one_request_are_bounded(producer: Producer, sent: Any) -> None:
    """Retries without an end fill neither the memory nor a row."""
    requests, data = Requests(producer), call(owner=LoggingObject())
    requests.begun(data, None)
    for _ in range(MAX_ATTEMPTS + 9):
        fail(requests, data)
    requests.refused(data, Busy("no time"), None)

    assert len(json_of(one_request(sent()).backend_attempts)) == MAX_ATTEMPTS


def test_what_is_too_many_is_given_up_oldest_first(producer: Producer) -> None:
    """The store is bounded, and says what it has put out."""
    pending = [Pending(producer.record(), {}) for _ in range(4)]
    store = PendingRequests(most=2)
    given_up = [store.add(str(number), one) for number, one in enumerate(pending)]

    assert given_up == [[], [], [pending[0]], [pending[1]]]
    assert store.take_all() == pending[2:]
    assert len(store) == 0


def test_a_request_is_over_when_its_owner_is_gone(producer: Producer) -> None:
    """However long it lasts before."""
    owner = LoggingObject()
    pending = Pending(producer.record(), {}, owner=weakly(owner))
    store = PendingRequests()
    store.add("key", pending)

    assert store.take_over(time.monotonic() + 10 * SETTLE_S) == []
    del owner
    gc.collect()
    assert store.take_over(time.monotonic()) == [pending]


def test_a_request_without_an_owner_is_over_after_a_while(producer: Producer) -> None:
    """A router of the SDK tells nobody that it gives up."""
    pending = Pending(producer.record(), {}, owner=weakly(None), touched=100)

    assert not pending.is_over(100 + SETTLE_S)
    assert pending.is_over(101 + SETTLE_S)
    assert weakly(5) is None


def test_a_client_that_hung_up_is_waited_for_once_more(producer: Producer) -> None:
    """If a part of the answer was there, LiteLLM tells so right after it has noticed."""
    owner = LoggingObject()
    metadata: dict[str, object] = {}
    pending = Pending(producer.record(), metadata, owner=weakly(owner))

    assert not pending.is_over(0)
    metadata["client_disconnected"] = True
    assert not pending.is_over(0)
    assert pending.is_over(0)


def test_what_has_ended_is_remembered_for_a_while(producer: Producer) -> None:
    """Also when its owner is gone."""
    pending = Pending(producer.record(), {}, owner=lambda: None, ended=True, touched=100)

    assert not pending.is_over(100 + ENDED_S)
    assert pending.is_over(101 + ENDED_S)
