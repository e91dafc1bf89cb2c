"""A worker's HTTP side for tests: where it is, what it answers, its metrics as numbers."""

import http.client
from collections.abc import Iterator
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import eventually
from tests.workers import WorkerProcess

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Scraped:
    """What one answer of /metrics says."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: Samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, /, **labels: str) -> float:
        """Return the value of a series; fails if there is none."""
        return self.samples[name, tuple(sorted(labels.items()))]

    def total(self, name: str) -> float:
        """Return the sum of all series of a name."""
        return sum(value for (each, _), value in self.samples.items() if each == name)

    def names(self) -> Iterator[str]:
        """Yield the metrics' names as they are declared: a counter's with _total."""
        for family in self.families.values():
            yield family.name + ("_total" if family.type == "counter" else "")


def address_of(worker: WorkerProcess) -> str:
    """Wait for a worker to say where it listens, and return host:port."""
    status = eventually(worker.status, timeout=30, what="the worker's status file") or {}
    address = status["http"]
    assert isinstance(address, str)
    return address


def ask(address: str, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask as a probe does; return the status and the body."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ask_json(address: str, path: str) -> tuple[int, Any]:
    """Ask for a JSON answer."""
    status, body = ask(address, path)
    return status, orjson.loads(body)


def scrape(worker: WorkerProcess) -> Scraped:
    """Return the worker's metrics as they are now."""
    status, body = ask(address_of(worker), "/metrics")
    assert status == 200
    return Scraped(body.decode())
