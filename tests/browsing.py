"""A real browser for tests: Chromium, what it shows, and what it must never do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

CHROMIUM: Final = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on PATH (Debian: apt install chromium)"
)
_ARGUMENTS: Final = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_GO: Final = """(hash) => new Promise((resolve) => {
  const before = location.href;
  addEventListener("hashchange", () => resolve(), { once: true }); // after the page's own
  location.hash = hash;
  if (location.href === before) resolve();
})"""
PHONE: Final = {"width": 360, "height": 780}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """A page in a profile of its own, and all that it did which a page of ours must not do."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url.rstrip("/")
        self._context = browser.new_context(base_url=url, **options)
        self._context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error("
            "`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"
        )
        self.page: Page = self._context.new_page()
        self.faults: list[str] = []
        """Dialogs, requests to elsewhere, violations of the policy, errors of scripts, popups."""
        self.requested: list[str] = []
        """Paths of ours that were asked for."""
        page = self.page
        page.set_default_timeout(15_000)
        page.on("dialog", self._dismiss)
        page.on("pageerror", lambda error: self.faults.append(f"error {error}"))
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.on("popup", lambda popup: self.faults.append(f"popup {popup.url}"))
        page.on("request", lambda request: self._see(request.url))

    def open(self, where: str = "/") -> Page:
        """Go to a view, and wait until nothing is loaded any more."""
        if self.page.url.startswith(self.url) and where.startswith("/#"):
            self.page.evaluate(_GO, where.removeprefix("/"))
        else:
            self.page.goto(where)
        return self.settled()

    def settled(self) -> Page:
        """Wait until what was asked for is there."""
        self.page.wait_for_function(
            "() => !document.querySelector('#starting, .loading, [aria-busy=true]')"
        )
        return self.page

    def close(self) -> None:
        """Forget everything."""
        self._context.close()

    def _dismiss(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _see(self, url: str) -> None:
        if url.startswith(("data:", "blob:" + self.url)):
            return
        if not url.startswith(self.url + "/"):
            self.faults.append(f"request to {url[:100]}")
        self.requested.append(urlsplit(url).path)

    def _hear(self, kind: str, text: str) -> None:
        # The browser says by itself when an answer is no 2xx; what the page makes of it is shown.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.faults.append(f"{kind} {text}")


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visitor]:
    """Visit for the length of a block, at whose end nothing may have gone wrong."""
    visitor = Visitor(browser, url, **options)
    try:
        yield visitor
        assert visitor.faults == []
    finally:
        visitor.close()
