"""What a log says is text: on every view of the page, whatever is in whichever field."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import Visitor, needs_chromium, visiting
from tests.page_corpus import CORPUS, OVERRIDE, hostile
from tests.page_traffic import put
from tests.serving_api import serving_in_thread, settings_for
from tests.stores import Database, Templates

pytest_plugins = ["tests.store_fixtures", "tests.page_fixtures"]
pytestmark = needs_chromium

TOGETHER = tuple("\n".join(CORPUS[first : first + 9]) for first in range(0, len(CORPUS), 9))
"""The same in a few requests: these are written last."""
OPEN_ALL = (
    "() => { for (let round = 0; round < 4; round += 1)"
    " for (const one of document.querySelectorAll('details:not([open])')) one.open = true;"
    " for (const one of document.querySelectorAll('button.more')) one.click() }"
)
OWN = {
    *("a", "article", "aside", "b", "bdi", "body", "button", "caption", "code", "data", "datalist"),
    *("dd", "details", "div", "dl", "dt", "form", "h1", "h2", "h3", "head", "header", "html", "i"),
    *(
        "input",
        "label",
        "li",
        "link",
        "main",
        "meta",
        "nav",
        "noscript",
        "ol",
        "option",
        "p",
        "path",
    ),
    *("pre", "script", "section", "select", "span", "summary", "svg", "table", "tbody", "td", "th"),
    *("thead", "time", "wbr", "title", "tr", "ul", "canvas"),
}
"""The elements that the page makes."""


@pytest.fixture(scope="module")
def attacked(templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with each text of the corpus in every field."""
    with templates.sqlite(tmp_path_factory.mktemp("attacked")) as database:
        put(database, *(item for text in (*CORPUS, *TOGETHER) for item in hostile(text)))
        yield database


@pytest.fixture(scope="module")
def url(attacked: Database) -> Iterator[str]:
    """The address of a server that shows it."""
    with serving_in_thread(settings_for(attacked, attacked.path.parent, api_rate=0)) as address:
        yield address


CHECK = """() => {
  const all = [...document.querySelectorAll('*')];
  const handlers = all.flatMap((one) => [...one.attributes])
    .filter(({ name }) => name.startsWith('on') || ['src', 'srcset', 'srcdoc', 'action', 'formaction'].includes(name))
    .filter((one) => one.ownerElement.localName !== 'script')
    .map(({ name, value }) => `${name}=${value}`);
  const links = [...document.querySelectorAll('a[href]')].map((one) => one.getAttribute('href'))
    .filter((href) => !/^#/.test(href) && !/^\\/api\\/(logs|errors)\\?/.test(href));
  return { elements: [...new Set(all.map((one) => one.localName))], handlers, links,
    polluted: ({}).polluted ?? null, title: document.title };
}"""


def check(visitor: Visitor, where: str) -> None:
    """Look at a view with everything on it opened; what it did is found at the end of the visit."""
    page = visitor.open(where)
    page.evaluate(OPEN_ALL)
    checked = page.evaluate(CHECK)
    assert set(checked["elements"]) <= OWN, where
    assert (checked["handlers"], checked["links"]) == ([], []), where
    assert checked["title"].endswith("Spoolway"), where
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280, where


def requests_in(visitor: Visitor) -> list[str]:
    """Return where the pages of all requests are, the newest first."""
    page = visitor.open("/#/logs")
    found: list[str] = page.locator("tbody a").evaluate_all(
        "(links) => links.map((link) => `/${link.getAttribute('href')}`)"
    )
    assert len(found) == len(CORPUS) + len(TOGETHER)
    return found


def test_nothing_of_a_log_is_run_loaded_or_followed(browser: Browser, url: str) -> None:
    """No dialog, no request to elsewhere, no element, attribute or link that is not the page's."""
    with visiting(browser, url) as visitor:
        of_all_texts = requests_in(visitor)[: len(TOGETHER)]
        for where in ("/", "/#/logs", "/#/errors", *of_all_texts):
            check(visitor, where)


@pytest.mark.chaos
def test_nothing_of_each_text_is_run_loaded_or_followed(browser: Browser, url: str) -> None:
    """The same of each text of the corpus by itself, alone in every field."""
    with visiting(browser, url) as visitor:
        found = requests_in(visitor)
        for where in ("/#/logs?q=script", "/#/logs?model=%3Cscript%3E", *found[len(TOGETHER) :]):
            check(visitor, where)


def test_what_hides_or_turns_the_text_is_shown_by_its_number(browser: Browser, url: str) -> None:
    """U+202E is a mark that one sees, in the list, in the title and in what was said."""
    with visiting(browser, url) as visitor:
        page = visitor.open("/#/logs")
        row = page.locator("tbody tr", has_text=re.compile("safeU.202Eexe")).last
        expect(row).to_be_visible()
        row.locator("a").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("safeU+202Eexe.gnp")
        assert "safe[U+202E]exe.gnp" in page.title()
        visitor.settled()
        page.evaluate(OPEN_ALL)
        assert OVERRIDE[4] not in page.locator("body").inner_text()
        assert OVERRIDE[4] not in page.content()


def test_what_is_huge_is_cut_until_one_wants_it(browser: Browser, url: str) -> None:
    """30,000 characters are a beginning and a button; then all of them."""
    with visiting(browser, url) as visitor:
        page = visitor.open("/#/logs")
        page.locator("tbody tr", has_text="AAAAAAAA").last.locator("a").first.click()
        visitor.settled()
        said = page.locator(".turn .cut").first
        assert len(said.locator("pre").inner_text()) < 7_000
        said.get_by_role("button", name="Show all (30.0 kB)").click()
        assert len(said.locator("pre").inner_text()) == 30_000
        expect(said.get_by_role("button")).to_have_count(0)


@pytest.mark.chaos
def test_a_hostile_address_shows_the_page_and_nothing_else(browser: Browser, url: str) -> None:
    """Whatever somebody is sent as a link: no script, no way out, at worst a notice."""
    with visiting(browser, url) as visitor:
        for where in (
            "/#/<img src=x onerror=alert(1)>",
            "/#/request/..%2F..%2Fapi%2Fstatus",
            "/#/request/%3Cscript%3Ealert(1)%3C/script%3E",
            "/#/__proto__?model=__proto__",
            "/#/logs?q=%3Cscript%3Ealert(1)%3C/script%3E&status=%3Cb%3E",
            "/#/overview?from=%3Cscript%3E&model=%22%3E%3Csvg%20onload=alert(1)%3E",
            "/#/logs?after=nonsense",
            "/#/%E0%A4%A",
        ):
            page = visitor.open(where)
            assert set(page.evaluate(CHECK)["elements"]) <= OWN, where
            expect(page.locator("header.top")).to_be_visible()
