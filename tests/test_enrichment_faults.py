"""Libraries that raise, hang or lie, and names that nobody has: events go on, and nothing grows."""

import logging
import math
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from spoolway.schema import RequestEvent
from spoolway.worker.config import Settings
from spoolway.worker.enrichment import Enricher
from spoolway.worker.enrichment.aside import Aside, Failed, Limits, NotNow
from spoolway.worker.enrichment.footprint import Ecologits
from spoolway.worker.enrichment.genai import Genai
from spoolway.worker.enrichment.own import OwnPrices
from spoolway.worker.enrichment.sources import Names
from spoolway.worker.stores import Item
from tests.servers.waiting import eventually
from tests.stores import request

UNHURRIED = Limits(loading=60, question=30, burst=60)
"""For what is not about time: other tests run beside it."""


class Clock:
    """Time that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """Set at the end: what hangs in the test does not hang after it."""
    event = threading.Event()
    yield event
    event.set()


def one(**fields: Any) -> Item:
    """Return a request whose model both libraries know."""
    known = {"provider": "openai", "model_name": "gpt-4o"}
    return request(**{**known, "prompt_tokens": 1000, "completion_tokens": 100, **fields})


def cost(items: Sequence[Item]) -> float | None:
    """Return the cost of the first."""
    assert isinstance(items[0].event, RequestEvent)
    return items[0].event.cost


def by(library: Callable[[], Any], limits: Limits = UNHURRIED, **given: Any) -> Enricher:
    """Return an enricher whose costs are by this library alone."""
    aside: Aside[Any] = Aside("genai-prices", library, limits, **given)
    return Enricher(OwnPrices({}), aside, None)


class Lying(Genai):
    """The real library, whose prices are something else."""

    def __init__(self, price: object) -> None:
        super().__init__()
        self.price_of_all = price

    def find(self, _names: Names) -> Any:
        """Find a model that costs what was told."""
        prices = SimpleNamespace(
            input_mtok=1, calc_price=lambda _usage: {"total_price": self.price_of_all}
        )
        model = SimpleNamespace(
            id="lie", prices=prices, price_variants=None, get_prices=lambda *_: prices
        )
        return SimpleNamespace(id="liar", models=[model]), model, "provider and model"


@pytest.mark.parametrize(
    "price",
    [
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal(-1),
        None,
        "free",
        0.5,
        # Not of tokens: the same for all of them, and for some not even that.
        *(Decimal(number) for number in ("1E400", "-1E-400")),
    ],
)
def test_a_library_that_talks_nonsense_fills_in_nothing(price: object) -> None:
    """A cost is a finite number of 0 or more, or there is none."""
    enricher = by(lambda: Lying(price))
    items = [one(), one()]
    found = enricher.enrich(items)
    assert found == items
    assert enricher.counts.cost == 0


def test_a_footprint_that_is_none_is_not_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN, less than nothing, and a method that is not the one that was compared with."""
    for impacts in (
        lambda *_: [math.nan] * 4,
        lambda *_: [-1.0] * 4,
        lambda _provider, _model, tokens, seconds: [tokens**2 + min(seconds, 1)] * 4,
    ):
        monkeypatch.setattr(Ecologits, "impacts", lambda _self, *given, by=impacts: by(*given))
        aside = Aside("ecologits", lambda: Ecologits(""), UNHURRIED)
        enricher = Enricher(OwnPrices({}), None, aside)
        assert enricher.enrich(items := [one()]) is items
        assert (enricher.counts.footprint, enricher.counts.failed) == (0, 1)


def test_a_model_that_a_library_fails_for_is_unknown_and_asked_for_once() -> None:
    """The others are filled in as before."""
    asked: list[str | None] = []

    class Broken(Genai):
        def find(self, names: Names) -> Any:
            asked.append(names.asked)
            if names.asked == "gpt-4":
                raise ZeroDivisionError
            return super().find(names)

    enricher = by(Broken)
    items = [one(model_name="gpt-4"), one()] * 3
    found = enricher.enrich(items)
    assert [item.enriched != b"" for item in found] == [False, True] * 3
    assert asked == ["gpt-4", "gpt-4o"]
    assert (enricher.counts.cost, enricher.counts.failed) == (3, 1)


def test_a_library_that_cannot_be_imported_is_left_alone_with_one_warning(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again after a minute, then after two; when it is back, costs are, too."""
    loads: list[float] = []

    def load() -> Genai:
        loads.append(clock.now)
        if len(loads) < 3:
            raise ImportError("a client's words")
        return Genai()

    enricher = by(load, clock=clock)
    with caplog.at_level(logging.INFO, "spoolway.enrichment"):
        costs = []
        for _ in range(200):
            costs.append(cost(enricher.enrich([one()])))
            clock.now += 1.0
    assert loads == [1000.0, 1060.0, 1180.0]
    assert costs == [None] * 180 + [0.0035] * 20
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "genai-prices is left alone for 60 s" in said[0].getMessage()
    assert "ImportError" in said[0].getMessage()
    assert "client" not in caplog.text
    assert "answers again" in caplog.text
    assert enricher.counts.postponed > 100


def test_a_library_that_hangs_costs_one_wait(
    clock: Clock, let_go: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Events go on without it. As long as it hangs it is not asked again, not even after a minute."""
    hangs = True
    questions = 0

    class Hanging(Genai):
        def find(self, names: Names) -> Any:
            nonlocal questions
            questions += 1
            if hangs:
                let_go.wait()
            return super().find(names)

    limits = Limits(loading=60, question=0.05, burst=60)
    enricher = by(Hanging, limits, clock=clock)
    items = [one(model_name=f"gpt-4o-{number}") for number in range(1000)]
    assert enricher.enrich(items) is items
    clock.now += 61
    assert enricher.enrich(items) is items
    assert (questions, enricher.counts.postponed) == (1, 2000)
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    assert "takes longer than 0.05 s" in caplog.text

    hangs = False
    let_go.set()
    eventually(lambda: cost(enricher.enrich([one()])) == 0.0035)


def test_several_failures_in_a_row_switch_a_library_off(clock: Clock) -> None:
    """One model may be broken; five of five are the library."""
    aside = Aside("library", SimpleNamespace, UNHURRIED, clock=clock)
    for _ in range(4):
        with pytest.raises(Failed):
            aside.ask(lambda library: library.nothing)
    assert aside.ask(lambda _library: 1) == 1
    for _ in range(4):
        with pytest.raises(Failed):
            aside.ask(lambda library: library.nothing)
    with pytest.raises(NotNow):
        aside.ask(lambda library: library.nothing)
    assert aside.is_off
    with pytest.raises(NotNow):
        aside.ask(lambda _library: 1)
    clock.now += 60
    assert aside.ask(lambda _library: 1) == 1
    assert (aside.is_off, aside.refreshed, aside.failures) == (False, 1, 9)


def test_all_questions_together_have_a_share_of_the_time(clock: Clock) -> None:
    """What is spent is earned by the time that goes by, up to some for the next burst."""
    aside = Aside("library", SimpleNamespace, Limits(60, 30, share=0.1, burst=0.5), clock=clock)

    def takes(seconds: float) -> Callable[[object], None]:
        def question(_library: object) -> None:
            clock.now += seconds

        return question

    for _ in range(2):
        aside.ask(takes(0.3))  # 0.3, and 0.03 earned back meanwhile
    with pytest.raises(NotNow):
        aside.ask(takes(0.3))
    assert not aside.is_off
    clock.now += 1.0
    aside.ask(takes(0.3))
    clock.now += 3600
    for _ in range(2):
        aside.ask(takes(0.3))
    with pytest.raises(NotNow):
        aside.ask(takes(0.3))


def test_a_thread_that_nobody_asks_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next question gets another one."""
    monkeypatch.setattr("spoolway.worker.enrichment.aside._IDLE", 0.01)
    aside = Aside("library-of-this-test", SimpleNamespace, UNHURRIED)

    def threads() -> list[str]:
        return [one.name for one in threading.enumerate() if "library-of-this-test" in one.name]

    for _ in range(3):
        assert aside.ask(lambda _library: 1) == 1
        eventually(lambda: not threads())


def test_names_that_nobody_has_do_not_grow_anything() -> None:
    """What clients call a model is kept within bounds, ours and the libraries'."""
    genai = Genai()
    costs = Aside("genai-prices", lambda: genai, UNHURRIED)
    footprints = Aside("ecologits", lambda: Ecologits(""), UNHURRIED)
    enricher = Enricher(OwnPrices({}), costs, footprints)
    odd = [
        "\ud800",
        "\x00",
        "a" * 10**6,
        "\uff47pt-4o",
        "gpt-4o\n",
        "\u202e",
        "🦙" * 50,
        " ",
        "*",
        "/",
    ]
    items = [Item(RequestEvent(id=one().event.id, model_name=name), b"", 0) for name in odd]
    items += [one(model_name=f"gpt-4o-{number}", provider=f"p{number}") for number in range(4500)]
    assert len(enricher.enrich(items)) == len(items)
    assert enricher.counts.failed == 0
    for source in (enricher._costs, enricher._footprints):
        assert source is not None
        assert 0 < len(source.memo.known) <= 4096
    for kept in ("_lookup_cache", "_provider_cache", "_provider_misses"):
        assert len(getattr(genai._snapshot, kept)) <= 5000
    assert cost(enricher.enrich([one()])) == 0.0035


def test_names_that_nobody_has_take_a_share_of_the_time() -> None:
    """Ten thousand of them are given up, not waited for; what is known is filled in all the same."""
    enricher = Enricher.of(Settings(), limits=Limits(loading=60, question=30, burst=0.02))
    assert enricher is not None
    enricher.enrich([one()])
    items = [one(model_name=f"unheard-of-{number}") for number in range(10_000)]
    found = enricher.enrich([*items, one()])
    assert enricher.counts.postponed > 1000
    assert cost(found[-1:]) == 0.0035
    assert enricher.counts.failed == 0


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices and models are those that are installed: no socket is connected, no name looked up."""

    def refused(*_given: object) -> None:
        raise AssertionError("a network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    enricher = Enricher.of(Settings(), limits=UNHURRIED)
    assert enricher is not None
    assert cost(enricher.enrich([one()])) == 0.0035
    assert (enricher.counts.footprint, enricher.counts.failed) == (1, 0)
