"""The page in a real browser: its numbers are the database's, and each of its ways leads somewhere."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from spoolway.producer import Producer
from tests.browsing import PHONE, needs_chromium, visiting
from tests.page_traffic import ANSWER, QUESTION, answered, failed, put, traffic
from tests.servers import ValkeyServer, eventually
from tests.serving_api import ALL, serving_in_thread, settings_for
from tests.stores import Database, Templates, request
from tests.workers import WorkerProcess, ending

pytest_plugins = ["tests.store_fixtures", "tests.page_fixtures"]
pytestmark = needs_chromium

REQUESTS = 180
VIEWS = ("/", "/#/logs", "/#/errors")


@pytest.fixture(scope="module")
def day(templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with the requests of a day."""
    now = datetime.now(UTC)
    with templates.sqlite(tmp_path_factory.mktemp("page")) as database:
        put(database, *traffic(now, REQUESTS), answered(now))
        yield database


@pytest.fixture(scope="module")
def url(day: Database) -> Iterator[str]:
    """The address of a server that shows that day."""
    with serving_in_thread(settings_for(day, day.path.parent)) as address:
        yield address


def one_row(database: Database, sql: str) -> tuple[Any, ...]:
    """Ask SQLite itself."""
    with closing(sqlite3.connect(database.path)) as connection:
        row: tuple[Any, ...] = connection.execute(sql).fetchone()
        return row


def numbers(page: Page) -> dict[str, float]:
    """Return the large number of each card, by its title."""
    found: dict[str, float] = page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('.cards .card')].map((card) =>"
        " [card.querySelector('h2').textContent, Number(card.querySelector('.figure data')?.value)]))"
    )
    return found


def cells(page: Page, heading: str) -> list[list[str]]:
    """Return what the rows of a card's table say."""
    card = page.locator(".card", has=page.get_by_role("heading", name=heading, exact=True))
    rows: list[list[str]] = card.locator("table").evaluate(
        "(table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
    )
    return rows


def test_the_overview_shows_the_numbers_of_the_database(
    browser: Browser, url: str, day: Database
) -> None:
    """Each large number, each chart's sum, each row by model: as SQL counts them in the rows."""
    rows, failing, tokens, cost, co2 = one_row(
        day,
        "SELECT count(*), sum(outcome = 'error'), sum(total_tokens), sum(cost),"
        " (sum(kgco2eq_min) + sum(kgco2eq_max)) / 2 FROM request_logs",
    )
    with visiting(browser, url) as visitor:
        page = visitor.open()
        found = numbers(page)

        assert (found["Requests"], found["Failed requests"]) == (rows, failing)
        assert found["Tokens"] == tokens
        assert found["Cost"] == pytest.approx(cost)
        assert found["CO₂ equivalent"] == pytest.approx(co2)
        api = httpx.get(f"{url}api/usage", params={"from": "24h"}, trust_env=False).json()
        assert found["Duration"] == api["historical"]["percentiles"]["duration_ms"]["p95"]

        of_requests = page.locator(".cards .card").first
        of_requests.get_by_text("Numbers", exact=True).click()
        hours = of_requests.locator(".numbers tbody tr")
        expect(hours.first).to_be_visible()
        assert hours.count() in (25, 26)  # every hour, also those without a request
        counts = [int(text) for text in hours.locator("td:nth-child(2)").all_inner_texts()]
        assert (sum(counts), 0 in counts) == (rows, True)

        for row in cells(page, "By model"):
            requests, failures, tokens = one_row(
                day,
                "SELECT count(*), sum(outcome = 'error'), sum(total_tokens) FROM request_logs"
                f" WHERE model_name = '{row[0]}'",
            )
            assert row[1] == str(requests)
            assert re.match(r"\d+", row[2])[0] == str(failures)  # type: ignore[index]  # it is a number
            assert row[3] == f"{tokens:,}"
        assert sum(int(row[1]) for row in cells(page, "By user")) == rows
        types = {row[0]: int(row[1]) for row in cells(page, "Errors by type")}
        assert sum(types.values()) == one_row(day, "SELECT count(*) FROM error_logs")[0]


def test_a_filter_narrows_everything_and_stays_in_the_address(
    browser: Browser, url: str, day: Database
) -> None:
    """A click on a model counts it alone; the address, opened elsewhere, shows the same."""
    [count] = one_row(day, "SELECT count(*) FROM request_logs WHERE model_name = 'gpt-4o-mini'")
    with visiting(browser, url) as visitor:
        page = visitor.open()
        page.locator("table").get_by_role("link", name="gpt-4o-mini", exact=True).click()
        expect(page.locator(".cards data").first).to_have_text(str(count))
        visitor.settled()
        assert "model=gpt-4o-mini" in page.url
        page.get_by_role("link", name="last 7 d").click()
        page.get_by_role("link", name="Requests", exact=True).click()
        visitor.settled()
        models = page.locator("tbody td:nth-child(3) bdi").all_inner_texts()
        assert set(models) == {"gpt-4o-mini"}
        address = page.url
    with visiting(browser, url) as visitor:
        page = visitor.open(address)
        assert page.locator("tbody td:nth-child(3) bdi").all_inner_texts() == models
        expect(page.get_by_role("link", name="last 7 d")).to_have_attribute("aria-current", "true")
        page.get_by_role("link", name="Remove the filter Model").click()
        expect(page.locator(".chip")).to_have_count(0)


def test_why_a_request_failed_a_minute_ago_is_one_click_away(browser: Browser, url: str) -> None:
    """It is the first of the failures on the overview, with its reason; its page has all attempts."""
    with visiting(browser, url) as visitor:
        page = visitor.open()
        first = page.locator(".failures li").first
        expect(first).to_contain_text("ReadTimeout")
        expect(first).to_contain_text(re.compile(r"1 min( \d+ s)? ago"))
        first.click()
        reason = page.get_by_role("heading", name="Why it failed").locator("..")
        expect(reason).to_contain_text("ReadTimeout")
        expect(reason).to_contain_text("no answer from the backend in 60 s")
        expect(reason).to_contain_text("anthropic-eu")
        steps = page.locator(".timeline .step").all_inner_texts()
        assert [
            next(
                said
                for said in ("Came in", "Attempt 1", "Attempt 2", "Failed, 504")
                if said in step
            )
            for step in steps
        ] == ["Came in", "Attempt 1", "Attempt 2", "Failed, 504"]
        assert "overloaded_error" in steps[1]
        expect(page.locator(".talk").first).to_contain_text(QUESTION)


def test_a_streamed_answer_is_put_together(browser: Browser, url: str) -> None:
    """Its chunks read as one text, after the tool's call and result; facts say tokens and cost."""
    with visiting(browser, url) as visitor:
        page = visitor.open("/#/logs?user=bao&outcome=success")
        page.locator("tbody a").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("gpt-4o-mini")
        turns = page.locator(".turn")
        expect(turns).to_have_count(5)
        assert turns.nth(4).locator("pre").inner_text() == ANSWER
        expect(turns.nth(2)).to_contain_text("orders")
        expect(turns.nth(2).locator(".code")).to_have_text(
            '{\n  "week": 46,\n  "late_only": true\n}'
        )
        expect(turns.nth(3)).to_contain_text('"late": 31')
        facts = page.get_by_role("complementary", name="Facts")
        expect(facts).to_contain_text("412")
        expect(facts).to_contain_text("0.0000966")
        expect(facts).to_contain_text("said by the proxy")


def test_lists_go_older_and_newer_and_are_exported(
    browser: Browser, url: str, day: Database
) -> None:
    """Every request once, page after page and back; the export has them all."""
    [rows] = one_row(day, "SELECT count(*) FROM request_logs")
    with visiting(browser, url) as visitor:
        page = visitor.open("/#/logs")
        times: list[list[str]] = []

        def read() -> list[str]:
            visitor.settled()
            found: list[str] = page.locator("tbody a").evaluate_all(
                "(links) => links.map((link) => link.getAttribute('href').split('?')[0])"
            )
            return found

        times.append(read())
        while page.get_by_role("link", name="Older →").count():
            page.get_by_role("link", name="Older →").click()
            expect(page.locator("tbody a").first).not_to_have_attribute("href", times[-1][0])
            times.append(read())
        assert len({one for each in times for one in each}) == rows
        for expected in reversed(times[:-1]):
            page.get_by_role("link", name="← Newer").click()
            expect(page.locator(f'tbody tr:first-child a[href^="{expected[0]}"]')).to_be_visible()
            assert read() == expected
        page.get_by_text("Export", exact=True).click()
        with page.expect_download() as waiting:
            page.get_by_role("link", name="CSV").click()
        text = Path(waiting.value.path()).read_text()
        assert len(text.splitlines()) == rows + 1


@pytest.mark.chaos
def test_what_comes_in_appears_while_one_watches(
    browser: Browser, templates: Templates, tmp_path: Path
) -> None:
    """Live: a new request is at the top within seconds, once; and nothing that is not asked for."""
    with (
        templates.sqlite(tmp_path) as database,
        serving_in_thread(settings_for(database, tmp_path)) as address,
        visiting(browser, address) as visitor,
    ):
        put(database, request(model_name="before", request_time=datetime.now(UTC)))
        page = visitor.open("/#/logs?outcome=error")
        page.get_by_role("switch", name="Live").click()
        expect(page.get_by_role("switch", name="Live")).to_have_attribute("aria-checked", "true")
        visitor.settled()
        put(database, request(model_name="fine"), *failed(datetime.now(UTC)))
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody tr")).to_contain_text("claude-sonnet-4-5")
        put(database, request(model_name="later", outcome="error"))
        expect(page.locator("tbody tr").first).to_contain_text("later")
        expect(page.locator("tbody tr")).to_have_count(2)


def test_it_is_used_without_a_mouse(browser: Browser, url: str) -> None:
    """Tab reaches what there is, in order and visibly; Enter, Escape, the arrows and / do the rest."""
    with visiting(browser, url) as visitor:
        page = visitor.open()
        page.keyboard.press("Tab")
        expect(page.locator("#skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        assert "#/" in page.url or "#" not in page.url  # it has not become another view
        failure = page.locator(".failures a").first
        for _ in range(40):
            page.keyboard.press("Tab")
            if failure.evaluate("(link) => link === document.activeElement"):
                break
        expect(failure).to_be_focused()
        outline = failure.evaluate("(link) => getComputedStyle(link).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Why it failed")).to_be_visible()
        expect(page.locator("#main")).to_be_focused()

        visitor.open("/#/logs")
        page.keyboard.press("/")
        expect(page.get_by_label("Text in bodies, answers, errors")).to_be_focused()
        page.keyboard.type("customs/")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("q=customs"))
        visitor.open("/#/logs")
        page.locator("tbody a").first.focus()
        page.keyboard.press("ArrowDown")
        expect(page.locator("tbody tr:nth-child(2) a")).to_be_focused()
        page.get_by_text("Custom", exact=True).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_label("From (UTC)")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_label("From (UTC)")).to_be_hidden()
        expect(page.get_by_text("Custom", exact=True)).to_be_focused()

        unnamed: list[str] = page.evaluate(
            "() => [...document.querySelectorAll('input, select, button, a, summary, table')].filter("
            "(one) => !one.labels?.length && !one.ariaLabel && !one.textContent.trim() && !one.caption)"
            ".map((one) => one.outerHTML)"
        )
        assert unnamed == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, url: str) -> None:
    """At 360 pixels no view is wider than the screen, and what is pressed is large enough."""
    with visiting(browser, url, viewport=PHONE, has_touch=True, is_mobile=True) as visitor:
        page = visitor.open()
        request_page = page.locator(".failures a").first.get_attribute("href")
        for where in (*VIEWS, f"/{request_page}"):
            page = visitor.open(where)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], where
        small: list[str] = page.evaluate(
            "() => [...document.querySelectorAll('.top a, .top button, .bar button')]"
            ".filter((one) => !one.hidden && one.getBoundingClientRect().height < 24).map((one) => one.outerHTML)"
        )
        assert small == []


@pytest.mark.chaos
def test_light_and_dark_are_as_the_system_says_and_as_one_likes(browser: Browser, url: str) -> None:
    """The system's choice at first; the switch's from then on, also after the page is loaded anew."""
    ground = "() => getComputedStyle(document.body).backgroundColor"
    with visiting(browser, url, color_scheme="dark") as visitor:
        page = visitor.open()
        dark = page.evaluate(ground)
        page.get_by_role("button", name="Light colours").click()
        light = page.evaluate(ground)
        page.reload()
        visitor.settled()
        assert page.evaluate(ground) == light
        page.get_by_role("button", name="Dark colours").click()
        assert page.evaluate(ground) == dark
        brightness = [sum(map(int, re.findall(r"\d+", one)[:3])) for one in (dark, light)]
        assert brightness[0] < 100
        assert brightness[1] > 600


def test_a_token_is_asked_for_once_and_kept_in_the_tab(
    browser: Browser, day: Database, tmp_path: Path
) -> None:
    """401 opens one dialog, a wrong one says so, the right one shows the page; an export sends it."""
    settings = settings_for(day, tmp_path, api_token=ALL)
    with serving_in_thread(settings) as address, visiting(browser, address) as visitor:
        page = visitor.page
        page.goto("/")
        expect(page.get_by_role("dialog")).to_have_count(1)
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("not accepted")
        page.get_by_role("textbox", name="Token").fill(ALL)
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_have_count(0)
        visitor.settled()
        expect(page.locator(".failures li").first).to_be_visible()
        page.reload()
        visitor.settled()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert ALL not in page.content()
        assert page.evaluate("() => JSON.stringify(localStorage)").find(ALL) == -1
        visitor.open("/#/errors")
        page.get_by_text("Export", exact=True).click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="NDJSON, a line each").click()
        lines = Path(waiting.value.path()).read_text().splitlines()
        assert len(lines) == one_row(day, "SELECT count(*) FROM error_logs")[0]
        page.get_by_role("button", name="Forget token").click()
        expect(page.get_by_role("dialog")).to_have_count(1)
        page.get_by_role("button", name="Not now").click()
        expect(page.get_by_text("A token is needed").first).to_be_visible()


@pytest.mark.chaos
def test_a_token_of_some_is_told_what_it_does_not_see(
    browser: Browser, day: Database, tmp_path: Path
) -> None:
    """Its own rows alone, and instead of the queue a line that says why there is none."""
    [rows] = one_row(day, "SELECT count(*) FROM request_logs WHERE user_id = 'chidi'")
    tokens = [{"name": "chidi", "token": "of-chidi-only-00001", "users": ["chidi"]}]
    settings = settings_for(day, tmp_path, api_tokens=tokens)
    with serving_in_thread(settings) as address, visiting(browser, address) as visitor:
        visitor.page.add_init_script(
            "sessionStorage.setItem('spoolway.token', 'of-chidi-only-00001')"
        )
        page = visitor.open()
        assert numbers(page)["Requests"] == rows
        expect(page.locator(".strip")).to_contain_text("tokens that see everything")
        assert [row[0] for row in cells(page, "By user")] == ["chidi"]


def test_without_a_database_every_view_says_so_and_comes_back_by_itself(
    browser: Browser, templates: Templates, tmp_path: Path
) -> None:
    """No view is blank, no number is made up; when it is there, the page has it without a reload."""
    with templates.sqlite(tmp_path) as database, ExitStack() as running:
        away = database.path.rename(tmp_path / "away.db")
        address = running.enter_context(serving_in_thread(settings_for(database, tmp_path)))
        with visiting(browser, address) as visitor:
            page = visitor.page
            for where in (*VIEWS, "/#/request/01a200db-b2c6-770b-8c79-044fc0129e4d"):
                visitor.open(where)
                notice = page.get_by_role("alert").filter(has_text="not available")
                expect(notice.first).to_be_visible()
                assert str(tmp_path) not in page.content()
            away.rename(database.path)
            put(database, request(model_name="back"))
            page.get_by_role("button", name="Try again").click()
            expect(page.get_by_text("there is no request with this id")).to_be_visible()
            visitor.open("/#/logs")
            expect(page.locator("tbody")).to_contain_text("back")

            running.close()  # now the server itself is away
            page.get_by_role("link", name="Errors").click()
            expect(page.get_by_text("Spoolway does not answer")).to_be_visible()


def test_it_is_loaded_with_few_requests_and_nothing_from_elsewhere(
    browser: Browser, url: str
) -> None:
    """Each file once, all of them listed in the document, and each question to the API once."""
    with visiting(browser, url) as visitor:
        visitor.open()
        assets = [path for path in visitor.requested if path.startswith("/assets/")]
        asked = [path for path in visitor.requested if path.startswith("/api/")]
        assert len(assets) == len(set(assets))
        assert len(asked) <= 8
        document = httpx.get(url, trust_env=False).text
        assert [path for path in assets if path not in document] == []


@pytest.mark.chaos
def test_real_traffic_is_on_the_page_within_seconds(
    browser: Browser, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Recorded by a producer, through Valkey and a worker: a failure is on the overview, and why."""
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    worker = WorkerProcess(database, valkey.url, tmp_path / "var").started()
    settings = settings_for(database, tmp_path / "var", redis_url=valkey.url)
    with (
        ending(worker),
        serving_in_thread(settings) as address,
        visiting(browser, address) as visitor,
    ):
        producer = Producer(valkey.url)
        for number in range(20):
            with producer.record(
                model_name="m", method="POST", path="/v1/chat/completions"
            ) as record:
                record.set(http_status=200, total_tokens=number)
                if number == 19:
                    record.attempt("eu", TimeoutError("no answer from eu"))
                    record.finish("error")
        producer.close()

        def is_there() -> bool:
            return numbers(visitor.open(f"/?{datetime.now(UTC).timestamp()}")).get("Requests") == 20

        eventually(is_there, timeout=20, what="the requests on the page")
        page = visitor.page
        assert numbers(page)["Failed requests"] == 1
        assert numbers(page)["Tokens"] == sum(range(20))
        expect(page.locator(".pipeline")).to_contain_text("Queue")
        expect(page.locator(".pipeline")).to_contain_text("1 ")
        page.locator(".failures a").first.click()
        expect(page.get_by_role("heading", name="Why it failed").locator("..")).to_contain_text(
            "no answer from eu"
        )


@pytest.mark.chaos
def test_it_is_there_within_a_second(browser: Browser, url: str) -> None:
    """From an empty cache to the overview's last number: a second, when nothing else is done here."""
    took = []
    for _ in range(7):
        with visiting(browser, url) as visitor:
            visitor.open()
            took.append(visitor.page.evaluate("() => performance.now()"))
    assert min(took) <= 1_000, took
