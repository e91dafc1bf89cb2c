"""Which versions of PostgreSQL a test runs on that is for all of them."""

from typing import Any

import pytest

from tests.servers import postgres_binaries


def postgres_versions() -> list[Any]:
    """Return the labels as parameters: the oldest and the newest; `make chaos` has those between."""
    labels = list(postgres_binaries())
    return [
        label if label in (labels[0], labels[-1]) else pytest.param(label, marks=pytest.mark.chaos)
        for label in labels
    ]
