"""The producer on redis-py 8, which a proxy gets that installs no worker: arq holds it below 6.

The same tests again, in a process that finds redis-py 8 first, as LiteLLM's does. It is downloaded once and kept in
pytest's cache.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REDIS = "redis==8.1.0"

# What depends on the client library: connecting in each way, settings, failing and coming back.
TESTS = [
    "tests/test_producer.py",
    "tests/test_producer_failures.py",
    "tests/test_producer_spool.py::test_redis_is_not_there_at_first_and_comes_back_later",
    "tests/test_producer_spool.py::test_redis_refuses_and_takes_again",
    "tests/test_redis_errors.py",
    "tests/test_redis_sentinel.py",
]
SELECTION = (
    "failures or on_the_stream or contract or first_event or end_of_the_process or"
    " without_redis or unix_socket or tls or cannot_work or comes_back_later or takes_again"
    " or each_refusal or loses_nothing"
)


@pytest.fixture(scope="module")
def environment(pytestconfig: pytest.Config) -> Mapping[str, str]:
    """Environment variables with which Python finds redis-py 8 before the installed one."""
    folder = pytestconfig.cache.mkdir(REDIS.replace("==", "-"))
    installed = folder / "installed"
    if not installed.exists():
        with tempfile.TemporaryDirectory(dir=folder) as making:
            _install(Path(making) / "packages")
            (Path(making) / "packages").rename(installed)
    # The outer run's xdist and pytest settings are not the inner one's.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**outer, "PYTHONPATH": os.pathsep.join(path)}


def _install(target: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, REDIS),
            *("--quiet", "--no-input", "--disable-pip-version-check"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "CI" not in os.environ:
        pytest.skip(f"{REDIS} cannot be downloaded here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr


@pytest.mark.litellm
def test_the_producer_works_on_redis_py_8(environment: Mapping[str, str]) -> None:
    """Every way to connect, and every failure, with the other major version of the client."""
    version = subprocess.run(
        [sys.executable, "-c", "import redis; print(redis.__version__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert f"redis=={version}" == REDIS

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SELECTION, *TESTS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout
