"""Configuration: every name that the four systems use, and what becomes of it."""

from typing import Any

import pytest

from spoolway.worker.config.durations import seconds
from tests.configured import Operator, operator

__all__ = ["operator"]

YALLM = """
model_list:
  - model_name: local
    model_params: {api_key: "${NOT_SET_AND_NOT_OURS}"}
database:
  backend: postgres
  connection:
    sqlite:
      path: logs/yaLLM.db
    postgres:
      host: db.example
      port: 5433
      database: yallm_proxy
      user: ${DB_USER}
      password: ${DB_PASSWORD}
  pool_size: 6
  max_overflow: 12
"""
OPENGATELLM = """
dependencies:
  postgres:
    url: postgresql+asyncpg://${POSTGRES_USER:-postgres}:${POSTGRES_PASSWORD:-changeme}@db:5432/gate
    echo: False
    pool_size: 7
    max_overflow: 3
    pool_timeout: 4
    pool_recycle: 1800
    pool_pre_ping: true
    connect_args:
      server_settings:
        statement_timeout: "120s"
        jit: off
      command_timeout: 60
  redis:
    url: redis://:${REDIS_PASSWORD}@localhost:6379
settings:
  auth_secret_key: s3cret
  monitoring_postgres_enabled: false
"""
DATABASE = "database: {%s}"

ENVIRONMENT = [
    ("DATABASE_URL", "postgresql://me@db/logs", "database_url", "postgresql://me@db/logs"),
    ("DATABASE_POOL_SIZE", "9", "database_pool_size", 9),
    ("DATABASE_MAX_OVERFLOW", "11", "database_max_overflow", 11),
    ("DATABASE_POOL_TIMEOUT", "2.5", "database_pool_timeout", 2.5),
    ("DATABASE_ECHO", "true", "database_echo", True),
    ("DATABASE_ECHO_POOL", "1", "database_echo_pool", True),
    ("DATABASE_AUTO_MIGRATE", "false", "auto_migrate", False),
    ("DATABASE_PATH", "logs/rows.db", "database_url", "sqlite:///logs/rows.db"),
    ("DATABASE_MAX_IDLE_CONNS", "4", "database_pool_size", 4),
    ("DATABASE_CONN_MAX_LIFETIME", "1h30m", "database_conn_max_lifetime", 5400.0),
    ("SPOOLWAY_ENABLED", "no", "enabled", False),
]
FLAGS = [
    ("database_url", "sqlite:///rows.db", "sqlite:///rows.db"),
    ("database_pool_size", "9", 9),
    ("database_max_overflow", "11", 11),
    ("database_echo", True, True),
]
YAML = [
    ("url: postgresql://me@db/logs", "database_url", "postgresql://me@db/logs"),
    ("pool_size: 9", "database_pool_size", 9),
    ("max_overflow: 11", "database_max_overflow", 11),
    ("pool_timeout: 2.5", "database_pool_timeout", 2.5),
    ("echo: on", "database_echo", True),
    ("echo_pool: true", "database_echo_pool", True),
    ("auto_migrate: no", "auto_migrate", False),
]


@pytest.mark.parametrize(("name", "text", "setting", "value"), ENVIRONMENT)
def test_variable_is_understood(
    operator: Operator, name: str, text: str, setting: str, value: object
) -> None:
    """In the environment and in `.env`, each with its name as the source."""
    found = operator.gives({name: text})
    assert (getattr(found.settings, setting), found.sources[setting]) == (value, f"env {name}")
    found = operator.gives(dotenv=f"export {name}={text}\n")
    assert (getattr(found.settings, setting), found.sources[setting]) == (value, f".env: {name}")


@pytest.mark.parametrize(("name", "given", "value"), FLAGS)
def test_flag_is_understood(operator: Operator, name: str, given: Any, value: object) -> None:
    """With its name as the source."""
    found = operator.gives(**{name: given})
    assert getattr(found.settings, name) == value
    assert found.sources[name] == f"flag --{name.replace('_', '-')}"


@pytest.mark.parametrize(("line", "setting", "value"), YAML)
def test_yaml_of_database_is_understood(
    operator: Operator, line: str, setting: str, value: object
) -> None:
    """`database: {url, pool_size, …}`, with the key as the source."""
    found = operator.gives(yaml=DATABASE % line)
    assert getattr(found.settings, setting) == value
    assert found.sources[setting] == f"config.yaml: database.{line.partition(':')[0]}"


def test_every_setting_can_be_given_under_spoolway(operator: Operator) -> None:
    """By its field's name; an unknown one is an error that names the nearest."""
    found = operator.gives(yaml="spoolway: {batch_events: 7, dir: /var/x, log_level: debug}")
    assert (found.settings.batch_events, found.settings.log_level) == (7, "DEBUG")
    assert str(found.settings.dir) == "/var/x"
    said = operator.is_refused(yaml="spoolway:\n  batch_event: 7\n")
    assert "spoolway.batch_event in config.yaml, line 2" in said
    assert "batch_events" in said


def test_order_is_flag_then_environment_then_dotenv_then_yaml_then_default(
    operator: Operator,
) -> None:
    """Each place wins over all below it; what loses is told, and need not even be readable."""
    flag: dict[str, Any] = {"database_pool_size": "1"}
    env = {"DATABASE_POOL_SIZE": "2"}
    dotenv = "DATABASE_POOL_SIZE=3\n"
    yaml = "database:\n  pool_size: ${NOT_SET}\n"

    def size(**given: Any) -> tuple[int, list[str]]:
        found = operator.gives(given.pop("env", None), **given)
        return found.settings.database_pool_size, [unused.what for unused in found.unused]

    assert size() == (5, [])
    assert size(yaml="database: {pool_size: 4}") == (4, [])
    in_yaml = "database.pool_size in config.yaml, line 2"
    assert size(dotenv=dotenv, yaml=yaml) == (3, [in_yaml])
    assert size(env=env, yaml=yaml) == (2, ["DATABASE_POOL_SIZE in .env", in_yaml])
    everything = size(env=env, **flag)
    assert everything == (1, ["DATABASE_POOL_SIZE", "DATABASE_POOL_SIZE in .env"])


@pytest.mark.parametrize(
    ("env", "backend"),
    [
        ({"DB_DRIVER": "sqlite"}, "sqlite:///var/spoolway.db"),
        ({"DB_DRIVER": "sqlite3", "DATABASE_PATH": "data/x.db"}, "sqlite:///data/x.db"),
        ({"DB_DRIVER": "postgres", "DATABASE_URL": "postgres://me@db/x"}, "postgresql://me@db/x"),
        (
            {"DB_DRIVER": "Postgres", "DATABASE_URL": "postgres://me@db/x", "DATABASE_PATH": "y"},
            "postgresql://me@db/x",
        ),
        (
            {"DB_DRIVER": "sqlite", "DATABASE_URL": "postgres://me@db/x", "DATABASE_PATH": "y"},
            "sqlite:///y",
        ),
        ({"DB_DRIVER": "sqlite", "DATABASE_URL": "sqlite:///x.db"}, "sqlite:///x.db"),
    ],
)
def test_driver_says_which_of_path_and_url_is_meant(
    operator: Operator, env: dict[str, str], backend: str
) -> None:
    """DB_DRIVER chooses, as it does in Go programs; the path of the other one is not looked at."""
    url = operator.gives(env).settings.database
    assert url.set(drivername=url.get_backend_name()).render_as_string() == backend


def test_driver_says_nothing_of_what_goes_before_it(operator: Operator) -> None:
    """A flag names any database; below the driver, only one of its kind."""
    found = operator.gives({"DB_DRIVER": "postgres"}, database_url="sqlite:///x.db")
    assert found.settings.database.database == "x.db"
    assert [unused.what for unused in found.unused] == ["DB_DRIVER"]
    said = operator.is_refused({"DB_DRIVER": "sqlite"}, yaml="database: {url: postgres://me@db/x}")
    assert "DB_DRIVER" in said
    assert "database.url in config.yaml, line 1" in said


def test_idle_connections_give_way_to_the_size_of_the_pool(operator: Operator) -> None:
    """Where both are given, DATABASE_POOL_SIZE bounds what is open; it is no conflict."""
    found = operator.gives({"DATABASE_POOL_SIZE": "3", "DATABASE_MAX_IDLE_CONNS": "9"})
    assert found.settings.database_pool_size == 3
    assert [unused.what for unused in found.unused] == ["DATABASE_MAX_IDLE_CONNS"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1h30m", 5400.0),
        ("5m", 300.0),
        ("300s", 300.0),
        ("1.5h", 5400.0),
        (".5m", 30.0),
        ("100ms", 0.1),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("1h0m0.5s", 3600.5),
        ("0", 0.0),
        ("+5s", 5.0),
        ("300", 300.0),
    ],
)
def test_durations_of_go_are_seconds(text: str, value: float) -> None:
    """What time.ParseDuration takes; a number alone is seconds."""
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["1d", "soon", "1h 30m", "5 m", "m", "1h30", "٣s", ".", "-5m"])
def test_what_is_no_duration_is_refused_by_its_name(operator: Operator, text: str) -> None:
    """Nothing is guessed, and nothing lasts less than no time."""
    assert operator.is_refused({"DATABASE_CONN_MAX_LIFETIME": text}).startswith(
        "DATABASE_CONN_MAX_LIFETIME: "
    )


def test_file_of_yallmproxy_is_understood_as_it_is(operator: Operator) -> None:
    """`backend` chooses the connection; the variables of everything else are not asked for."""
    env = {"DB_USER": "me@server", "DB_PASSWORD": "s3cret@:/?#%41\"' $x"}
    found = operator.gives(env, yaml=YALLM)
    url = found.settings.database
    assert (url.username, url.password) == (env["DB_USER"], env["DB_PASSWORD"])
    assert (url.host, url.port, url.database) == ("db.example", 5433, "yallm_proxy")
    assert (found.settings.database_pool_size, found.settings.database_max_overflow) == (6, 12)
    assert found.sources["database_url"] == "config.yaml: database.connection.postgres"
    assert "s3cret" not in repr(found)

    sqlite = operator.gives(yaml=YALLM.replace("backend: postgres", "backend: sqlite"))
    assert sqlite.settings.database.database == "logs/yaLLM.db"
    said = operator.is_refused({"DB_USER": "me"}, yaml=YALLM)
    assert "database.connection.postgres.password in config.yaml, line 15" in said
    assert "DB_PASSWORD" in said


def test_file_of_opengatellm_is_understood_as_it_is(operator: Operator) -> None:
    """Arguments of create_async_engine are settings where there is one, and go to it otherwise."""
    found = operator.gives({"POSTGRES_PASSWORD": "s3cret@/%41"}, yaml=OPENGATELLM)
    settings = found.settings
    # %41 is an A here as it is in the proxy: it stands in a URL.
    assert (settings.database.username, settings.database.password) == ("postgres", "s3cret@/A")
    assert (settings.database.host, settings.database.database) == ("db", "gate")
    assert (settings.database_pool_size, settings.database_max_overflow) == (7, 3)
    assert (settings.database_pool_timeout, settings.database_conn_max_lifetime) == (4.0, 1800.0)
    assert settings.database_engine == {
        "pool_pre_ping": True,
        "connect_args": {
            "server_settings": {"statement_timeout": "120s", "jit": "off"},
            "command_timeout": 60.0,
        },
    }
    assert settings.enabled is False
    assert {unused.what.partition(" ")[0] for unused in found.unused} == {
        "dependencies.redis",
        "settings.auth_secret_key",
    }
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("pool_pre_pin: true", ["dependencies.postgres", "pool_pre_pin", "pool_pre_ping"]),
        ("connect_args: {command_timeot: 1}", ["connect_args.command_timeot", "command_timeout"]),
        ("connect_args: {command_timeout: s3cret}", ["connect_args.command_timeout", "number"]),
        ("poolclass: NullPool", ["poolclass", "create_async_engine"]),
        ("pool_size: 101", ["dependencies.postgres.pool_size in config.yaml, line 3", "100"]),
    ],
)
def test_argument_that_no_engine_takes_is_refused(
    operator: Operator, line: str, names: list[str]
) -> None:
    """It is named with the nearest that there is."""
    said = operator.is_refused(yaml=f"dependencies:\n  postgres:\n    {line}\n")
    assert [name for name in names if name not in said] == [], said


@pytest.mark.parametrize(
    ("given", "both"),
    [
        (
            {"env": {"DATABASE_URL": "postgresql://me@db/x", "DATABASE_PATH": "x.db"}},
            ["DATABASE_URL", "DATABASE_PATH"],
        ),
        (
            {"env": {"DATABASE_URL": "postgresql://me@db/x", "DB_DRIVER": "sqlite"}},
            ["DATABASE_URL", "DB_DRIVER"],
        ),
        ({"env": {"DB_DRIVER": "postgres"}}, ["DB_DRIVER", "DATABASE_URL"]),
        ({"env": {"DATABASE_PATH": ":memory:"}}, ["DATABASE_PATH", "in-memory"]),
        ({"env": {"DATABASE_PATH": "file:x?mode=ro"}}, ["DATABASE_PATH", "plain path"]),
        ({"env": {"DB_DRIVER": "mysql"}}, ["DB_DRIVER", "sqlite or postgres"]),
        (
            {"yaml": "database: {pool_size: 3}\ndependencies: {postgres: {pool_size: 4}}"},
            ["database.pool_size", "dependencies.postgres.pool_size"],
        ),
        (
            {
                "yaml": "database: {url: sqlite:///a.db, backend: sqlite,"
                " connection: {sqlite: {path: b.db}}}"
            },
            ["database.url", "database.connection.sqlite"],
        ),
        (
            {"yaml": "spoolway: {enabled: true}\nsettings: {monitoring_postgres_enabled: false}"},
            ["spoolway.enabled", "settings.monitoring_postgres_enabled"],
        ),
        ({"yaml": "database: {backend: mongo}"}, ["database.backend", "sqlite or postgres"]),
        ({"yaml": "database: {connection: {sqlite: {path: x}}}"}, ["database", "backend"]),
    ],
)
def test_names_that_contradict_each_other_are_refused(
    operator: Operator, given: dict[str, Any], both: list[str]
) -> None:
    """In one place, two names for one setting say the same or are both named."""
    said = operator.is_refused(**given)
    assert [name for name in both if name not in said] == [], said


def test_names_that_say_the_same_are_no_contradiction(operator: Operator) -> None:
    """However differently it is spelled."""
    found = operator.gives(
        {"DATABASE_URL": "sqlite+aiosqlite:///x.db", "DATABASE_PATH": "x.db"},
        yaml="database: {pool_size: 7}\ndependencies: {postgres: {pool_size: '07'}}",
    )
    assert found.settings.database_pool_size == 7


@pytest.mark.parametrize(
    ("setting", "least", "most"),
    [
        ("pool_size", 1, 100),
        ("max_overflow", 0, 100),
        ("pool_timeout", 1, 300),
    ],
)
def test_ranges_are_checked_wherever_a_value_is_from(
    operator: Operator, setting: str, least: int, most: int
) -> None:
    """The message names the value as whoever gave it calls it."""
    name = f"database_{setting}"
    for value in (least, most):
        assert getattr(operator.gives({name.upper(): str(value)}).settings, name) == value
    for value in (0 if setting == "pool_timeout" else least - 1, most + 1):
        flag: dict[str, Any] = {name: str(value)}
        assert operator.is_refused(**flag).startswith(f"--{name.replace('_', '-')}: ")
        assert operator.is_refused({name.upper(): str(value)}).startswith(f"{name.upper()}: ")
        said = operator.is_refused(yaml=f"database:\n  {setting}: {value}\n")
        assert said.startswith(f"database.{setting} in config.yaml, line 2: ")
        (operator.folder / "config.yaml").unlink()
        said = operator.is_refused(dotenv=f"{name.upper()}={value}\n")
        assert said.startswith(f"{name.upper()} in .env: ")
        (operator.folder / ".env").unlink()


def test_dotenv_that_everybody_may_write_is_refused(operator: Operator) -> None:
    """In a folder for all, such as /tmp, anybody could say where events go."""
    file = operator.folder / ".env"
    file.write_text("DATABASE_URL=postgresql://me:s3cret@elsewhere/logs\n")
    file.chmod(0o666)
    assert "chmod o-w .env" in operator.is_refused()
    file.chmod(0o644)
    assert operator.gives().settings.database.host == "elsewhere"
