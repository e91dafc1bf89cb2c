"""A real LiteLLM proxy and its upstream, as processes."""

import contextlib
import os
import shutil
import socketserver
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers import LocalServer

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".venv-litellm"
MASTER_KEY = "sk-master-of-the-tests-3f9d0b52c7e84a61"
PRICES: dict[str, Any] = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
UPSTREAM_KEY = "sk-of-the-upstream-77e0c1"


class _HttpServer(LocalServer):
    ready_path = "/"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        """Nothing to make."""

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}{self.ready_path}", timeout=1).is_success
        except httpx.TransportError:
            return False


class Upstream(_HttpServer):
    """`examples/upstream.py`."""

    ready_path = "/v1/models"

    def _command(self) -> Sequence[str | Path]:
        return (sys.executable, "-m", "examples.upstream", "--port", str(self.port))

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}


class SilentUpstream(socketserver.ThreadingTCPServer):
    """Begins a stream, and says nothing until the proxy is gone. In threads of the tests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Silent)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Silent(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        self.connection.recv(1 << 16)
        self.connection.sendall(head)
        with contextlib.suppress(ConnectionError):
            while self.connection.recv(1 << 16):
                pass


class LiteLLMProxy(_HttpServer):
    """The proxy of `examples/litellm/config.yaml`, with other models, and keys of its own."""

    ready_path = "/health/readiness"

    def __init__(
        self, folder: Path, upstream: Upstream, silent: "SilentUpstream", redis_url: str
    ) -> None:
        super().__init__(folder)
        self._silent = silent
        self._upstream = upstream.url
        self._redis_url = redis_url

    def _prepare(self) -> None:
        config = yaml.safe_load((ROOT / "examples" / "litellm" / "config.yaml").read_text())
        config["model_list"] = [
            self._model("small", **PRICES),
            self._model("large"),
            self._model("story"),
            self._model("slow"),
            self._model("silent", upstream=self._silent.url),
            self._model("small", group="bridged", use_chat_completions_api=True, **PRICES),
            self._model("gpt-4o", mock_response="A stream keeps it."),
            self._model("text-embedding-3-small", mock_response=[0.5, 0.25]),
            self._model("fail-midstream"),
            self._model("fail-400"),
            self._model("fail-500"),
            self._model("busy"),
            self._model("busy", group="backup", branch="/backup"),
        ]
        config["litellm_settings"]["num_retries"] = 1
        config["litellm_settings"]["use_chat_completions_url_for_anthropic_messages"] = True
        config["router_settings"] = {"fallbacks": [{"busy": ["backup"]}], "disable_cooldowns": True}
        config["general_settings"]["cancel_on_disconnect"] = True
        config["general_settings"]["custom_auth"] = "custom_auth.user_api_key_auth"
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        shutil.copy(Path(__file__).parent / "custom_auth.py", self.folder)

    def _model(
        self, name: str, *, group: str = "", branch: str = "", upstream: str = "", **more: Any
    ) -> Any:
        return {
            "model_name": group or name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"{upstream or self._upstream}{branch}/v1",
                "api_key": UPSTREAM_KEY,
                **more,
            },
        }

    def _command(self) -> Sequence[str | Path]:
        litellm = ENVIRONMENT / "bin" / "litellm"
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        return (litellm, "--config", "config.yaml", *where, "--telemetry", "False")

    def _environment(self) -> Mapping[str, str]:
        return environment(self._redis_url, SPOOLWAY_DIR=str(self.folder / "var"))


def environment(redis_url: str, **more: str) -> dict[str, str]:
    """Variables for what runs in LiteLLM's environment; it asks no server of its makers."""
    ours = ("SPOOLWAY_", "REDIS_", "DATABASE_", "LITELLM_", "PYTHON")
    outer = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **outer,
        "REDIS_URL": redis_url,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        **more,
    }
