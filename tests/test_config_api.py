"""The settings of the API: tokens and whom they see, the database that is only read."""

import pytest

from spoolway.worker.config.api_tokens import LONGEST_NAME, MOST_NAMED
from spoolway.worker.config.masked import masked
from spoolway.worker.masking import secrets_of
from spoolway.worker.reading.filters import MOST_CHARACTERS, MOST_VALUES
from tests.configured import Operator, operator

__all__ = ["operator"]

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def test_tokens_are_read_from_the_file(operator: Operator) -> None:
    """Each has a name, a token or its digest, and whom it sees; ${VAR} is put in."""
    settings = operator.gives(
        {"OPS": "s3cret-of-operators"},
        yaml=f"""
spoolway:
  api_tokens:
    - {{name: ops, token: "${{OPS}}"}}
    - name: alice@example.org
      sha256: {DIGEST.upper()}
      users: [alice, "0123"]
      organizations: [acme]
""",
    ).settings
    ops, alice = settings.api_tokens
    assert (ops.name, ops.token, ops.users, ops.organizations) == (
        *("ops", "s3cret-of-operators"),
        *((), ()),
    )
    assert (alice.sha256, alice.users, alice.organizations) == (
        DIGEST,
        ("alice", "0123"),
        ("acme",),
    )
    shown = str(masked(settings, "api_tokens")) + repr(settings)
    assert "alice@example.org" in shown
    assert "s3cret" not in shown
    assert DIGEST not in shown
    assert "s3cret-of-operators" in secrets_of(settings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("7", "is no list"),
        ("{name: x}", "is no list"),
        ("[x]", "token 1 is no mapping"),
        ("[{token: s3cret-s3cret-s3cret}]", "token 1 needs a name"),
        ("[{name: '-', token: s3cret-s3cret-s3cret}]", "token 1 needs a name"),
        ("[{name: x}]", "token 1 (x) needs either token or sha256"),
        (f"[{{name: x, token: s3cret-s3cret-s3cret, sha256: {DIGEST}}}]", "needs either"),
        ("[{name: x, token: s3cret}]", "16 to 512"),
        ("[{name: x, token: 's3cret s3cret s3cret'}]", "without spaces"),
        ("[{name: x, sha256: s3cret}]", "64 hexadecimal digits"),
        ("[{name: x, token: s3cret-s3cret-s3cret, user: [a]}]", "did you mean users?"),
        ("[{name: x, token: s3cret-s3cret-s3cret, users: []}]", "without it, all are seen"),
        ("[{name: x, token: s3cret-s3cret-s3cret, users: }]", "without it, all are seen"),
        ("[{name: x, token: s3cret-s3cret-s3cret, users: alice}]", "users is a list"),
        ("[{name: x, token: s3cret-s3cret-s3cret, users: ['']}]", "one that is empty"),
        (f"[{{name: x, token: s3cret-s3cret-s3cret, users: {['a'] * 101}}}]", "at most 100"),
        (f"[{{name: x, token: s3cret-s3cret-s3cret, users: [{'a' * 1001}]}}]", "over 1000"),
        (
            "[{name: x, token: s3cret-s3cret-s3cret}, {name: x, token: s3cret-s3cret-s3cret2}]",
            "the same name twice",
        ),
    ],
)
def test_a_token_that_cannot_be_meant_is_refused(operator: Operator, given: str, said: str) -> None:
    """One that sees more than was meant above all; the message has no token in it."""
    assert said in operator.is_refused(yaml=f"spoolway: {{api_tokens: {given}}}")


def test_a_token_in_the_environment_can_be_sent_and_is_long(operator: Operator) -> None:
    """As in the file; it is masked wherever settings are shown."""
    assert "SPOOLWAY_API_TOKEN" in operator.is_refused({"SPOOLWAY_API_TOKEN": "s3cret"})
    settings = operator.gives({"SPOOLWAY_API_TOKEN": "s3cret-s3cret-s3cret"}).settings
    assert masked(settings, "api_token") == "***"
    assert "s3cret" not in repr(settings)


def test_the_database_that_is_read_may_be_another(operator: Operator) -> None:
    """SPOOLWAY_READ_DATABASE_URL takes what DATABASE_URL takes, and is as secret."""
    settings = operator.gives(
        {
            "DATABASE_URL": "postgresql://w:s3cret-one@a/logs",
            "SPOOLWAY_READ_DATABASE_URL": "postgres://r:s3cret-two@b/logs?statement_cache_size=9",
        },
        yaml="database: {connection: {}, backend: postgres}\n",
    ).settings
    assert settings.database.host == "a"
    assert (settings.read_database.host, settings.read_database.username) == ("b", "r")
    assert settings.read_engine["connect_args"]["statement_cache_size"] == 9
    shown = masked(settings, "read_database_url")
    assert shown.startswith("postgresql://r:***@b/logs")
    assert {"s3cret-one", "s3cret-two"} <= secrets_of(settings)
    said = operator.is_refused({"SPOOLWAY_READ_DATABASE_URL": "mysql://u:s3cret@h/x"})
    assert said.startswith("SPOOLWAY_READ_DATABASE_URL has scheme 'mysql'")
    assert operator.gives().settings.read_database == operator.gives().settings.database


def test_a_token_may_name_as_many_as_a_question_may() -> None:
    """Else every question of a token that was taken would be refused."""
    assert (MOST_NAMED, LONGEST_NAME) == (MOST_VALUES, MOST_CHARACTERS)
