"""Cost and footprint filled in: the libraries' own results, own prices, and what stays null."""

import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import hypothesis
import orjson
import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from hypothesis import given
from hypothesis import strategies as st

from spoolway.producer.answers.usage import token_columns
from spoolway.schema import RequestEvent
from spoolway.worker.config import Settings, UsageError
from spoolway.worker.enrichment import Enricher
from spoolway.worker.enrichment.aside import Limits
from spoolway.worker.enrichment.footprint import import_quietly
from spoolway.worker.stores import Item
from tests.stores import error, request

NOW = "2026-11-20T12:00:00Z"
SNAPSHOT = DataSnapshot(providers=providers, from_auto_update=False)


def settings(**given: Any) -> Settings:
    """Return settings of values as a file has them."""
    return Settings(**given)


def enricher(**given: Any) -> Enricher:
    """Return an enricher of these settings, which may take its time: other tests run beside it."""
    made = Enricher.of(settings(**given), limits=Limits(loading=60, question=30, burst=60))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def default() -> Enricher:
    """An enricher of the default settings."""
    return enricher()


def event(item: Item) -> RequestEvent:
    """Return the request of an item."""
    assert isinstance(item.event, RequestEvent)
    return item.event


def answered(provider: str, model: str, usage: Mapping[str, Any], **fields: Any) -> Item:
    """Return a request with the columns that the producer makes of a provider's usage object."""
    known = {"request_time": NOW, "provider": provider, "provider_model": model}
    columns = {
        name: value for name, value in token_columns(dict(usage)).items() if value is not None
    }
    return request(**{**known, "usage_stats": usage, **columns, **fields})


def filled(by: Enricher, item: Item) -> tuple[float | None, dict[str, Any]]:
    """Return the cost that was filled in, and what is told of it."""
    (found,) = by.enrich([item])
    told = orjson.loads(found.enriched) if found.enriched else {}
    return event(found).cost, told.get("cost", {})


# --- Cost, by genai-prices ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "fields", "documented"),
    [
        # The examples of its README, as these providers' answers have them.
        (("openai", "gpt-4o", {"prompt_tokens": 1000, "completion_tokens": 100}), {}, 0.0035),
        (
            ("openai", "o3", {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}),
            {"request_time": "2026-10-12T00:00:00Z", "response": {"service_tier": "flex"}},
            5,
        ),
        (
            (
                "anthropic",
                "claude-fable-5-2",
                {"input_tokens": 1_000_000, "output_tokens": 1_000_000, "speed": "fast"},
            ),
            {"request_time": "2026-11-10T00:00:00Z"},
            96,
        ),
        (
            (
                "anthropic",
                "claude-sonnet-4-20250514",
                {"input_tokens": 5, "cache_creation_input_tokens": 4735, "output_tokens": 255},
            ),
            {},
            0.02159625,
        ),
        (
            (
                "anthropic",
                "claude-sonnet-4-20250514",
                {"input_tokens": 504, "cache_creation_input_tokens": 123, "output_tokens": 97},
            ),
            {},
            0.00342825,
        ),
        (("openai", "gpt-5", {"prompt_tokens": 100, "completion_tokens": 200}), {}, 0.002125),
    ],
)
def test_documented_examples_of_genai_prices_cost_what_they_do_there(
    default: Enricher,
    answer: tuple[str, str, dict[str, Any]],
    fields: dict[str, Any],
    documented: float,
) -> None:
    """Each example of its README, through our columns."""
    cost, told = filled(default, answered(*answer, **fields))
    assert cost == documented
    assert (told["by"], told["provider"], told["currency"]) == ("genai-prices", answer[0], "USD")


@pytest.mark.parametrize(
    ("provider", "flavor", "model", "usage"),
    [
        (
            "openai",
            "chat",
            "gpt-5",
            {
                "prompt_tokens": 5000,
                "completion_tokens": 700,
                "total_tokens": 5700,
                "prompt_tokens_details": {"cached_tokens": 4096},
                "completion_tokens_details": {"reasoning_tokens": 512},
            },
        ),
        (
            "openai",
            "responses",
            "o3",
            {
                "input_tokens": 5000,
                "output_tokens": 700,
                "total_tokens": 5700,
                "input_tokens_details": {"cached_tokens": 4096},
                "output_tokens_details": {"reasoning_tokens": 512},
            },
        ),
        (
            "openai",
            "chat",
            "gpt-4o-audio-preview",
            {
                "prompt_tokens": 900,
                "completion_tokens": 300,
                "total_tokens": 1200,
                "prompt_tokens_details": {"audio_tokens": 400},
                "completion_tokens_details": {"audio_tokens": 200},
            },
        ),
        (
            "anthropic",
            "default",
            "claude-sonnet-4-20250514",
            {
                "input_tokens": 50,
                "cache_read_input_tokens": 3000,
                "cache_creation_input_tokens": 2000,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 1500,
                    "ephemeral_1h_input_tokens": 500,
                },
                "output_tokens": 800,
                "server_tool_use": {"web_search_requests": 2},
            },
        ),
        (
            "google",
            "default",
            "gemini-2.5-pro",
            {
                "promptTokenCount": 210_000,
                "cachedContentTokenCount": 20_000,
                "candidatesTokenCount": 900,
                "thoughtsTokenCount": 400,
                "totalTokenCount": 211_300,
            },
        ),
        (
            "deepseek",
            "chat",
            "deepseek-chat",
            {
                "prompt_tokens": 3000,
                "completion_tokens": 100,
                "total_tokens": 3100,
                "prompt_cache_hit_tokens": 2048,
                "prompt_cache_miss_tokens": 952,
                "prompt_tokens_details": {"cached_tokens": 2048},
            },
        ),
    ],
)
def test_a_provider_s_own_usage_costs_what_the_library_reads_from_it(
    default: Enricher, provider: str, flavor: str, model: str, usage: Mapping[str, Any]
) -> None:
    """Cached, written, reasoning and audio tokens are taken as that provider means them."""
    item = answered(provider, model, usage)
    root = "usageMetadata" if provider == "google" else "usage"
    name = "modelVersion" if provider == "google" else "model"
    extracted = SNAPSHOT.extract_usage({name: model, root: usage}, provider, api_flavor=flavor)
    theirs = extracted.calc_price(genai_request_timestamp=event(item).request_time)
    cost, told = filled(default, item)
    assert cost == float(theirs.total_price)
    assert told["model"] == theirs.model.id


PRICED = [
    (provider.id, model.id)
    for provider in providers
    if provider.id in ("anthropic", "deepseek", "google", "mistral", "openai", "x-ai")
    for model in provider.models
]


@given(
    model=st.sampled_from(PRICED),
    moment=st.integers(1_717_200_000, 1_796_000_000).map(partial(datetime.fromtimestamp, tz=UTC)),
    prompt=st.integers(0, 1_200_000),
    completion=st.integers(0, 100_000),
    data=st.data(),
)
def test_the_cost_is_the_library_s_to_the_last_digit(  # noqa: PLR0917 - Hypothesis names them
    default: Enricher,
    model: tuple[str, str],
    moment: datetime,
    prompt: int,
    completion: int,
    data: st.DataObject,
) -> None:
    """Whatever the model, the time of day, the tier and the counts."""
    provider, name = model
    cached = data.draw(st.integers(0, prompt))
    written = data.draw(st.integers(0, prompt - cached))
    kept_long = data.draw(st.integers(0, written))
    counts = {
        "input_tokens": prompt,
        "cache_read_tokens": cached,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": kept_long,
        "output_tokens": completion,
        "output_reasoning_tokens": data.draw(st.integers(0, completion)),
    }
    item = request(
        request_time=moment.isoformat(),
        provider=provider,
        provider_model=name,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=completion,
        reasoning_tokens=counts["output_reasoning_tokens"],
        usage_stats={
            "cache_creation_input_tokens": written,
            "cache_creation": {"ephemeral_1h_input_tokens": kept_long},
        },
    )
    cost, told = filled(default, item)
    try:
        theirs = SNAPSHOT.calc(Usage(**counts), name, provider, None, moment)
    except LookupError:  # some ids are not among what they match
        assert cost is None
        return
    if cost is None:  # priced by seconds, pages or letters: all of it is something else
        assert not theirs.total_price
    else:
        assert cost == float(theirs.total_price)
        assert told["price_date"] == moment.date().isoformat()


def test_the_price_is_that_of_the_request_s_own_time(default: Enricher) -> None:
    """Before and after a price was cut, and by the hour where nights are cheaper."""

    def cost(model: str, provider: str, when: str) -> float | None:
        item = request(
            request_time=when,
            provider=provider,
            model_name=model,
            prompt_tokens=1_000_000,
            completion_tokens=0,
        )
        return filled(default, item)[0]

    assert cost("o3", "openai", "2025-06-09T23:59:59Z") == 10
    assert cost("o3", "openai", "2025-06-10T00:00:00Z") == 2
    # The same moment, in another zone.
    assert cost("o3", "openai", "2025-06-10T01:59:59+02:00") == 10
    for when in ("2025-03-01T00:29:59Z", "2025-03-01T00:30:00Z", "2025-03-01T17:00:00Z"):
        theirs = calc_price(
            Usage(input_tokens=1_000_000),
            "deepseek-chat",
            provider_id="deepseek",
            genai_request_timestamp=datetime.fromisoformat(when),
        )
        assert cost("deepseek-chat", "deepseek", when) == float(theirs.total_price)


@pytest.mark.parametrize(
    ("names", "provider", "model", "how"),
    [
        ({"provider": "openai", "model_name": "gpt-4o"}, "openai", "gpt-4o", "provider and model"),
        # The model that answered goes before the one that was asked for.
        (
            {"provider": "azure", "model_name": "fast", "provider_model": "gpt-4o-2024-08-06"},
            "azure",
            "gpt-4o",
            "provider and model",
        ),
        ({"provider": "backend-7", "model_name": "claude-sonnet-4-0"}, "anthropic", None, "model"),
        ({"model_name": "mistral/mistral-large-latest"}, "mistral", None, "model"),
        ({"provider": "vertex_ai", "model_name": "gemini-2.5-pro"}, "google", None, None),
        ({"provider": "openai", "model_name": "openai/gpt-4o"}, "openai", "gpt-4o", None),
    ],
)
def test_who_provides_a_model_is_told_from_its_names(
    default: Enricher, names: dict[str, str], provider: str, model: str | None, how: str | None
) -> None:
    """By the provider that the proxy names; by the model alone, where that is nobody's name."""
    cost, told = filled(default, request(**names, prompt_tokens=10, completion_tokens=10))
    assert cost is not None
    assert told["provider"] == provider
    assert model is None or told["model"] == model
    assert how is None or told["method"] == how


@pytest.mark.parametrize(
    "fields",
    [
        {"model_name": "our-own-7b"},
        {"model_name": None},
        {"model_name": ""},
        {"model_name": "gpt-4o" * 100},
        {"provider": "openai", "model_name": "llama-3"},
        {"provider": "openai", "model_name": "acme/gpt-4o"},
        {"provider": "vllm-eu-1", "model_name": "gpt-oss-120b"},
        {"model_name": "ollama/deepseek-chat"},
        {"provider": "openai", "model_name": "whisper-1"},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": None},
        {"completion_tokens": None, "total_tokens": None},
        {"prompt_tokens": -1},
        {"cached_tokens": 11},
        {"cached_tokens": -1},
    ],
)
def test_what_is_not_known_stays_null(default: Enricher, fields: dict[str, Any]) -> None:
    """Unknown models, servers of one's own, counts that are missing or contradict each other."""
    known = {
        "provider": "openai" if "model_name" not in fields else None,
        "model_name": "gpt-4o",
        "prompt_tokens": 10,
        "completion_tokens": 10,
    }
    cost, told = filled(default, request(**{**known, **fields}))
    assert (cost, told) == (None, {})


def test_what_writes_nothing_costs_what_it_reads(default: Enricher) -> None:
    """An embedding has no completion tokens, and its total says so."""
    fields = {"provider": "openai", "model_name": "text-embedding-3-small"}
    item = request(**fields, prompt_tokens=1_000_000, total_tokens=1_000_000)
    assert filled(default, item)[0] == 0.02


@pytest.mark.parametrize(
    "fields",
    [
        {"response": {"choices": [{"text": '"service_tier": "flex"'}]}},
        {"response": {"metadata": {"service_tier": "flex"}}},
        {"response": {"service_tier": "default"}},
        {"response": {"service_tier": 5}},
        {"response": '{"service_tier": "flex"}'},
        {"usage_stats": {"speed": 7, "cache_creation_input_tokens": "many"}},
        {"usage_stats": "none"},
    ],
)
def test_nobody_gets_another_price_by_what_stands_in_an_answer(
    default: Enricher, fields: dict[str, Any]
) -> None:
    """A tier counts where the provider puts it, and a usage object that is none says nothing."""
    item = request(
        request_time=NOW,
        provider="openai",
        model_name="o3",
        prompt_tokens=1_000_000,
        completion_tokens=0,
        **fields,
    )
    assert filled(default, item)[0] == 2


def test_the_tier_of_a_stream_is_in_its_chunks(default: Enricher) -> None:
    """Chat's chunks name it, and the last event of the Responses API."""
    for chunks in (
        [{"choices": [], "service_tier": "flex"}, {"usage": {}, "service_tier": "flex"}],
        [{"type": "a"}, {"type": "response.completed", "response": {"service_tier": "flex"}}],
    ):
        item = request(
            request_time=NOW,
            provider="openai",
            model_name="o3",
            prompt_tokens=1_000_000,
            completion_tokens=0,
            stream_chunks=chunks,
        )
        cost, told = filled(default, item)
        assert (cost, told["service_tier"]) == (1, "flex")


# --- Footprint, by EcoLogits ---------------------------------------------------------------


def ecologits() -> SimpleNamespace:
    """Return the library. Not at the top: what it does to logging is not for the whole test run."""
    import_quietly()
    from ecologits.impacts import llm
    from ecologits.model_repository import models
    from ecologits.tracers import utils

    return SimpleNamespace(
        method=llm, models=models, config=utils.PROVIDER_CONFIG_MAP, impacts=utils.llm_impacts
    )


def footprint(by: Enricher, item: Item) -> tuple[list[float | None], dict[str, Any]]:
    """Return the four values, and what is told of them."""
    (found,) = by.enrich([item])
    told = orjson.loads(found.enriched) if found.enriched else {}
    values = event(found)
    return (
        [values.kwh_min, values.kwh_max, values.kgco2eq_min, values.kgco2eq_max],
        told.get("footprint", {}),
    )


@hypothesis.settings(max_examples=30)
@given(
    data=st.data(),
    tokens=st.integers(1, 200_000),
    ms=st.none() | st.floats(0, 3e6),
)
def test_the_footprint_is_the_library_s(
    default: Enricher, data: st.DataObject, tokens: int, ms: float | None
) -> None:
    """`llm_impacts` says the same, whatever the model, the tokens and the time they took."""
    library = ecologits()
    model = data.draw(st.sampled_from(library.models.list_models()))
    provider, name = model.provider.value, model.name
    item = request(provider=provider, provider_model=name, completion_tokens=tokens, duration_ms=ms)
    values, told = footprint(default, item)
    theirs = library.impacts(provider, name, tokens, math.inf if ms is None else ms / 1000)
    expected = []
    for value in (theirs.energy.value, theirs.gwp.value):
        expected += [getattr(value, "min", value), getattr(value, "max", value)]
    assert values == pytest.approx(expected, rel=1e-9)
    assert (told["by"], told["provider"], told["model"]) == ("ecologits", provider, name)


def test_the_documented_method_by_hand(default: Enricher) -> None:
    """Energy and carbon of 250 tokens in 3 s, by the formulas of EcoLogits' methodology."""
    library = ecologits()
    method = library.method
    model = next(one for one in library.models.list_models() if one.provider.value == "anthropic")
    values, told = footprint(
        default,
        request(
            provider="anthropic",
            model_name=model.name,
            completion_tokens=250,
            duration_ms=3000.0,
        ),
    )
    active: Any = getattr(model.architecture.parameters, "active", model.architecture.parameters)
    whole: Any = getattr(model.architecture.parameters, "total", model.architecture.parameters)
    pue: Any = library.config["anthropic"].datacenter_pue
    by_hand = []
    for bound in ("min", "max"):
        billions = getattr(active, bound, active)
        memory = 1.2 * getattr(whole, bound, whole) * 16 / 8
        gpus = 2 ** math.ceil(math.log2(math.ceil(memory / 80)))
        decay = math.exp(method.GPU_ENERGY_BETA * 64)
        of_token = (method.GPU_ENERGY_ALPHA * decay * billions + method.GPU_ENERGY_GAMMA) / 1000
        deployment = model.deployment
        if deployment is not None and deployment.tps is not None:
            latency = 250 / deployment.tps + (deployment.ttft or 0)
        else:
            slow = method.LATENCY_ALPHA * billions + method.LATENCY_BETA * 64
            latency = 250 * (slow + method.LATENCY_GAMMA)
        server = min(latency, 3.0) / 3600 * 1.2 * gpus / 8 / 64
        by_hand.append(getattr(pue, bound, pue) * (server + gpus * 250 * of_token))
    assert values[:2] == pytest.approx(by_hand, rel=1e-9)
    assert (told["method"], told["zone"]) == ("llm_impacts", "USA")


def test_the_zone_is_the_setting_s_or_else_the_provider_s() -> None:
    """The same energy, and the carbon of another country's electricity."""
    item = request(provider="openai", model_name="gpt-4o", completion_tokens=100)
    at_home, _ = footprint(enricher(), item)
    in_france, told = footprint(enricher(electricity_zone="fra"), item)
    assert in_france[:2] == at_home[:2]
    theirs = ecologits().impacts("openai", "gpt-4o", 100, math.inf, "FRA").gwp
    assert in_france[2:] == pytest.approx([theirs.value.min, theirs.value.max], rel=1e-9)
    assert told["zone"] == "FRA"
    for zone in ("XXX", "ZZZ"):
        with pytest.raises(UsageError, match=zone):
            Enricher.of(Settings(electricity_zone=zone))


@pytest.mark.parametrize("tokens", [None, 0, -5])
def test_without_written_tokens_there_is_no_footprint(
    default: Enricher, tokens: int | None
) -> None:
    """The method is one of written tokens."""
    item = request(provider="openai", model_name="gpt-4o", completion_tokens=tokens)
    assert footprint(default, item)[0] == [None] * 4


# --- What the proxy has sent ---------------------------------------------------------------


def test_what_the_proxy_sent_stays_as_it_is(default: Enricher) -> None:
    """A cost, also of 0, and a footprint, also in part, are nobody's but the proxy's."""
    known = {
        "provider": "openai",
        "model_name": "gpt-4o",
        "prompt_tokens": 10,
        "completion_tokens": 10,
    }
    whole = request(**known, cost=0.0, kgco2eq_max=1.0)
    assert default.enrich([whole])[0] is whole
    (priced,) = default.enrich([request(**known, cost=0.5)])
    assert event(priced).cost == 0.5
    assert list(orjson.loads(priced.enriched)) == ["footprint"]
    (measured,) = default.enrich([request(**known, kwh_min=1.0)])
    assert (event(measured).kwh_min, event(measured).kwh_max) == (1.0, None)
    assert list(orjson.loads(measured.enriched)) == ["cost"]


def test_the_item_that_came_in_is_not_changed(default: Enricher) -> None:
    """A batch that is read again, or spooled, is what the proxy has sent; errors pass through."""
    item = request(provider="openai", model_name="gpt-4o", prompt_tokens=1, completion_tokens=1)
    items = [error(item), item, request(model_name="nobody-knows")]
    found = default.enrich(items)
    assert found[1] is not item
    assert (event(item).cost, event(item).kwh_min, item.enriched) == (None, None, b"")
    assert (found[1].text, found[1].day) == (item.text, item.day)
    assert (found[0], found[2]) == (items[0], items[2])
    assert default.enrich([]) == []


# --- Own prices ----------------------------------------------------------------------------


PRICES: dict[str, dict[str, Any]] = {
    "gpt-4o": {"input": "3", "cached_input": "1", "output": "12", "reasoning": "24"},
    "eu/gpt-4o": {"input": 5},
    "gpt-4*": {"request": "0.01"},
    "house-*": {"input": 1, "cache_write": 2},
    "*": {"request": 1},
}


@pytest.mark.parametrize(
    ("fields", "expected", "entry"),
    [
        ({"model_name": "GPT-4o", "prompt_tokens": 10**6, "completion_tokens": 0}, 3, "gpt-4o"),
        (
            {
                "model_name": "gpt-4o",
                "prompt_tokens": 1000,
                "cached_tokens": 400,
                "completion_tokens": 100,
                "reasoning_tokens": 30,
            },
            (600 * 3 + 400 * 1 + 70 * 12 + 30 * 24) / 10**6,
            "gpt-4o",
        ),
        (
            {"provider": "eu", "model_name": "gpt-4o", "prompt_tokens": 10**6},
            5,
            "eu/gpt-4o",
        ),
        ({"model_name": "gpt-4.1"}, 0.01, "gpt-4*"),
        ({"model_name": "alias", "provider_model": "gpt-4-turbo"}, 0.01, "gpt-4*"),
        (
            {
                "model_name": "house-7b",
                "prompt_tokens": 100,
                "usage_stats": {"cache_creation_input_tokens": 40},
            },
            (60 * 1 + 40 * 2) / 10**6,
            "house-*",
        ),
        ({"model_name": "anything"}, 1, "*"),
        ({"model_name": "gpt-4o", "prompt_tokens": 5}, None, None),
        ({"model_name": "gpt-4o", "completion_tokens": 5}, None, None),
    ],
)
def test_own_prices_win(fields: dict[str, Any], expected: float | None, entry: str | None) -> None:
    """Exact names before patterns, patterns in their order; per million tokens and per request."""
    cost, told = filled(enricher(prices=PRICES), request(**fields))
    assert cost == expected
    if entry is not None:
        shown = {name: float(Decimal(value)) for name, value in PRICES[entry].items()}
        assert (told["by"], told["model"], told["prices"]) == ("prices", entry, shown)
        assert "currency" not in told


def test_models_that_own_prices_do_not_name_cost_what_they_do_elsewhere() -> None:
    """The table is looked at first, and is not all there is."""
    by = enricher(prices={"house-7b": {"input": 1}})
    _, told = filled(by, request(model_name="gpt-4o", prompt_tokens=1, completion_tokens=1))
    assert told["by"] == "genai-prices"


# --- What is installed, and what it does to the process ---------------------------------------


def test_nothing_is_filled_in_where_nothing_is_wanted_or_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Switched off, or without both libraries: None. A zone without EcoLogits is a mistake."""
    assert Enricher.of(settings(enrich=False, prices={"a": {"input": 1}})) is None
    monkeypatch.setattr("spoolway.worker.enrichment.enricher.find_spec", lambda _name: None)
    assert Enricher.of(Settings()) is None
    own = Enricher.of(settings(prices={"a": {"request": 1}}))
    assert own is not None
    assert filled(own, request(model_name="a"))[0] == 1
    assert own.fills == "prices"
    with pytest.raises(UsageError, match=r"spoolway\[footprint\]"):
        Enricher.of(Settings(electricity_zone="FRA"))


def test_the_libraries_leave_logging_as_it_was(
    default: Enricher, caplog: pytest.LogCaptureFixture
) -> None:
    """EcoLogits would make every later logger its own, and warn of each kind of model."""
    item = request(provider="openai", model_name="gpt-4", completion_tokens=5)
    with caplog.at_level(logging.DEBUG):
        _, told = footprint(default, item)
    assert told["warnings"] == ["model-arch-not-released", "model-arch-multimodal"]
    assert [one for one in caplog.records if one.name == "ecologits"] == []
    assert logging.getLoggerClass() is logging.Logger
