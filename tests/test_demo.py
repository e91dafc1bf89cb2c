"""`make run`, for real: what it prints, what is in the database then, and what it leaves behind."""

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest
import zstandard

from examples.run import ROUNDS
from examples.traffic import CUSTOMERS, KEPT_PRIVATE, SCENARIOS
from tests.servers import eventually

ROOT: Final = Path(__file__).parent.parent
OUTCOMES: Final = Counter[str](scenario.outcome for scenario in SCENARIOS * ROUNDS)
ERRORS: Final = sum(scenario.errors for scenario in SCENARIOS * ROUNDS)
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
MARK: Final = "TEST_OF_THE_DEMO"
PATIENCE_S: Final = 30.0


class Demo:
    """`python -m examples.demo` as a process, in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str, terminal: bool = False) -> None:
        self.var = folder / "var"
        self._mark = uuid.uuid4().hex
        self._printed = b""
        self._reading, writing = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.demo", *arguments],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "110",
                "LINES": "40",
                "TERM": "xterm-256color",
                # What is meant for other programs.
                "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
                "REDIS_URL": "redis://127.0.0.1:1/0",
                "HTTP_PROXY": "http://127.0.0.1:1",
                MARK: self._mark,
            },
            stdin=writing if terminal else subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
        os.close(writing)
        self._reader = threading.Thread(target=self._read, name="demo-reader")
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # EIO: nobody has the terminal open any more
            while data := os.read(self._reading, 65536):
                self._printed += data
        os.close(self._reading)

    @property
    def printed(self) -> str:
        """All of it so far, without what moves the cursor and colours."""
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._printed.decode(errors="replace"))
        return text.replace("\r\n", "\n")

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed this."""

        def said() -> re.Match[str] | None:
            assert self.process.poll() is None or re.search(pattern, self.printed), self.printed
            return re.search(pattern, self.printed)

        found = eventually(said, timeout=PATIENCE_S, what=f"it prints {pattern}")
        assert found
        return found

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal as a terminal does: to all of the foreground process group."""
        os.killpg(self.process.pid, signum)

    def ended(self) -> int:
        """Wait for its end and return its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def processes(self) -> list[psutil.Process]:
        """All that it has started, directly or not, and that still runs."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def child(self, name: str) -> psutil.Process:
        """The process with this in its command line."""
        [found] = [p for p in self.processes() if name in " ".join(p.cmdline())]
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            # Valkey writes its title over its environment; it works in the folder of its data.
            return process.environ().get(MARK) == self._mark or process.cwd().startswith(
                str(self.var)
            )
        except psutil.Error:
            return False

    def end(self) -> None:
        """Leave nothing behind, whatever the test found."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.ended()


@contextmanager
def _demo(folder: Path, *arguments: str, terminal: bool = False) -> Iterator[Demo]:
    demo = Demo(folder, *arguments, terminal=terminal)
    try:
        yield demo
    finally:
        demo.end()


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Demo]:
    """Two runs in one folder, one after the other, with the usual ports taken by others."""
    folder = tmp_path_factory.mktemp("demo")
    runs = []
    with ExitStack() as taken:
        for port in (6379, 8000, 8080, 9000):
            with suppress(OSError):  # taken by somebody else, which is as good
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        for _ in range(2):
            runs.append(taken.enter_context(_demo(folder)))
            runs[-1].ended()
    return runs


@pytest.fixture
def database(two_runs: list[Demo]) -> Iterator[sqlite3.Connection]:
    """What the two runs left, to read only."""
    with closing(_opened(two_runs[0].var)) as connection:
        yield connection


def _opened(var: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{(var / 'spoolway.db').as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _counts(printed: str) -> dict[str, int]:
    """The counts at the end of what a demo has printed."""
    return {name: int(n) for name, n in re.findall(r"(?m)^  ([a-z]+) +(\d+)\b", printed)}


def _counted(database: sqlite3.Connection) -> dict[str, int]:
    """The same of a database."""
    query = "SELECT outcome, count(*) AS n FROM request_logs GROUP BY outcome"
    counts = {row["outcome"]: int(row["n"]) for row in database.execute(query)}
    [errors] = database.execute("SELECT count(*) FROM error_logs").fetchone()
    return {**counts, "requests": sum(counts.values()), "errors": errors}


def test_without_a_terminal_the_demo_ends_by_itself(two_runs: list[Demo]) -> None:
    """Both runs end with 0, and print how many requests became what, and in which database."""
    for run in two_runs:
        assert run.process.returncode == 0, run.printed
        assert f"In the database {run.var / 'spoolway.db'}" in run.printed
        assert _counts(run.printed) == {
            **OUTCOMES,
            "requests": len(SCENARIOS) * ROUNDS,
            "errors": ERRORS,
        }


def test_the_printed_counts_are_those_of_the_database(
    two_runs: list[Demo], database: sqlite3.Connection
) -> None:
    """What two runs have printed is together what the database holds: nothing more, nothing less."""
    first, second = (_counts(run.printed) for run in two_runs)

    assert _counted(database) == {name: first[name] + second[name] for name in first}
    assert min(OUTCOMES["success"], OUTCOMES["error"], OUTCOMES["cancelled"]) > 0


def test_every_row_is_filled_as_far_as_its_request_went(database: sqlite3.Connection) -> None:
    """Durations everywhere; first tokens where there was one; token counts of whole answers."""
    rows = [dict(row) for row in database.execute("SELECT * FROM request_logs")]
    chats = [row for row in rows if row["path"] == "/v1/chat/completions"]
    answered = [row for row in chats if row["outcome"] == "success"]
    cancelled = [row for row in chats if row["outcome"] == "cancelled"]

    assert all(row["duration_ms"] > 0 for row in rows)
    assert {row["client_ip"] for row in rows} == {"127.0.0.1"}
    assert {row["user_id"] for row in chats} == {customer.name for customer in CUSTOMERS}
    assert len({row["api_key_id"] for row in rows}) == len(CUSTOMERS)
    for row in answered:
        assert 0 < row["ttft_ms"] <= row["duration_ms"]
        assert row["prompt_tokens"] > 0
        assert row["completion_tokens"] > 0
        assert row["total_tokens"] == row["prompt_tokens"] + row["completion_tokens"]
        assert row["cached_tokens"] is not None
        assert row["reasoning_tokens"] is not None
        assert row["stop_reason"] == "stop"
        assert row["provider_model"].startswith(row["model_name"])
        assert (row["stream_chunks"] is not None) == row["is_stream"]
        assert (row["response"] is None) == row["is_stream"]
    for row in cancelled:
        assert 0 < row["ttft_ms"] < row["duration_ms"]
        assert 0 < len(json.loads(row["stream_chunks"])) < 100
    assert answered
    assert cancelled


def test_every_error_is_linked_to_its_request(database: sqlite3.Connection) -> None:
    """Each has its request's row; a request that failed has an error, one that was tried again too."""
    joined = """
        SELECT request.model_name, request.outcome, error.http_status
        FROM error_logs AS error JOIN request_logs AS request ON request.id = error.request_log_id
        WHERE error.request_id = error.request_log_id
    """
    found = Counter(tuple(row) for row in database.execute(joined))

    assert found == {
        (model, outcome, status): 2 * ROUNDS * sum(s.model == model for s in SCENARIOS)
        for model, outcome, status in [
            ("busy", "success", 503),
            ("fail-400", "error", 400),
            ("fail-429", "error", 429),
            ("fail-500", "error", 500),
            ("fail-midstream", "error", None),
            ("slow", "error", 504),
        ]
    }


def test_no_secret_is_in_any_column(database: sqlite3.Connection) -> None:
    """Of no key, cookie, password or token that was sent is anything in either table."""
    text = "\n".join(
        str(value)
        for table in ("request_logs", "error_logs")
        for row in database.execute(f"SELECT * FROM {table}")
        for value in row
    )

    assert [secret for secret in KEPT_PRIVATE if secret in text] == []
    # They were sent, and headers and queries are there: what is not is the secrets alone.
    for name in ("authorization", "cookie", "x-api-key", "x-acme-session-token"):
        assert f'"{name}":"[redacted]"' in text
    assert "api_key=[redacted]&api-version=2026-01-01" in text
    assert '"x-team":"billing"' in text


def test_no_secret_is_in_any_file(two_runs: list[Demo]) -> None:
    """Nor in logs, the database's files or Valkey's append-only file, packed frames included."""
    files = {path: path.read_bytes() for path in two_runs[0].var.rglob("*") if path.is_file()}
    [appended] = [content for path, content in files.items() if path.name.endswith(".incr.aof")]
    frames = b"\n".join(_unpacked(appended))

    haystacks = {**files, Path("frames"): frames}
    found = [
        (path, secret)
        for path, content in haystacks.items()
        for secret in KEPT_PRIVATE
        if secret.encode() in content
    ]
    assert found == []
    # The frames are what they should be, and were looked into.
    assert frames.count(b'"type":"request"') == 2 * ROUNDS * len(SCENARIOS)
    assert frames.count(b'"authorization":"[redacted]"') == 2 * ROUNDS * len(SCENARIOS)
    assert {path.name for path in files} >= {"spoolway.log", "proxy.log", "upstream.log"}


def _unpacked(appended: bytes) -> Iterator[bytes]:
    """The zstd frames in a file of other things."""
    at = appended.find(ZSTD_MAGIC)
    while at >= 0:
        with suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(appended[at:])
        at = appended.find(ZSTD_MAGIC, at + 1)


def test_everything_on_disk_is_for_this_user_alone(two_runs: list[Demo]) -> None:
    """Folders are 0700 and files 0600, Valkey's own ones apart, which lie in such a folder."""
    var = two_runs[0].var
    ours = [p for p in [var, *var.rglob("*")] if "appendonlydir" not in str(p)]

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in ours}
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in ours}
    assert {path.name for path in (var / "logs").iterdir()} == {
        "proxy.log",
        "spoolway.log",
        "upstream.log",
    }


@pytest.mark.chaos
def test_on_a_terminal_the_demo_shows_rows_until_ctrl_c(tmp_path: Path) -> None:
    """The table fills, what it says to try works, Ctrl-C ends it with 0 and nothing stays."""
    with _demo(tmp_path, terminal=True) as demo:
        demo.says(r"\d\d:\d\d:\d\d +story +stream +cancelled")
        demo.says(
            r"success [1-9]\d* +error [1-9]\d* +cancelled [1-9]\d* +errors [1-9]\d* +queue \d"
        )
        url = demo.says(r"(http://127\.0\.0\.1:\d+/v1)/chat/completions")[1]
        page = demo.says(r"The page is on (http://127\.0\.0\.1:\d+/)\n")[1]
        shown = httpx.get(page, trust_env=False)
        assert (shown.status_code, "Spoolway" in shown.text) == (200, True)
        failed = httpx.get(f"{page}api/logs?outcome=error", trust_env=False).json()["data"]
        assert failed
        private = f"sk-{uuid.uuid4().hex}"
        answer = httpx.post(
            f"{url}/chat/completions",
            headers={"authorization": f"Bearer {private}"},
            json={"model": "large", "messages": [{"role": "user", "content": "Hello"}]},
            trust_env=False,
        )
        tried = [
            subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True)  # noqa: PLW1510 - the exit code is asserted below
            for command in re.findall(r"(?m)^  (\S+/spoolway .+)$", demo.printed)
        ]
        started = time.monotonic()
        running = demo.processes()
        demo.signal(signal.SIGINT)
        code = demo.ended()
        took = time.monotonic() - started

        assert code == 0, demo.printed
        assert "Traceback" not in demo.printed
        assert took < 10
        assert len(running) == 6  # the demo, spoolway and its page, Valkey, proxy and upstream
        assert demo.processes() == []
    assert [run.returncode for run in tried] == [0, 0], tried
    with closing(_opened(demo.var)) as database:
        counts = _counted(database)
        query = "SELECT headers FROM request_logs WHERE id = ?"
        [headers] = database.execute(query, [answer.headers["x-request-log-id"]]).fetchone()
    assert _counts(demo.printed) == counts
    assert json.loads(headers)["authorization"] == "[redacted]"
    assert private.encode() not in b"".join(p.read_bytes() for p in demo.var.glob("spoolway.db*"))


@pytest.mark.chaos
def test_a_second_demo_in_the_same_folder_is_told_so(tmp_path: Path) -> None:
    """It says in one line who runs there, and leaves the first one alone."""
    with _demo(tmp_path) as first:
        first.says("Starting")
        with _demo(tmp_path, "--dir", str(first.var)) as second:
            assert second.ended() == 2
        assert second.printed == (
            f"demo: a demo is running in {first.var} (process {first.process.pid}): stop it with "
            "Ctrl-C, or name another folder with --dir\n"
        )
        first.says("Sending")
        first.signal(signal.SIGTERM)
        assert first.ended() == 0, first.printed


@pytest.mark.parametrize(
    "name",
    [
        "spoolway",
        pytest.param("proxy", marks=pytest.mark.chaos),
        pytest.param("upstream", marks=pytest.mark.chaos),
    ],
)
def test_a_process_that_dies_is_named_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    """The demo ends with 1, says which process it was and where its log is."""
    with _demo(tmp_path, terminal=True) as demo:
        demo.says(r"success [1-9]")
        victim = "bin/spoolway" if name == "spoolway" else f"examples.{name}"
        demo.child(victim).kill()
        code = demo.ended()

        assert code == 1, demo.printed
        assert f"demo: {name} was ended by SIGKILL; the end of {demo.var}/logs/{name}.log:" in (
            demo.printed
        )
        assert "Traceback" not in demo.printed
        # What the victim had started itself is told by the kernel, and ends in order.
        eventually(lambda: not demo.processes(), timeout=10)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_demo_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    """The kernel stops what a SIGKILL kept the demo from stopping."""
    with _demo(tmp_path) as demo:
        demo.says("Sending")
        assert len(demo.processes()) == 6
        demo.signal(signal.SIGKILL)
        demo.ended()
        eventually(lambda: demo.processes() == [], timeout=PATIENCE_S)


@pytest.mark.chaos
def test_what_spoolway_up_says_is_passed_on(tmp_path: Path) -> None:
    """A folder that another `spoolway up` uses is told in its words, with exit code 2."""
    var = tmp_path / "var"
    (var / "valkey").mkdir(parents=True)
    with (var / "valkey" / "valkey.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _demo(tmp_path) as demo:
            assert demo.ended() == 2, demo.printed
    said = demo.printed.splitlines()
    assert said[1].startswith(f"demo: spoolway: a Valkey runs on {var / 'valkey'} already")
    assert len(said) == 2


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    """It says which folder, why, and what to do."""
    (tmp_path / "var").write_text("a file")
    with _demo(tmp_path) as demo:
        assert demo.ended() == 2
    assert demo.printed == (
        f"demo: {demo.var} cannot be used (File exists): name another folder with --dir\n"
    )
