"""The oracle itself: it must see each kind of wrong, or no fault test proves anything."""

from collections.abc import Callable

import pytest

from spoolway.schema import encode_line, new_id
from spoolway.spool import DeadLetter, DeadLetters, SpoolWriter
from tests.faults.oracle import Found, Ledger, conserved, key_and_hash, verdict
from tests.faults.site import Site
from tests.servers import ValkeyServer
from tests.workers import push, request_line, rows

LINES = [request_line(model_name="gpt-4o", body={"n": n}) for n in range(10)]
KEYS = [key_and_hash(line) for line in LINES]


def ledger_of(*lines: bytes) -> Ledger:
    """A ledger in which these lines were accepted."""
    ledger = Ledger()
    ledger.accept(lines)
    return ledger


def test_events_that_are_all_rows_are_right() -> None:
    """Each accepted event is one row with its content: nothing to complain of."""
    verdict(ledger_of(*LINES), Found(rows=KEYS))


@pytest.mark.parametrize("place", ["spooled", "pending"])
def test_event_on_its_way_is_right_until_all_is_settled(place: str) -> None:
    """What is spooled or pending is not lost; at the end it must have become a row."""
    found = Found(rows=KEYS[:9])
    getattr(found, place).extend(KEYS[9:])
    verdict(ledger_of(*LINES), found, settled=False)
    with pytest.raises(AssertionError, match=r"1 left (in the spool|on the stream)"):
        verdict(ledger_of(*LINES), found)


def test_event_may_be_in_two_places_only_on_its_way() -> None:
    """A crash between COMMIT and XACK leaves both; at the end one of them is gone."""
    found = Found(rows=KEYS, pending=KEYS[:1], spooled=KEYS[1:2])
    verdict(ledger_of(*LINES), found, settled=False)
    with pytest.raises(AssertionError, match="1 left in the spool"):
        verdict(ledger_of(*LINES), found)


def test_lost_event_is_seen() -> None:
    """Accepted and nowhere: the message says how many, and which."""
    with pytest.raises(AssertionError, match=rf"1 lost \(first: {KEYS[9][0]}\)"):
        verdict(ledger_of(*LINES), Found(rows=KEYS[:9]), settled=False)


def test_event_in_two_rows_is_seen() -> None:
    """Twice in the database, in one table or in both."""
    with pytest.raises(AssertionError, match="1 duplicated"):
        verdict(ledger_of(*LINES), Found(rows=[*KEYS, KEYS[0]]), settled=False)


def test_row_that_is_also_a_dead_letter_is_seen() -> None:
    """An event ends up in exactly one place."""
    with pytest.raises(AssertionError, match="1 duplicated"):
        verdict(ledger_of(*LINES), Found(rows=KEYS, dead=KEYS[:1]), dead=[KEYS[0][0]])


@pytest.mark.parametrize("place", ["rows", "dead", "spooled", "pending"])
def test_event_with_other_content_is_seen(place: str) -> None:
    """Its content is hashed anew wherever it is."""
    found = Found(rows=KEYS[1:])
    getattr(found, place).append((KEYS[0][0], "0" * 16))
    with pytest.raises(AssertionError, match="1 corrupt"):
        verdict(ledger_of(*LINES), found, settled=False, dead=[KEYS[0][0]])


@pytest.mark.parametrize("place", ["rows", "dead", "spooled", "pending"])
def test_event_that_nobody_sent_is_seen(place: str) -> None:
    """What was never accepted may be nowhere."""
    found = Found(rows=[*KEYS])
    getattr(found, place).append(key_and_hash(request_line()))
    with pytest.raises(AssertionError, match="1 spurious"):
        verdict(ledger_of(*LINES), found, settled=False)


def test_dead_letter_that_should_have_been_a_row_is_seen() -> None:
    """Good events land; only what was expected to die may die, and must."""
    with pytest.raises(AssertionError, match="1 dead, and should not be"):
        verdict(ledger_of(*LINES), Found(rows=KEYS[1:], dead=KEYS[:1]))
    with pytest.raises(AssertionError, match="1 not dead, and should be"):
        verdict(ledger_of(*LINES), Found(rows=KEYS), dead=[KEYS[0][0]])


def test_dead_letter_may_be_written_twice_by_a_crash() -> None:
    """After its fsync, before XACK: it comes again, and is one event all the same."""
    found = Found(rows=KEYS[1:], dead=[KEYS[0], KEYS[0]])
    verdict(ledger_of(*LINES), found, dead=[KEYS[0][0]])


def test_event_whose_answer_was_lost_may_be_there_or_not() -> None:
    """Sent, and Redis died before it answered: neither lost nor spurious, but never twice."""
    ledger = ledger_of(*LINES[:9])
    ledger.doubt(LINES[9:])
    for there in (KEYS, KEYS[:9]):
        verdict(ledger, Found(rows=there))
    with pytest.raises(AssertionError, match="1 duplicated"):
        verdict(ledger, Found(rows=[*KEYS, KEYS[9]]))


def test_worker_whose_counts_do_not_add_up_is_seen() -> None:
    """Every event read is inserted, duplicate, dead, spooled, given back or in flight."""
    status = dict.fromkeys(
        ("inserted", "duplicate", "dead", "spooled", "given_back", "in_flight"), 2
    )
    conserved({"read": 12, **status})
    with pytest.raises(AssertionError, match="read 13"):
        conserved({"read": 13, **status})


def test_every_place_is_read(
    sites: Callable[..., Site], sqlite_logs_url: str, valkey: ValkeyServer
) -> None:
    """Rows of both tables, open and sealed segments, dead letters and the stream, with content."""
    site = sites(sqlite_logs_url, valkey)
    error = encode_line({"type": "error", "id": new_id(), "error_message": "timeout"})
    rows(
        sqlite_logs_url,
        "INSERT INTO error_logs (id, timestamp, error_message) VALUES "
        f"('{key_and_hash(error)[0]}', '2026-01-31 12:00:00', 'timeout')",
    )
    rows(
        sqlite_logs_url,
        "INSERT INTO request_logs (id, request_time, model_name, body) VALUES "
        f"""('{KEYS[0][0]}', '2026-01-31 12:00:00', 'gpt-4o', '{{"n": 0}}')""",
    )
    spool = SpoolWriter(site.folder / "spool")
    spool.append(LINES[1:3])
    spool.seal()
    spool.append(LINES[3:5])
    DeadLetters(site.folder / "dead").keep(
        [DeadLetter("refused", "no", LINES[5]), DeadLetter("bad-frame", "no", b"\xff\xfe")]
    )
    push(valkey, LINES[6:])
    ledger = ledger_of(*LINES, error)
    ledger.accept_unreadable(b"\xff\xfe")

    found = Found.everywhere(sqlite_logs_url, valkey, [site.folder])

    verdict(
        ledger,
        found,
        settled=False,
        dead=[KEYS[5][0], next(key for key in ledger.accepted if key.startswith("raw:"))],
    )
    assert [len(place) for place in (found.rows, found.spooled, found.dead, found.pending)] == [
        *(2, 4, 2, 4)
    ]
    spool.close()
