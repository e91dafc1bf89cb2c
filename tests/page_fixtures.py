"""Fixtures of the page's tests: a plugin (`pytest_plugins`), so that several modules share them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browsing import chromium
from tests.stores import Templates


@pytest.fixture(scope="module")
def browser(templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a module; each visits it with a profile of its own."""
    # Playwright has an event loop running in this thread from here on: nothing else can have one.
    with templates.sqlite(tmp_path_factory.mktemp("template")):
        pass
    with chromium() as started:
        yield started
