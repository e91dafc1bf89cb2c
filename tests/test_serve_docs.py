"""docs/serving.md: its examples are asked, its file is read, its grants are enough and no more."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from spoolway.worker.serve.endpoints import ENDPOINTS
from tests.configured import Operator, operator
from tests.serving_api import serving, settings_for
from tests.stores import Database, error, request

__all__ = ["operator"]

pytest_plugins = ["tests.store_fixtures"]

PAGE = (Path(__file__).parent.parent / "docs" / "serving.md").read_text()
LOGGED = "01994d2e-7b7c-7d5e-9b1f-0a1b2c3d4e5f"


def commands() -> list[list[str]]:
    """The page's curl commands."""
    return [shlex.split(line) for line in re.findall(r"^curl .*$", PAGE, re.MULTILINE)]


async def test_every_example_is_answered(sqlite_logs: Database, tmp_path: Path) -> None:
    """Each curl command of the page asks what there is; each endpoint has one, and a heading."""
    async with sqlite_logs.opened() as store:
        await store.write([request(), error()])
    asked = set()
    async with serving(settings_for(sqlite_logs, tmp_path)) as client:
        for command in commands():
            [url] = [word for word in command if word.startswith("http://127.0.0.1:9465/")]
            headers = dict([command[2].split(": ")]) if command[1] == "-H" else {}
            parts = urlsplit(url)
            answer = await client.get(f"{parts.path}?{parts.query}".rstrip("?"), headers=headers)
            expected = 404 if parts.path.endswith(LOGGED) else 200
            assert answer.status_code == expected, (command, answer.text)
            asked.add(parts.path.replace(LOGGED, "{id}"))
    paths = {endpoint.path for endpoint in ENDPOINTS} | {"/healthz"}
    assert asked == paths
    for path in paths:
        assert f"`GET {path}`" in PAGE


def test_example_of_tokens_is_one(operator: Operator) -> None:
    """The file on the page is read as the page says."""
    example = PAGE.split("<!-- example of tokens:")[1].split("```yaml\n")[1].split("```")[0]
    given = {"OPERATORS_TOKEN": "0123456789abcdef", "ALICE_TOKEN": "fedcba9876543210"}
    operators, acme, alice = operator.gives(given, yaml=example).settings.api_tokens
    assert (operators.users, operators.organizations) == ((), ())
    assert acme.organizations == ("acme",)
    assert (alice.users, alice.organizations) == (("alice",), ("acme",))


async def test_the_documented_grants_are_enough_and_no_more(
    newest_logs: Database, tmp_path: Path
) -> None:
    """A user with these alone is shown everything, and can write nothing."""
    grants = PAGE.split("<!-- tests/test_serve_docs.py runs these -->")[1]
    grants = grants.split("```sql\n")[1].split("```")[0]
    role = f"spoolway_reader_{newest_logs.url.database}"
    item = request(user_id="a")
    async with newest_logs.opened() as store:
        await store.write([item, error(item)])
    await newest_logs.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        for grant in grants.replace("spoolway_reader", role).split(";")[:-1]:
            await newest_logs.sql(grant)
        url = make_url(newest_logs.url).set(username=role, password="x")
        settings = settings_for(
            "postgresql://nobody@127.0.0.1:1/none",
            tmp_path,
            read_database_url=url.render_as_string(hide_password=False),
        )
        async with serving(settings) as client:
            for path in (
                *("/api/usage", "/api/usage/by", "/api/filters", "/v1/usage", "/api/logs"),
                *(f"/api/logs/{item.event.id}", "/api/errors", "/api/tail", "/api/tail?errors=1"),
                *("/api/logs?format=ndjson&whole=1", "/api/errors?format=csv"),
            ):
                answer = await client.get(path)
                assert answer.status_code == 200, (path, answer.text)
            found = (await client.get("/api/usage")).json()["historical"]
            assert found["total_stats"]["total_requests"] == 1
            assert (await client.get("/api/status")).json()["database"] == "available"
        reader = Database(url, newest_logs.server)
        for statement in (
            "DELETE FROM request_logs",
            "INSERT INTO usage_pending (kind, facts) VALUES ('x', '[]')",
            "CREATE TABLE mine (x int)",
        ):
            with pytest.raises(Exception, match="permission denied"):
                await reader.sql(statement)
    finally:
        await newest_logs.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
