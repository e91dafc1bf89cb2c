"""Applications served over real HTTP: in a thread of the test, or as a process of their own."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.servers import eventually
from tests.servers.ports import ReservedPort


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application from a thread; yields its URL."""
    config = uvicorn.Config(
        app, port=0, log_config=None, timeout_graceful_shutdown=1, lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="served", daemon=True)
    thread.start()
    eventually(lambda: server.started, timeout=20, what="a served application")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


class ServerProcess:
    """A server as a process: `python -m <command> --port <a free one>`."""

    def __init__(self, *command: str, log: Path, environment: dict[str, str]) -> None:
        self._port = ReservedPort()
        self.url = f"http://127.0.0.1:{self._port.number}"
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, "--port", str(self._port.number)],
                env=environment,
                stdout=output,
                stderr=output,
            )

    def answers(self, path: str = "/") -> bool:
        """Whether it answers a request, however."""
        assert self.process.poll() is None, f"the server ended: {self.log.read_text()}"
        try:
            httpx.get(self.url + path, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    def end(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
