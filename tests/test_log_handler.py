"""The handler for `logging`: what is logged as an error is an error event, and nothing else happens."""

import io
import logging
import logging.config
import logging.handlers
import pickle
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spoolway.producer import Producer
from spoolway.producer.background import THREAD_NAME
from spoolway.producer.log_handler import FIELD_BYTES, TRACEBACK_BYTES, ErrorHandler
from spoolway.schema import ErrorEvent, new_id
from tests.pushed import events, json_of
from tests.servers import ValkeyServer
from tests.servers.ports import ReservedPort

SECRET = "sk-do-not-print-me"


@pytest.fixture
def producer(valkey: ValkeyServer) -> Iterator[Producer]:
    """A producer on the shared server."""
    with Producer(valkey.url) as made:
        yield made


@pytest.fixture
def log(producer: Producer) -> Iterator[logging.Logger]:
    """A logger of this test's own, whose errors the producer takes."""
    with attached(ErrorHandler(producer)) as logger:
        yield logger


@contextmanager
def attached(handler: logging.Handler, name: str = "my.proxy") -> Iterator[logging.Logger]:
    """Make a logger with this handler and no other: pytest's own would print bad messages, too."""
    logger = logging.Logger(name)  # noqa: LOG001 - pytest finds every logger that has a name
    logger.addHandler(handler)
    yield logger
    handler.close()


def recorded(producer: Producer, server: ValkeyServer) -> list[ErrorEvent]:
    """What is on the stream after a flush."""
    assert producer.flush()
    found = [event for event in events(server) if isinstance(event, ErrorEvent)]
    assert len(found) == producer.stats.pushed
    return found


def context(event: ErrorEvent) -> dict[str, Any]:
    """Its extra_context."""
    found: dict[str, Any] = json_of(event.extra_context)
    return found


def fail(message: str = "connection refused") -> None:
    """Raise what a backend raises, with a cause."""
    try:
        int("five")
    except ValueError as error:
        raise ConnectionError(message) from error


class Unprintable:
    """An object of the proxy's whose `__str__` fails."""

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


class Noisy:
    """An object that logs an error whenever it is printed."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def __str__(self) -> str:
        self._log.error("printed %s", self)
        return "noisy"


# --- What becomes of a record -------------------------------------------------------


def test_an_error_that_is_logged_is_an_event(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """Time, message, and where it comes from; without an exception the logger's name is the type."""
    before = datetime.now(UTC)
    log.error("backend %s gave up after %d tries", "eu", 3)
    (event,) = recorded(producer, valkey)

    assert event.error_message == "backend eu gave up after 3 tries"
    assert event.error_type == log.name
    assert event.timestamp is not None
    assert before.timestamp() - 0.001 <= event.timestamp.timestamp() <= time.time()
    told = context(event)
    line = told.pop("line")
    assert isinstance(line, int)
    assert told == {
        "logger": log.name,
        "level": "ERROR",
        "module": "test_log_handler",
        "function": "test_an_error_that_is_logged_is_an_event",
        "thread": threading.current_thread().name,
    }
    assert (event.request_id, event.model_name) == (None, None)


def test_the_time_is_that_of_the_record(producer: Producer, valkey: ValkeyServer) -> None:
    """Not that of a queue's other end."""
    record = logging.makeLogRecord({"name": "a", "levelno": 40, "msg": "m", "created": 1.5})
    ErrorHandler(producer).handle(record)
    (event,) = recorded(producer, valkey)
    assert event.timestamp == datetime.fromtimestamp(1.5, UTC)


def test_an_exception_gives_type_message_and_traceback(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """Its class; what was logged and what it says; the whole chain of tracebacks."""
    try:
        fail()
    except ConnectionError as error:
        log.exception("no answer")
        log.exception(error)  # noqa: TRY401 - what some proxies do, and it is not said twice
    first, second = recorded(producer, valkey)

    assert first.error_type == second.error_type == "ConnectionError"
    assert first.error_message == "no answer: connection refused"
    assert second.error_message == "connection refused"
    trace = context(first)["traceback"]
    assert trace.startswith("Traceback (most recent call last):\n")
    assert "\nValueError: invalid literal" in trace
    assert trace.endswith("\nConnectionError: connection refused")


def test_a_traceback_that_a_formatter_wrote_is_taken_as_it_is(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """It may have left something out, and is written once."""

    class Brief(logging.Formatter):
        def formatException(self, ei: Any) -> str:  # noqa: N802 - named by the standard library
            return f"in brief: {ei[0].__name__}"

    with attached(logging.NullHandler()) as log:
        printing = logging.StreamHandler(io.StringIO())
        printing.setFormatter(Brief())
        log.addHandler(printing)
        log.addHandler(ErrorHandler(producer))
        log.error("failed", exc_info=ValueError("why"))
    (event,) = recorded(producer, valkey)
    assert context(event)["traceback"] == "in brief: ValueError"
    assert (event.error_type, event.error_message) == ("ValueError", "failed: why")


def test_a_traceback_is_bounded_and_keeps_its_end(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """The end says what it was; what is cut off is told in bytes."""
    try:
        fail("é" * TRACEBACK_BYTES + "!")
    except ConnectionError:
        log.exception("no answer", stack_info=True)
    (event,) = recorded(producer, valkey)

    note, kept = context(event)["traceback"].split("\n", 1)
    assert note.startswith("… [")
    assert note.endswith(" bytes before this]")
    assert TRACEBACK_BYTES - 1 <= len(kept.encode()) <= TRACEBACK_BYTES
    assert kept.endswith("ééé!")
    assert "in test_a_traceback_is_bounded" in context(event)["stack"]


def test_extra_fields_fill_columns_and_the_rest_is_context(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """What error_logs has a column for goes there; a name that is taken is kept beside it."""
    request = new_id()
    columns = {
        "model_name": "gpt-4o",
        "backend_name": "eu",
        "http_status": 502,
        "request_path": "/v1/chat/completions",
        "request_id": request,
    }
    log.error("m", extra={**columns, "tenant": {"id": 7}, "logger": "theirs", "id": 1, "type": "t"})
    (event,) = recorded(producer, valkey)

    assert {name: getattr(event, name) for name in columns} == columns
    told = context(event)
    assert (told["tenant"], told["id"], told["type"]) == ({"id": 7}, 1, "t")
    assert told["logger"] == log.name
    assert "theirs" in [value for name, value in told.items() if name.startswith("logger~")]
    assert "model_name" not in told


def test_an_id_that_is_the_proxys_own_is_kept(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """What does not fit its column, such as a request id that is no UUID, is in the context."""
    log.error("m", extra={"request_id": "req-1", "http_status": "503"})
    (event,) = recorded(producer, valkey)
    assert (event.request_id, event.http_status) == (None, 503)
    assert context(event)["request_id"] == "req-1"


def test_a_filter_may_link_records_to_their_request(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """The standard library's own way to add what a call does not give."""
    request = new_id()

    def link(record: logging.LogRecord) -> bool:
        record.request_id = request
        return record.getMessage() != "not this one"

    handler = ErrorHandler(producer)
    handler.addFilter(link)
    with attached(handler) as log:
        log.error("not this one")
        log.error("this one")
    (event,) = recorded(producer, valkey)
    assert (event.error_message, event.request_id) == ("this one", request)


def test_an_extra_field_that_is_huge_does_not_crowd_out_the_rest(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """It keeps its size and its beginning; everything else stays as it is."""
    log.error("m", extra={"answer": "x" * 3_000_000, "tenant": "a" * (FIELD_BYTES - 2)})
    (event,) = recorded(producer, valkey)
    told = context(event)
    assert (told["answer"]["_truncated"], told["answer"]["bytes"]) == (True, 3_000_002)
    assert told["tenant"] == "a" * (FIELD_BYTES - 2)
    assert told["logger"] == log.name


def test_secrets_in_headers_are_replaced(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """The producer's rules hold for what is logged, too."""
    log.error("m", extra={"headers": {"authorization": f"Bearer {SECRET}", "accept": "*/*"}})
    (event,) = recorded(producer, valkey)
    assert context(event)["headers"]["accept"] == "*/*"
    assert SECRET not in str(context(event))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="records name their task since Python 3.12")
async def test_the_task_is_named(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """Where asyncio runs."""
    log.error("m")
    (event,) = recorded(producer, valkey)
    assert context(event)["task"].startswith("Task-")


# --- Which records are taken -----------------------------------------------------------


def test_what_is_less_than_an_error_is_not_taken(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """ERROR and CRITICAL, by default."""
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)(level)
    assert [event.error_message for event in recorded(producer, valkey)] == ["error", "critical"]


def test_the_level_may_be_chosen(producer: Producer, valkey: ValkeyServer) -> None:
    """By number or by name."""
    with attached(ErrorHandler(producer, level="WARNING")) as log:
        log.info("info")
        log.warning("warning")
    assert [event.error_message for event in recorded(producer, valkey)] == ["warning"]


@pytest.mark.parametrize(
    "name", ["spoolway", "spoolway.producer", "redis", "redis.asyncio.connection"]
)
def test_records_of_the_producer_and_of_redis_are_never_taken(
    name: str, producer: Producer, valkey: ValkeyServer
) -> None:
    """A producer whose Redis is down must not feed itself."""
    with attached(ErrorHandler(producer), name) as log:
        log.critical("Redis is away")
    assert recorded(producer, valkey) == []


def test_a_name_that_only_begins_like_theirs_is_taken(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """`redis_cache` is the proxy's own."""
    with attached(ErrorHandler(producer), "redis_cache") as log:
        log.error("m")
    assert len(recorded(producer, valkey)) == 1


def test_what_is_logged_on_the_producers_thread_is_not_taken(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """Whatever the logger: instrumentation of Redis clients logs there that Redis is away."""
    thread = threading.Thread(target=log.error, args=("away",), name=THREAD_NAME)
    thread.start()
    thread.join()
    assert recorded(producer, valkey) == []


def test_a_producer_without_redis_does_not_feed_itself(caplog: pytest.LogCaptureFixture) -> None:
    """One error is one event, however often the producer then says that Redis is away."""
    port = ReservedPort()
    with Producer(f"redis://127.0.0.1:{port.number}/0") as producer:
        handler = ErrorHandler(producer, level=logging.DEBUG)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            logging.getLogger("my.proxy").error("once")
            producer.flush(0.2)
            stats = producer.stats
            assert stats.push_failures > 0
            assert [r for r in caplog.records if r.name.startswith("spoolway")]
        finally:
            root.removeHandler(handler)
            producer.close(0)
    assert stats.accepted == 1


# --- Records that come from elsewhere --------------------------------------------------


def test_records_of_a_queue_are_read(producer: Producer, valkey: ValkeyServer) -> None:
    """A QueueHandler writes the traceback into the message; its listener asks for no level."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with attached(logging.handlers.QueueHandler(records)) as log:
        log.info("nothing yet")
        try:
            fail()
        except ConnectionError:
            log.exception("no answer", extra={"http_status": 502})
        log.error("and then\nnothing")
    listener = logging.handlers.QueueListener(records, ErrorHandler(producer))
    listener.start()
    listener.stop()
    first, second = recorded(producer, valkey)

    assert first.error_type == "ConnectionError"
    assert first.error_message == "no answer: connection refused"
    assert first.http_status == 502
    assert context(first)["traceback"].endswith("ConnectionError: connection refused")
    assert (second.error_message, context(second).get("traceback")) == ("and then\nnothing", None)


def test_records_of_a_socket_are_read(producer: Producer, valkey: ValkeyServer) -> None:
    """What a SocketHandler pickles has the traceback as text, and no exception."""
    with pytest.raises(ConnectionError) as caught:
        fail()
    made = logging.LogRecord("a", 40, __file__, 1, "no answer", (), caught._excinfo)
    sent = logging.handlers.SocketHandler("127.0.0.1", None).makePickle(made)
    arrived = logging.makeLogRecord(pickle.loads(sent[4:]))  # noqa: S301 - bytes made one line above
    assert (arrived.exc_info, bool(arrived.exc_text)) == (None, True)

    ErrorHandler(producer).handle(arrived)
    (event,) = recorded(producer, valkey)
    assert event.error_type == "ConnectionError"
    assert event.error_message == "no answer: connection refused"


def _group() -> ExceptionGroup[Exception]:
    try:
        fail()
    except ConnectionError as error:
        return ExceptionGroup("two of them", [error, ValueError("1\n2")])
    raise AssertionError


class _Local(Exception):
    """Its full name has dots in it."""


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (_group(), "ExceptionGroup", "two of them (2 sub-exceptions)"),
        (ValueError("one\ntwo"), "ValueError", "one"),
        (_Local("why"), "_Local", "why"),
        (KeyError(), "KeyError", ""),
    ],
    ids=["group", "lines", "dots", "bare"],
)
def test_the_last_line_of_a_traceback_tells_the_exception(
    error: Exception, kind: str, message: str, producer: Producer, valkey: ValkeyServer
) -> None:
    """Of a record that has its exception only as text, in whichever form Python writes it."""
    with pytest.raises(type(error)) as caught:
        raise error
    text = logging.Formatter().formatException((caught.type, caught.value, caught.tb))
    record = logging.makeLogRecord({"name": "a", "levelno": 40, "exc_text": text})
    ErrorHandler(producer).handle(record)
    (event,) = recorded(producer, valkey)
    assert (event.error_type, event.error_message) == (kind, message)


# --- Nothing goes wrong in the code that logs --------------------------------------------


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed, with logging.raiseExceptions on, as it is by default."""
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", printed)
    assert logging.raiseExceptions
    return printed


def test_a_message_that_cannot_be_formatted_is_kept_without_its_arguments(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer, stderr: io.StringIO
) -> None:
    """The error is not lost for it, nothing is raised, and nothing printed."""
    log.error("status %d", SECRET)
    log.error("%s", Unprintable())
    log.error(Unprintable())
    found = recorded(producer, valkey)
    assert [event.error_message for event in found] == ["status %d", "%s", "<Unprintable>"]
    assert stderr.getvalue() == ""


def test_an_exception_that_cannot_be_printed_is_told_by_its_class(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer, stderr: io.StringIO
) -> None:
    """Also where there is none being handled."""

    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    log.error("failed", exc_info=UnprintableError())
    log.error("nothing is being handled", exc_info=True)  # noqa: LOG014 - the rule is what this proves
    first, second = recorded(producer, valkey)
    assert first.error_type == "UnprintableError"
    assert first.error_message is not None
    assert first.error_message.startswith("failed: <exception str() failed>")
    assert second.error_type == log.name
    assert SECRET not in f"{first}{stderr.getvalue()}"


@pytest.mark.parametrize(
    "fields",
    [{"created": float("nan")}, {"name": None}, {"levelno": None}, {"exc_text": 5}],
    ids=repr,
)
def test_a_record_that_is_none_is_not_taken(
    fields: dict[str, Any],
    producer: Producer,
    valkey: ValkeyServer,
    caplog: pytest.LogCaptureFixture,
    stderr: io.StringIO,
) -> None:
    """Made by hand, say: nothing is raised, and it is said without its content."""
    made = {"name": "a", "levelno": 40, "msg": SECRET, "created": 1.0, **fields}
    ErrorHandler(producer).handle(logging.makeLogRecord(made))
    assert recorded(producer, valkey) == []
    assert "an error that was logged is lost: " in caplog.text
    assert SECRET not in caplog.text + stderr.getvalue()


def test_a_filter_that_fails_does_not_raise(
    producer: Producer, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Into the code that logs."""

    def broken(record: logging.LogRecord) -> bool:
        raise LookupError(SECRET)

    handler = ErrorHandler(producer)
    handler.addFilter(broken)
    with attached(handler) as log:
        log.error("m")
    assert recorded(producer, valkey) == []
    assert "is lost: LookupError" in caplog.text
    assert SECRET not in caplog.text


def test_what_is_logged_while_a_record_is_read_is_not_taken(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """An object that logs when it is printed would be printed again, without end."""
    log.error("see %s", Noisy(log))
    log.error("after", extra={"noisy": Noisy(log)})
    messages = [event.error_message for event in recorded(producer, valkey)]
    assert messages == ["see noisy", "after"]


def test_a_thread_that_logs_never_waits_for_another(
    log: logging.Logger, producer: Producer, valkey: ValkeyServer
) -> None:
    """A proxy's `__str__` may need a lock whose holder logs: with the handler's lock, that hangs."""
    printing, other_has_logged = threading.Event(), threading.Event()

    class Waiting:
        def __str__(self) -> str:
            printing.set()
            assert other_has_logged.wait(10)
            return "waited"

    thread = threading.Thread(target=lambda: log.error("%s", Waiting()))
    thread.start()
    assert printing.wait(10)
    log.error("meanwhile")
    other_has_logged.set()
    thread.join()
    messages = [event.error_message for event in recorded(producer, valkey)]
    assert messages == ["meanwhile", "waited"]


def test_a_handler_whose_producer_is_closed_does_not_raise(producer: Producer) -> None:
    """A proxy logs on while it shuts down; the producer counts what it drops."""
    producer.close()
    with attached(ErrorHandler(producer)) as log:
        log.error("late")
    assert producer.stats.dropped == 1


# --- Whose producer it is -----------------------------------------------------------------


def test_close_closes_a_producer_of_its_own(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made from the environment where nothing is said; what was logged is on the stream then."""
    monkeypatch.setenv("REDIS_URL", valkey.url)
    monkeypatch.setenv("SPOOLWAY_STREAM", "errors")
    with attached(ErrorHandler()) as log:
        log.error("m")
    assert [event.error_message for event in _errors(valkey, "errors")] == ["m"]
    assert THREAD_NAME not in [thread.name for thread in threading.enumerate()]


def test_close_leaves_a_producer_that_was_given(producer: Producer, valkey: ValkeyServer) -> None:
    """Its owner closes it."""
    ErrorHandler(producer).close()
    assert producer.emit({"type": "error", "error_message": "m"})
    assert len(recorded(producer, valkey)) == 1


def test_a_producer_and_settings_for_another_one_is_an_error(
    producer: Producer, tmp_path: Path
) -> None:
    """At once, as every setting that cannot work."""
    with pytest.raises(ValueError, match="give ErrorHandler a producer, or redis_url"):
        ErrorHandler(producer, folder=tmp_path)
    with pytest.raises(ValueError, match="Redis"):
        ErrorHandler(redis_url="http://example.org")


@pytest.fixture
def configured() -> Iterator[logging.Logger]:
    """A logger that dictConfig may configure; undone afterwards."""
    log = logging.getLogger("configured.proxy")
    yield log
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def config(**handler: Any) -> dict[str, Any]:
    """What a proxy hands to dictConfig, with the handler's arguments."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"errors": {"()": "spoolway.producer.log_handler.ErrorHandler", **handler}},
        "loggers": {"configured.proxy": {"handlers": ["errors"], "level": "INFO"}},
    }


def test_dictconfig_makes_it_from_a_url(
    valkey: ValkeyServer, configured: logging.Logger, tmp_path: Path
) -> None:
    """With a producer of its own; a level that is given holds."""
    made = config(redis_url=valkey.url, stream="errors", folder=str(tmp_path), level="CRITICAL")
    logging.config.dictConfig(made)
    configured.error("less")
    configured.critical("more")
    configured.handlers[0].close()
    assert (tmp_path / "spool").is_dir()
    assert [event.error_message for event in _errors(valkey, "errors")] == ["more"]


def test_dictconfig_may_share_the_proxys_producer(
    producer: Producer,
    valkey: ValkeyServer,
    configured: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the name of the variable that holds it."""
    monkeypatch.setattr(sys.modules["spoolway.producer"], "of_the_proxy", producer, raising=False)
    logging.config.dictConfig(config(producer="ext://spoolway.producer.of_the_proxy"))
    configured.error("m")
    assert [event.error_message for event in recorded(producer, valkey)] == ["m"]


def _errors(server: ValkeyServer, stream: str) -> list[ErrorEvent]:
    return [event for event in events(server, stream) if isinstance(event, ErrorEvent)]
