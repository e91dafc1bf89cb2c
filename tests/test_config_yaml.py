"""Configuration files: what survives them, what they may not do, and what is never repeated."""

from itertools import pairwise
from urllib.parse import quote, unquote

import orjson
import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from spoolway.worker.config import database_url
from spoolway.worker.config.addresses import postgresql_url
from spoolway.worker.config.variables import fill
from spoolway.worker.config.yaml_file import Entry
from tests.configured import Operator, operator

__all__ = ["operator"]

PASSWORDS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30
) | st.text("@:/?#%\"'$ {}[]&*!|>,`=+\\\n\t-~", min_size=1, max_size=12)


@given(PASSWORDS)
def test_every_password_survives_every_way_it_is_given(password: str) -> None:
    """A URL that encodes it, pieces, a variable in a piece, and a variable in a URL."""
    encoded = f"postgresql://me:{quote(password, safe='')}@db:5432/logs"
    assert database_url(encoded).password == password
    pieces = postgresql_url(host="db", port="5432", database="l", user=password, password=password)
    assert database_url(pieces).password == database_url(pieces).username == password

    variables = {"SECRET": password}
    assert fill("${SECRET}", variables) == password
    url = database_url(fill("postgresql://me:${SECRET}@db:5432/logs", variables))
    # What looks encoded is taken so in a URL, by the proxies too; all else is as it is.
    bare = "".join(f"%25{piece}" for piece in password.split("%"))[3:]
    as_url = unquote(password) if unquote(password) != password else unquote(bare)
    assert (url.password, url.host, url.database) == (as_url, "db", "logs")


@given(PASSWORDS)
def test_every_password_survives_yaml(password: str) -> None:
    """However YAML quotes it; with `$${` for what would be a variable."""
    escaped = {"password": password.replace("${", "$${")}
    # Outside of double quotes YAML folds line breaks, of which Unicode has more than one.
    for style in ('"', None) if password.isascii() and password.isprintable() else ('"',):
        text = pyyaml.safe_dump(escaped, default_style=style)
        root = Entry("config.yaml", "", 1, {}, pyyaml.compose(text, Loader=pyyaml.CSafeLoader))
        assert root.entries()["password"].text() == password


@pytest.mark.parametrize("password", ["p@ss:w/o?rd#1%", "100%", "a?b@c", "x y", "@", "%zz", "a+b"])
def test_password_that_nobody_encoded_survives_a_url(operator: Operator, password: str) -> None:
    """From a URL that is typed as it comes, as long as it has only one reading."""
    for text in (f"postgresql://me:{password}@db:5432/logs?sslmode=disable",):
        url = operator.gives({"DATABASE_URL": text}).settings.database
        assert (url.username, url.password) == ("me", password)
        assert (url.host, url.port, url.database) == ("db", 5432, "logs")


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("0123", "0123"),
        ("1e5", "1e5"),
        ("yes", "yes"),
        ("2026-01-01", "2026-01-01"),
        ("'null'", "null"),
        ('"a\\nb"', "a\nb"),
        ("|-\n        a\n        b", "a\nb"),
        ("pa$$word", "pa$$word"),
        ("pa$word", "pa$word"),
        ("'$${A}'", "${A}"),
        ("${A}${B:-x}", "1x"),
        ("${EMPTY:-x}", "x"),
        ("null", None),
        ("", None),
    ],
)
def test_scalars_stay_the_text_they_are(operator: Operator, scalar: str, value: str | None) -> None:
    """Nothing becomes a number, a date or a truth on the way to a password."""
    file = f"""
database:
  backend: postgres
  connection:
    postgres:
      password: {scalar}
"""
    found = operator.gives({"A": "1", "EMPTY": ""}, yaml=file)
    assert found.settings.database.password == value


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("${NOT_SET}", ["the variable NOT_SET, which is not set", "${NOT_SET:-default}"]),
        ("s3cret${", ["$${"]),
        ("${1s3cret}", ["$${"]),
        ("${A:-${B}}", ["default of A"]),
    ],
)
def test_reference_that_leads_nowhere_names_file_key_and_variable(
    operator: Operator, reference: str, names: list[str]
) -> None:
    """And says what to write instead."""
    said = operator.is_refused(yaml=f"database:\n  url: '{reference}'\n")
    for name in ["database.url in config.yaml, line 2", *names]:
        assert name in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("database: [s3cret", ["config.yaml, line 2, is no valid YAML"]),
        ("database:\n  url: *s3cret\n", ["config.yaml, line 2", "quotes"]),
        ("database:\n  url: %s3cret\n", ["config.yaml, line 2"]),
        ("a: 1\n---\nb: 2\n", ["config.yaml", "single document"]),
        ("- s3cret\n", ["config.yaml is no mapping"]),
        ("database: s3cret\n", ["database in config.yaml, line 1 is no mapping"]),
        ("database:\n  pool_size: 1\n  pool_size: 2\n", ["pool_size", "line 3", "line 2"]),
        ("database: {pool_size: 1, pool_size: 2}\n", ["database.pool_size", "already"]),
        ("database:\n  url: !s3cret x\n", ["database.url", "tag"]),
        ("database:\n  url: [a, b]\n", ["database.url", "single value"]),
        ("a: " + "[" * 100_000, ["config.yaml, line 1", "nested"]),
        ("x: " + "y" * (1 << 20), ["config.yaml", "1,048,576 bytes"]),
        (
            "a: &a [x, x, x, x, x, x, x, x]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in pairwise("abcd"))
            + "dependencies: {postgres: {execution_options: {x: *d, y: *d, z: *d}}}\n",
            ["execution_options", "more than can be meant"],
        ),
        ("database: &d {<<: *d}\n", ["database", "more than can be meant"]),
        (
            "m0: &m0 {}\n"
            + "".join(
                f"m{i + 1}: &m{i + 1} {{<<: [{', '.join([f'*m{i}'] * 9)}]}}\n" for i in range(30)
            )
            + "database: {<<: *m30}\n",
            ["database", "more than can be meant"],
        ),
        (
            "dependencies: {postgres: {execution_options: &a {b: *a}}}\n",
            ["execution_options", "more than can be meant"],
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_file_that_cannot_be_meant_is_refused_in_one_line(
    operator: Operator, text: str, names: list[str]
) -> None:
    """It says where, in bounded time and memory, and never what stands there."""
    said = operator.is_refused(yaml=text)
    assert [name for name in names if name not in said] == [], said


def test_objects_are_never_made_of_a_file(operator: Operator) -> None:
    """A tag that would run code in another loader is none here, wherever it stands."""
    hostile = "!!python/object/apply:os.mkdir [made]"
    operator.gives(yaml=f"elsewhere: {hostile}\n")
    operator.is_refused(yaml=f"database: {{url: {hostile}}}\n")
    assert not (operator.folder / "made").exists()


def test_merged_keys_are_keys(operator: Operator) -> None:
    """`<<` and aliases, as every YAML file may have them; a key of its own goes before."""
    found = operator.gives(
        yaml="""
common: &common {pool_size: 8, max_overflow: 4}
other: &other {pool_size: 9, echo: true}
database:
  <<: [*common, *other]
  max_overflow: 5
"""
    )
    assert found.settings.database_pool_size == 8
    assert found.settings.database_max_overflow == 5


def test_file_that_is_not_there_is_named(operator: Operator) -> None:
    """With who names it."""
    said = operator.is_refused({"SPOOLWAY_CONFIG": "nowhere.yaml"})
    assert "nowhere.yaml" in said
    assert "SPOOLWAY_CONFIG" in said
    assert "Is a directory" in operator.is_refused(config=".")


def test_config_flag_goes_before_the_variable_and_dotenv_may_name_the_file(
    operator: Operator,
) -> None:
    """--config > SPOOLWAY_CONFIG > SPOOLWAY_CONFIG in .env."""
    for number in (1, 2, 3):
        (operator.folder / f"{number}.yaml").write_text(f"spoolway: {{batch_events: {number}}}")
    dotenv = "SPOOLWAY_CONFIG=3.yaml\n"
    assert operator.gives(dotenv=dotenv).settings.batch_events == 3
    env = {"SPOOLWAY_CONFIG": "2.yaml"}
    assert operator.gives(env).settings.batch_events == 2
    assert operator.gives(env, config="1.yaml").settings.batch_events == 1


def test_dotenv_is_read_as_every_tool_does(operator: Operator) -> None:
    """Quotes, comments and export; `${VAR}` from it and from the environment; others are ignored."""
    found = operator.gives(
        {"HOST": "db"},
        dotenv="""
# who we are
PASSWORD='p@ss w"ord$x'
export DATABASE_URL="postgresql://me:${PASSWORD}@${HOST}/logs"  # there
UNRELATED=${NOT_SET}
EMPTY=
DATABASE_POOL_SIZE=
""",
        yaml="spoolway: {group: '${PASSWORD}'}",
    )
    assert found.settings.database.password == 'p@ss w"ord$x'
    assert found.settings.database.host == "db"
    assert found.settings.database_pool_size == 5
    assert found.settings.group == 'p@ss w"ord$x'
    said = operator.is_refused(dotenv="DATABASE_URL=${NOT_SET}\n")
    assert said.startswith("DATABASE_URL in .env, needs the variable NOT_SET")


def test_environment_is_taken_as_it_is(operator: Operator) -> None:
    """A shell has put its variables in already: `${…}` there is what it is."""
    assert operator.gives({"SPOOLWAY_GROUP": "${HOME}"}).settings.group == "${HOME}"


def test_settings_say_no_secret_of_themselves(operator: Operator) -> None:
    """Neither repr nor an error that has the settings in it."""
    found = operator.gives(
        {
            "DATABASE_URL": "postgresql://me:s3cret@db/logs?sslpassword=s3cret",
            "REDIS_URL": "redis://:s3cret@cache",
            "SPOOLWAY_JOBS_REDIS_URL": "redis://:s3cret@cache",
        },
        yaml="dependencies: {postgres: {connect_args: {password: s3cret}}}",
    )
    assert "s3cret" not in repr((found, found.settings))
    assert orjson.dumps(found.sources)
