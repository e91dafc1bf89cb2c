"""Own prices and the zone, as an operator gives them: what is taken, and what is said to mistakes."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from spoolway.schema import RequestEvent
from spoolway.worker.enrichment import Enricher
from tests.commands import run
from tests.configured import Operator
from tests.stores import request

COST = (Path(__file__).parents[1] / "docs" / "cost.md").read_text()


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Somebody in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    return Operator(tmp_path)


def test_the_documented_example_is_what_it_says(operator: Operator) -> None:
    """The file of docs/cost.md, and what a request costs with it."""
    [example] = re.findall(r"<!-- example: \S+ reads it -->\n```yaml\n(.*?)```", COST, re.DOTALL)
    settings = operator.gives(yaml=example).settings
    assert settings.prices["azure-eu/gpt-4o"].cached_input == Decimal("1.15")
    enricher = Enricher.of(settings)
    assert enricher is not None
    (found,) = enricher.enrich(
        [
            request(
                model_name="Mistral-Large",
                prompt_tokens=1_000_000,
                completion_tokens=1_000_000,
                reasoning_tokens=500_000,
                kwh_min=0.0,
            )
        ]
    )
    assert isinstance(found.event, RequestEvent)
    assert found.event.cost == pytest.approx(0.4 + 1 + 1.5 + 0.001)


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("[]", "is no mapping"),
        ("cheap", "is no mapping"),
        ("{gpt-4o: }", "gpt-4o has no prices"),
        ("{gpt-4o: 3}", "gpt-4o has no prices"),
        ("{gpt-4o: {inptu: 3}}", "gpt-4o has an unknown key inptu (did you mean input?)"),
        ("{gpt-4o: {input: much}}", "gpt-4o: input is no price: give a number of 0 or more"),
        ("{gpt-4o: {input: -1}}", "gpt-4o: input is no price"),
        ("{gpt-4o: {output: .nan}}", "gpt-4o: output is no price"),
        ("{gpt-4o: {output: 1e99}}", "gpt-4o: output is no price"),
        ("{gpt-4o: {output: 1e-99}}", "gpt-4o: output is no price"),
        ("{gpt-4o: {request: [1]}}", "gpt-4o: request is no price"),
        ("{gpt-4o: {input: $3}}", "per a million tokens, without a currency"),
        (f"{{{'a' * 201}: {{input: 3}}}}", "longer than 200"),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused(
    operator: Operator, prices: str, said: str
) -> None:
    """One line names the file, the line, the model and the key."""
    line = operator.is_refused(yaml=f"spoolway:\n  prices: {prices}\n")
    assert said in line
    assert line.startswith("spoolway.prices in config.yaml, line 2")


def test_a_zone_is_three_letters(operator: Operator) -> None:
    """In any case; whether EcoLogits knows it is asked when it is used."""
    assert operator.gives({"SPOOLWAY_ELECTRICITY_ZONE": "fra"}).settings.electricity_zone == "FRA"
    for zone in ("France", "F1A", "FR"):
        assert "is no country" in operator.is_refused({"SPOOLWAY_ELECTRICITY_ZONE": zone})


def test_prices_are_shown_with_the_other_settings(operator: Operator) -> None:
    """`config show` prints each of them, as it was given."""
    file = operator.folder / "config.yaml"
    file.write_text("spoolway: {prices: {gpt-4o: {input: 2.5, output: 10}}}")
    shown = run("config", "show", "--changed", "--config", str(file))
    assert shown.code == 0
    assert re.search(r"prices\.gpt-4o\.input +2\.5 ", shown.out)
