"""The OpenAPI document and what is answered: generated questions of all kinds, over real databases.

What a generated question may be answered is in the document: 200 with this schema, or 4xx; never 5xx.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from spoolway.worker.serve.endpoints import ENDPOINTS
from spoolway.worker.serve.openapi import document_of
from tests.servers import PostgresServer
from tests.serving_api import ALL, serving_in_thread, settings_for
from tests.stores import Database, Templates
from tests.usage_traffic import traffic, write_all

pytest_plugins = ["tests.store_fixtures"]

_EXAMPLES: Final = settings(deadline=None, suppress_health_check=list(HealthCheck))
_CONFIG: Final = schemathesis.Config.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 414]}}}
)
# A time that is well-formed may still be no day, or after the end: the schema cannot say it.
_BESIDE: Final = [positive_data_acceptance]


@contextmanager
def described(database: Database, folder: Path) -> Iterator[Any]:
    """Serve a database with traffic in it; yields the document's operations."""

    async def fill() -> None:
        async with database.opened() as store:
            await write_all(store, traffic(random.Random(7), 300, end=datetime.now(UTC)))

    asyncio.run(fill())
    given = settings_for(database, folder, api_token=ALL, api_rate=0)
    with serving_in_thread(given) as url:
        headers = {"authorization": f"Bearer {ALL}"}
        yield schemathesis.openapi.from_url(f"{url}openapi.json", headers=headers, config=_CONFIG)


@pytest.fixture(scope="module")
def sqlite_api(templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The API of an SQLite database."""
    folder = tmp_path_factory.mktemp("api")
    with templates.sqlite(folder) as database, described(database, folder) as schema:
        yield schema


@pytest.fixture(scope="module")
def postgres_api(
    templates: Templates, newest_postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The API of a PostgreSQL database."""
    folder = tmp_path_factory.mktemp("api")
    with templates.postgres(newest_postgres) as database, described(database, folder) as schema:
        yield schema


def ask_all(schema: Any, examples: int) -> None:
    """Ask every path so many valid and so many invalid questions, and hold the answers against it."""
    # Not by its pytest plugin, which reaches into pytest and lags behind it.
    asked = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not operation.query:
                continue

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(_EXAMPLES, max_examples=examples)
            def ask(case: Any) -> None:
                case.call_and_validate(
                    headers={"authorization": f"Bearer {ALL}"}, excluded_checks=_BESIDE, timeout=30
                )

            ask()
        asked.add(operation.path)
    of_others = {endpoint.path for endpoint in ENDPOINTS} - {"/openapi.json"}
    assert asked >= of_others, "what it was read from is not asked again"


def test_every_answer_is_in_the_document(sqlite_api: Any) -> None:
    """Valid and invalid questions to every path: status, type and schema are as described."""
    ask_all(sqlite_api, 3)


@pytest.mark.chaos
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("api", ["sqlite_api", "postgres_api"])
def test_many_answers_are_in_the_document(api: str, request: pytest.FixtureRequest) -> None:
    """The same with a hundred questions of each kind, on both databases."""
    ask_all(request.getfixturevalue(api), 100)


def test_the_document_has_every_endpoint_and_parameter() -> None:
    """Each is described in words, has a name of its own, and answers what nobody may miss."""
    document = document_of(ENDPOINTS)
    operations = {path: item["get"] for path, item in document["paths"].items()}
    assert operations.keys() == {endpoint.path for endpoint in ENDPOINTS}
    assert len({each["operationId"] for each in operations.values()}) == len(operations)
    for path, operation in operations.items():
        assert operation["summary"]
        assert {"200", "400", "401", "429"} <= operation["responses"].keys(), path
        for parameter in operation["parameters"]:
            assert parameter["description"], (path, parameter["name"])
