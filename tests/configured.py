"""Settings as an operator gives them: environment, `.env` and YAML file in a folder of the test."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from spoolway.worker.config import Configuration, UsageError, read_configuration
from tests.commands import environment


class Operator:
    """Somebody who configures a worker in this folder, with nothing else in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def gives(
        self,
        env: Mapping[str, str] | None = None,
        *,
        dotenv: str = "",
        yaml: str = "",
        **flags: Any,
    ) -> Configuration:
        """Return what becomes of it."""
        variables = {**environment(), **(env or {})}
        if dotenv:
            (self.folder / ".env").write_text(dotenv, encoding="utf-8")
        if yaml:
            (self.folder / "config.yaml").write_text(yaml, encoding="utf-8")
            variables["SPOOLWAY_CONFIG"] = "config.yaml"
        with mock.patch.dict(os.environ, variables, clear=True):
            return read_configuration(**flags)

    def is_refused(self, env: Mapping[str, str] | None = None, **given: Any) -> str:
        """Return the one line that is said to it, which has no secret in it."""
        with pytest.raises(UsageError) as refused:
            self.gives(env, **given)
        said = str(refused.value)
        assert "\n" not in said
        assert "s3cret" not in said
        return said


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """An operator in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Operator(tmp_path)
