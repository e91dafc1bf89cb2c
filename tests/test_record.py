"""One request as it goes: what a record sends, when, and with which outcome."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from spoolway.producer import Producer
from spoolway.producer.record import MAX_ERRORS
from spoolway.schema import Caps, ErrorEvent, Event, RequestEvent, time_of
from tests.pushed import events, frames, json_of
from tests.servers import ValkeyServer


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


def request_in(events: list[Event]) -> RequestEvent:
    """The only request among them."""
    [request] = [event for event in events if isinstance(event, RequestEvent)]
    return request


def errors_in(events: list[Event]) -> list[ErrorEvent]:
    """The errors among them."""
    return [event for event in events if isinstance(event, ErrorEvent)]


def fail(error: Exception) -> None:
    """A backend that fails."""
    raise error


def test_a_block_that_ends_normally_is_a_success(producer: Producer, sent: Any) -> None:
    """Id, start, duration and outcome are filled in; what was given at any time is there."""
    before = datetime.now(UTC)
    with producer.record(
        model_name="gpt-4o", path="/v1/chat/completions", headers={"Authorization": "secret"}
    ) as record:
        record.set(http_status=200, prompt_tokens=12)
        record.first_token()
        record.set(model_name="gpt-4o-mini", response={"id": "chatcmpl-1"})
    after = datetime.now(UTC)

    request = request_in(sent())
    assert request.id == record.id
    assert request.outcome == "success"
    assert request.model_name == "gpt-4o-mini"
    assert request.path == "/v1/chat/completions"
    assert (request.http_status, request.prompt_tokens) == (200, 12)
    assert json_of(request.headers) == {"authorization": "[redacted]"}
    assert json_of(request.response) == {"id": "chatcmpl-1"}
    assert request.request_time is not None
    assert request.duration_ms is not None
    assert request.ttft_ms is not None
    assert before <= request.request_time <= after
    assert 0 <= request.ttft_ms <= request.duration_ms <= (after - before).total_seconds() * 1e3
    assert bytes(request.errors) == b""


def test_the_id_is_of_the_time_at_which_the_request_started(producer: Producer) -> None:
    """The id's milliseconds are those of `request_time`: one clock was read, once."""
    record = producer.record()
    started = record._fields["request_time"]

    assert isinstance(started, datetime)
    assert time_of(record.id) == started.replace(microsecond=started.microsecond // 1000 * 1000)


def test_an_exception_is_an_error_and_goes_on_its_way(producer: Producer, sent: Any) -> None:
    """The request ends as "error", with one error event, and the caller sees the exception."""
    record = producer.record(model_name="m", path="/p", method="POST")

    def handler() -> None:
        with record:
            record.set(http_status=500)
            raise ZeroDivisionError("division by zero")

    with pytest.raises(ZeroDivisionError):
        handler()

    request, error = sent()
    assert isinstance(error, ErrorEvent)
    assert request.outcome == "error"
    assert error.request_id == request.id == record.id
    assert (error.error_type, error.error_message) == ("ZeroDivisionError", "division by zero")
    assert (error.model_name, error.request_path) == ("m", "/p")
    assert error.timestamp is not None


@pytest.mark.parametrize(
    "stop", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit]
)
def test_a_stop_is_no_error(producer: Producer, sent: Any, stop: type[BaseException]) -> None:
    """What is not an Exception was not the request's fault: "cancelled", without an error event."""
    with pytest.raises(stop), producer.record():
        raise stop

    assert request_in(sent()).outcome == "cancelled"
    assert errors_in(sent()) == []


async def test_a_cancelled_task_leaves_a_cancelled_request(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """What happens when a client hangs up while the upstream is awaited."""
    inside = asyncio.Event()

    async def handler() -> None:
        with producer.record():
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(handler())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(producer.flush)
    assert request_in(events(valkey)).outcome == "cancelled"


async def test_a_stream_that_nobody_reads_to_its_end_is_cancelled(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """A generator that is closed early ends its record."""

    async def chunks() -> AsyncIterator[int]:
        with producer.record(is_stream=True) as record:
            for n in range(10):
                record.first_token()
                yield n

    stream = chunks()
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator, annotated as a caller would

    assert await asyncio.to_thread(producer.flush)
    request = request_in(events(valkey))
    assert request.outcome == "cancelled"
    assert request.ttft_ms is not None


def test_the_outcome_that_was_set_stays(producer: Producer, sent: Any) -> None:
    """A handler that knows better than the block (an error turned into a response) is believed."""
    with producer.record() as record:
        record.set(outcome="error")

    assert request_in(sent()).outcome == "error"


def test_only_the_first_finish_counts(producer: Producer, sent: Any) -> None:
    """It can be called by the handler, by a callback and by the block's end: one row."""
    with producer.record() as record:
        assert record.finish("error", http_status=502)
        assert not record.finish("success", http_status=200)
        record.set(http_status=204)

    request = request_in(sent())
    assert (request.outcome, request.http_status) == ("error", 502)


def test_a_record_works_without_a_block(producer: Producer, sent: Any) -> None:
    """A streamed response ends long after its handler has returned."""
    record = producer.record(is_stream=True)
    assert sent() == []

    assert record.finish(total_tokens=5)

    request = request_in(sent())
    assert (request.id, request.outcome, request.total_tokens) == (record.id, "success", 5)


def test_the_first_token_comes_once(producer: Producer, sent: Any) -> None:
    """Every chunk may report itself as the first."""
    record = producer.record()
    record.first_token()
    first = record._fields["ttft_ms"]
    record.first_token()
    record.finish()

    assert request_in(sent()).ttft_ms == first


def test_a_request_and_its_errors_travel_in_one_frame(
    valkey: ValkeyServer, producer: Producer
) -> None:
    """They are never split, whatever the frame's size, and each error names its request."""
    with Producer(valkey.url, stream="small", frame_events=2) as small:
        for _ in range(5):
            with small.record() as record:
                for attempt in range(4):
                    record.error(error_type="UpstreamError", http_status=500 + attempt)

    for frame in (pushed := frames(valkey, "small")):
        request, *errors = frame
        assert [e.request_id for e in errors if isinstance(e, ErrorEvent)] == [request.id] * 4
    assert len(pushed) == 5


def test_the_request_shows_its_errors_too(producer: Producer, sent: Any) -> None:
    """The column `errors` has a summary of each, with the id of its own row; long messages end."""
    with producer.record() as record:
        record.error(error_type="A", error_message="x" * 10_000, backend_name="azure", region="eu")
        record.error(ValueError("b"), http_status=503)

    found = sent()
    first, second = errors_in(found)
    summaries = json_of(request_in(found).errors)
    assert [summary["id"] for summary in summaries] == [str(first.id), str(second.id)]
    assert [summary["error_type"] for summary in summaries] == ["A", "ValueError"]
    assert len(summaries[0]["error_message"]) == 501
    assert summaries[0]["backend_name"] == "azure"
    assert summaries[1]["http_status"] == 503
    assert first.error_message == "x" * 10_000
    assert json_of(first.extra_context)["region"] == "eu"


def test_errors_given_by_the_caller_are_not_overwritten(producer: Producer, sent: Any) -> None:
    """Who fills the column `errors` himself keeps it."""
    with producer.record(errors=["mine"]) as record:
        record.error(error_type="A")

    assert json_of(request_in(sent()).errors) == ["mine"]


@pytest.mark.parametrize("how", ["by itself", "by its fields", "as the cause"])
def test_an_error_that_was_recorded_is_not_recorded_again(
    producer: Producer, sent: Any, how: str
) -> None:
    """A handler that records an error and then lets it, or one raised from it, go: one event."""

    def handler() -> None:
        with producer.record() as record:
            try:
                fail(ValueError("upstream"))
            except ValueError as error:
                if how == "by its fields":
                    record.error(error_type="UpstreamError")
                else:
                    record.error(error, backend_name="azure")
                if how == "as the cause":
                    raise RuntimeError("502") from error
                raise

    with pytest.raises((ValueError, RuntimeError)):
        handler()

    assert len(errors_in(sent())) == 1
    assert request_in(sent()).outcome == "error"


def test_the_error_of_a_second_attempt_is_its_own(producer: Producer, sent: Any) -> None:
    """What a fallback raises while the first error is handled is recorded beside it."""

    def handler() -> None:
        with producer.record() as record:
            try:
                fail(ValueError("first backend"))
            except ValueError as error:
                record.error(error)
                fail(RuntimeError("second backend"))

    with pytest.raises(RuntimeError):
        handler()

    assert [e.error_type for e in errors_in(sent())] == ["ValueError", "RuntimeError"]


def test_an_error_after_the_end_is_sent_by_itself(producer: Producer, sent: Any) -> None:
    """A background task that fails late still finds its request."""
    record = producer.record(model_name="m")
    record.finish()
    record.error(error_type="Late")

    [error] = errors_in(sent())
    assert (error.request_id, error.model_name) == (record.id, "m")


def test_errors_of_one_request_are_bounded_and_the_rest_counted(
    producer: Producer, sent: Any
) -> None:
    """A retry loop without an end fills neither the memory nor a frame."""
    with producer.record() as record:
        for _ in range(MAX_ERRORS + 7):
            record.error(error_type="A")

    assert len(errors_in(sent())) == MAX_ERRORS
    assert producer.stats.dropped == 7


def test_what_no_frame_could_hold_is_dropped_and_counted(valkey: ValkeyServer) -> None:
    """A request whose errors are larger than a frame may be keeps the errors that fit."""
    huge = 1 << 20
    with Producer(valkey.url, max_buffer_bytes=1 << 30, caps=Caps(huge * 2, huge * 2)) as producer:
        with producer.record() as record:
            for _ in range(40):
                record.error(error_message="x" * huge)
        assert producer.flush(30)
        stats = producer.stats

    [frame] = frames(valkey)
    assert stats.dropped == 41 - len(frame)
    assert len(frame) == 32


def test_the_type_and_the_id_are_the_records_own(producer: Producer, sent: Any) -> None:
    """Columns called `type` or `id` cannot break a record."""
    with producer.record(type="x", id="y") as record:
        record.set(type="z", id=5)
        record.error(type="request", id="e", request_id="r")

    found = sent()
    assert request_in(found).id == record.id
    assert [error.request_id for error in errors_in(found)] == [record.id]


class Unspeakable(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_printed_is_recorded(producer: Producer, sent: Any) -> None:
    """The proxy sees its own exception, never one of ours."""
    with pytest.raises(Unspeakable), producer.record():
        raise Unspeakable

    [error] = errors_in(sent())
    assert error.error_type == "Unspeakable"


def test_threads_share_a_record_and_it_ends_once(producer: Producer, sent: Any) -> None:
    """Of many that set, fail and finish at once, one finishes, and no error is lost or doubled."""
    records = [producer.record() for _ in range(50)]
    threads = 8
    together = threading.Barrier(threads)

    def work(number: int) -> int:
        finished = 0
        together.wait()
        for record in records:
            record.set(**{f"field_{number}": number})
            record.error(error_type=str(number))
            finished += record.finish(outcome="success")
        return finished

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(work, range(threads))) == len(records)

    found = sent()
    assert {e.id for e in found if isinstance(e, RequestEvent)} == {r.id for r in records}
    errors: dict[UUID | None, list[str | None]] = {}
    for error in errors_in(found):
        errors.setdefault(error.request_id, []).append(error.error_type)
    assert {key: sorted(types, key=str) for key, types in errors.items()} == {
        record.id: [str(number) for number in range(threads)] for record in records
    }


def test_a_record_after_the_producers_end_does_no_harm(valkey: ValkeyServer) -> None:
    """A request that outlives the producer runs to its end; its events are counted as dropped."""
    producer = Producer(valkey.url)
    record = producer.record()
    record.error(error_type="A")
    producer.close()

    assert not record.finish()
    assert producer.stats.dropped == 2


def test_a_record_keeps_no_exception_alive_after_its_end(producer: Producer) -> None:
    """An exception holds its frames, and they the request's body."""
    record = producer.record()
    record.error(ValueError())
    record.finish()

    assert record._recorded == []
