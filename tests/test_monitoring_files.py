"""deploy/prometheus, deploy/grafana and docs/monitoring.md: they are about the metrics there are."""

import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel
from prometheus_client import CollectorRegistry, generate_latest

from spoolway.producer import Producer
from spoolway.worker.http.families import FAMILIES
from tests.scraped import address_of
from tests.servers import ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.workers import WorkerProcess, drained, ending, push, request_line

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "spoolway.json").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PAGE = (ROOT / "docs" / "monitoring.md").read_text()

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)


def promtool(*arguments: str | Path, stdin: str | None = None) -> str:
    """Run promtool, assert that it finds nothing wrong, and return what it says."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        input=stdin,
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def queries() -> list[str]:
    """Every expression of the dashboard, with Grafana's variables as it would put them in."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [one.replace("$__rate_interval", "5m").replace("$__range", "1h") for one in found]


def metrics_in(expression: str) -> Iterator[str]:
    """Names of metrics in an expression, a histogram's without its suffix."""
    for name in re.findall(r"(?<!:)\b(?:spoolway|process)_\w+", expression):
        yield re.sub(r"_(bucket|sum|count)$", "", name)


def anchors(page: str) -> set[str]:
    """What one can link to in a page of Markdown."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the first table under a heading of the page, by their first cell."""
    lines = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows}


def test_every_metric_that_is_asked_for_is_one_that_workers_have() -> None:
    """Rules and dashboard use no name that the registry does not know, and no label it has not."""
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    expressions = [*queries(), *(rule["expr"] for rule in RULES)]
    used = {name for expression in expressions for name in metrics_in(expression)}
    assert used - FAMILIES.keys() == set()
    assert {n for e in expressions for n in re.findall(r"\bspoolway:[\w:]+", e)} - recorded == set()
    assert FAMILIES.keys() - used <= {
        "spoolway_build_info",  # for joins, and the dashboard's variables
        "spoolway_last_commit_timestamp_seconds",
        "spoolway_spool_segments",
        "spoolway_database_free_bytes",
    }, "what nobody looks at need not be there"
    labels = {"job", "instance", "le", "alertname", "severity"}
    labels |= {label for family in FAMILIES.values() for label in family.labels}
    for expression in expressions:
        for group in re.findall(r"(?:by|on|without|ignoring) \(([\w, ]+)\)", expression):
            assert set(group.split(", ")) <= labels, expression
        for inside in re.findall(r"\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", inside)) <= labels, expression


def test_the_page_has_every_metric_and_every_alert() -> None:
    """docs/monitoring.md lists them with type, labels and help; each alert leads to a runbook."""
    declared = {
        family.name: [
            family.type,
            ", ".join(f"`{label}`" for label in family.labels),
            family.help,
        ]
        for family in FAMILIES.values()
    }
    assert table("Metrics") == declared
    alerts = {rule["alert"]: rule for rule in RULES if "alert" in rule}
    assert {name: row[0] for name, row in table("Alerts").items()} == {
        name: rule["labels"]["severity"] for name, rule in alerts.items()
    }
    for name, rule in alerts.items():
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor in anchors((ROOT / file).read_text()), name
        assert rule["annotations"]["summary"]


def test_names_are_as_prometheus_wants_them() -> None:
    """Base units, _total for counters alone, and no label that an event could fill."""
    for family in FAMILIES.values():
        assert family.name.endswith("_total") == (family.type == "counter"), family.name
        assert not re.search(r"_(ms|kb|mb|minutes|hours|percent)(_|$)", family.name)
        assert len(family.help.split()) >= 3
        assert set(family.labels) <= {
            *("result", "reason", "state", "of", "source", "stream", "table"),
            *("version", "python", "database", "consumer"),
        }


def test_the_pages_collector_for_a_proxy_shows_what_the_producer_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The example runs as it stands, and its alert's series is there before anything is dropped."""
    code = PAGE.split("```python\n")[1].split("```")[0]
    registry = CollectorRegistry()
    monkeypatch.setattr("prometheus_client.REGISTRY", registry)
    producer = Producer("redis://127.0.0.1:1/0")
    try:
        exec(code, {"producer": producer})  # noqa: S102 - the documentation's own example
        producer.emit({"type": "request", "outcome": "no such thing"})
        text = generate_latest(registry).decode()
    finally:
        producer.close(0)
    assert 'spoolway_producer_events_total{result="dropped"} 0.0' in text
    assert "spoolway_producer_buffered_bytes" in text


@needs_promtool
def test_rules_are_what_promtool_takes_and_alert_when_they_should(tmp_path: Path) -> None:
    """Configuration, rules, their unit tests, and every expression of the dashboard."""
    promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
    tested = (PROMETHEUS / "alerts_test.yml").read_text()
    for rule in RULES:
        if "alert" in rule:
            assert rule["alert"] in tested, "every alert is seen to fire"
    panels = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    assert f"{len(panels)} rules found" in promtool("check", "rules", file)


def test_the_dashboard_is_one_that_grafana_understands() -> None:
    """Nothing is lost when it is read into Grafana's own types and written again."""
    register_default_plugins()
    read = Dashboard.from_json(DASHBOARD)
    written = json.loads(JSONEncoder(sort_keys=True).encode(read))
    assert _missing(DASHBOARD, written) == []
    assert len([panel for panel in read.panels or [] if isinstance(panel, Panel)]) > 20


def _missing(given: Any, got: Any, where: str = "") -> list[str]:
    """Paths of values that were given and did not come back. Absent, null and empty are the same."""
    if isinstance(given, dict):
        got = got if isinstance(got, dict) else {}
        return [
            lost for key in given for lost in _missing(given[key], got.get(key), f"{where}.{key}")
        ]
    if isinstance(given, list):
        got = got if isinstance(got, list) and len(got) == len(given) else [None] * len(given)
        return [
            lost
            for index, (one, other) in enumerate(zip(given, got, strict=True))
            for lost in _missing(one, other, f"{where}[{index}]")
        ]
    return [] if given == got or not given else [f"{where}: {given!r} became {got!r}"]


def test_the_dashboards_panels_stand_side_by_side() -> None:
    """Ids are unique, no two panels overlap, and the data source is the one that is chosen."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert "$job" in target["expr"]
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/spoolway.yml").read_text())
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    assert provider["providers"][0]["type"] == "file"
    assert source["datasources"][0]["type"] == "prometheus"


@pytest.mark.chaos  # its discovery looks every five seconds
def test_a_real_prometheus_scrapes_a_worker_and_loads_the_rules(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    """With the repository's configuration: the target is up, rules are healthy, sums hold."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus (Debian: prometheus) is not installed")
    worker = WorkerProcess(
        f"sqlite:///{tmp_path / 'logs.db'}", valkey.url, tmp_path / "var", SPOOLWAY_HTTP_PORT="0"
    )
    with ending(worker):
        worker.started()
        push(valkey, [request_line() for _ in range(300)])
        drained(valkey, worker)
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms"}
        [job] = config["scrape_configs"]
        assert job.pop("dns_sd_configs")
        job |= {"static_configs": [{"targets": [address_of(worker)]}], "scrape_timeout": "250ms"}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(PROMETHEUS / "alerts.yml", tmp_path)
        port = ReservedPort().number
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def asked(path: str) -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", f"/api/v1/{path}")
                return json.loads(connection.getresponse().read())["data"]
            except (OSError, ValueError, KeyError):
                return None  # it starts
            finally:
                connection.close()

        def value(query: str) -> float | None:
            found = asked(f"query?query={quote(query)}")
            return float(found["result"][0]["value"][1]) if found and found["result"] else None

        try:
            eventually(lambda: value("spoolway:accepted_events:sum") == 300, timeout=30)
            assert value("spoolway:unaccounted_events") == 0
            assert value('up{job="spoolway"}') == 1
            rules = [rule for group in asked("rules")["groups"] for rule in group["rules"]]
            assert len(rules) == len(RULES)
            assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
            [target] = asked("targets")["activeTargets"]
            assert target["lastError"] == ""
        finally:
            server.kill()
            server.wait()
