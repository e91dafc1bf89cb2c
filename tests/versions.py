"""Which versions of PostgreSQL a test runs on that is for all of them."""

from typing import Any

import pytest

from tests.servers import postgres_binaries


def postgres_versions() -> list[Any]:
    """Return the labels as parameters: the oldest, which has the least; `make chaos` has the others.

    What does not depend on the version runs on the newest (`newest_postgres`): both are met by
    default, and each by hundreds of tests.
    """
    oldest, *others = postgres_binaries()
    return [oldest, *(pytest.param(label, marks=pytest.mark.chaos) for label in others)]
