"""`spoolway serve` as an operator has it: what it prints, how it is refused, how it stops."""

import asyncio
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from tests.commands import ended, refusal, run, start
from tests.servers import eventually
from tests.stores import Database, requests

pytest_plugins = ["tests.store_fixtures"]


def page_of(process: "subprocess.Popen[str]") -> str:
    """The address that it prints."""
    assert process.stdout is not None
    found = re.fullmatch(r"page +(http://\S+/)\n", process.stdout.readline())
    assert found
    return found[1]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_the_page_is_and_stops_cleanly(
    sqlite_logs: Database, tmp_path: Path, signum: signal.Signals
) -> None:
    """SIGTERM and Ctrl-C end it with 0, and leave the port free for the next."""
    url = str(sqlite_logs.url)
    process = start("serve", "--port", "0", SPOOLWAY_DIR=str(tmp_path), DATABASE_URL=url)
    try:
        page = page_of(process)
        assert httpx.get(page, trust_env=False).status_code == 200
        assert httpx.get(f"{page}api/logs", trust_env=False).json()["data"] == []
    finally:
        process.send_signal(signum)
        done = ended(process, 20)
    assert done.code == 0, done.err
    with socket.create_server(("127.0.0.1", int(page.rsplit(":", 1)[1].strip("/")))):
        pass


def test_without_a_database_it_serves_and_says_so(tmp_path: Path) -> None:
    """One line in the log, with the reason; the page is there."""
    process = start("serve", "--port", "0", SPOOLWAY_DIR=str(tmp_path / "var"))
    try:
        page = page_of(process)
        assert httpx.get(page, trust_env=False).status_code == 200
        assert httpx.get(f"{page}api/logs", trust_env=False).status_code == 503
    finally:
        process.terminate()
        done = ended(process, 20)
    assert (done.code, done.out) == (0, "")
    assert "the database cannot be read" in done.err
    assert not (tmp_path / "var").exists(), "looking makes nothing"


def test_what_cannot_be_served_is_refused_in_one_line(tmp_path: Path) -> None:
    """A port that is taken, an address that is not ours, one that all can reach without a token."""
    here = {"SPOOLWAY_DIR": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refusal(run("serve", "--port", port, **here))
        assert f"SPOOLWAY_API_PORT: 127.0.0.1:{port} is in use by another process" in said
    assert "set SPOOLWAY_API_TOKEN" in refusal(run("serve", "--host", "0.0.0.0", **here))  # noqa: S104 - what is refused
    token = {"SPOOLWAY_API_TOKEN": "0123456789abcdef"}
    said = refusal(run("serve", "--host", "192.0.2.1", "--port", "0", **here, **token))
    assert "the page cannot listen on 192.0.2.1:0" in said
    assert run("serve", "--port", "many", **here).code == 2
    assert "--database-url has scheme" in refusal(
        run("serve", "--database-url", "mysql://x", **here)
    )


@pytest.mark.chaos
@pytest.mark.parametrize("query", ["format=ndjson&whole=true", "format=csv"])
def test_a_large_export_does_not_grow_the_process(
    sqlite_logs: Database, tmp_path: Path, query: str
) -> None:
    """A hundred thousand requests, 200 MB of them, pass through a process that stays as it was."""

    async def fill() -> None:
        async with sqlite_logs.opened() as store:
            for _ in range(50):
                await store.write(requests(2_000, body={"text": "x" * 2_000}))

    asyncio.run(fill())
    url = str(sqlite_logs.url)
    process = start("serve", "--port", "0", SPOOLWAY_DIR=str(tmp_path), DATABASE_URL=url)
    try:
        page = page_of(process)
        httpx.get(f"{page}api/logs", trust_env=False)
        memory = psutil.Process(process.pid).memory_info
        before, most, received = memory().rss, 0, 0
        with httpx.stream("GET", f"{page}api/logs?{query}", trust_env=False, timeout=60) as answer:
            for number, piece in enumerate(answer.iter_raw()):
                received += len(piece)
                if number % 100 == 0:
                    # What SQLite has mapped of its file is the kernel's, and given back.
                    info = psutil.Process(process.pid).memory_full_info()
                    most = max(most, info.uss)
        assert received > (200_000_000 if "whole" in query else 10_000_000)
        assert most < before + 60_000_000
    finally:
        process.terminate()
        ended(process, 20)


def test_up_serves_the_page_as_well(tmp_path: Path) -> None:
    """`spoolway up` prints its address; when the page's process is killed, it comes back."""
    process = start("up", "--port", "0", SPOOLWAY_DIR=str(tmp_path), SPOOLWAY_API_PORT="0")
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        found = re.fullmatch(r"page +(http://\S+/)\n", lines[3])
        assert found, lines

        def inserted() -> bool:
            answer = httpx.get(f"{found[1]}api/status", trust_env=False, timeout=30).json()
            return bool(answer["database"] == "available" and answer["workers"])

        eventually(inserted, timeout=40, every=0.2)
    finally:
        process.terminate()
        done = ended(process, 30)
    assert done.code == 0, done.err
    assert "the page has ended" not in done.err
