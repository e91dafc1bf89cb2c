"""Fault 15: the clock of a producer or of a worker is a day off."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.oracle import key_and_hash
from tests.faults.proxy import Proxy
from tests.faults.site import Site
from tests.stores import id_at
from tests.workers import drained, push, request_line, rows, spooled

DAY = timedelta(days=1)


def lines_at(moment: datetime, count: int = 100) -> list[bytes]:
    """Requests that a producer minted at this time, by its clock."""
    return [request_line(id=id_at(moment), body={"n": n}) for n in range(count)]


def has_partition(site: Site, moment: datetime) -> bool:
    """Tell whether there is a partition for the day of this time."""
    name = f"request_logs_p{moment:%Y%m%d}"
    return rows(site.database, f"SELECT to_regclass('{name}') IS NOT NULL")[0][0] is True


@pytest.mark.parametrize(
    "off",
    [
        pytest.param(-DAY, id="a day late"),
        pytest.param(DAY, id="a day early", marks=pytest.mark.chaos),
    ],
)
def test_producer_whose_clock_is_a_day_off_is_stored_once(off: timedelta, site: Site) -> None:
    """Ids of yesterday and of tomorrow: stored, once even when they come twice, in their day."""
    moment = datetime.now(UTC) + off
    lines = lines_at(moment)
    site.worker().started()
    site.send(lines)
    site.settle()
    push(site.valkey, lines)  # redelivered
    site.proven(fired=key_and_hash(lines[0])[0] in dict(site.look().rows))
    assert has_partition(site, moment)


@pytest.mark.parametrize("off", [-DAY, DAY], ids=["a day behind", "a day ahead"])
@pytest.mark.chaos
def test_worker_whose_clock_is_a_day_off_stores_once(
    off: timedelta, proxied_site: Site, proxy: Proxy
) -> None:
    """It spools, replays and makes partitions by a wrong clock; another one comes after it."""
    site = proxied_site
    launcher = "shifted_worker.py", str(off.total_seconds()), "1"
    wrong = site.worker(*launcher).started()
    now = datetime.now(UTC)
    for moment in (now, now - DAY, now + DAY - timedelta(minutes=1)):
        site.send(lines_at(moment))
    drained(site.valkey, wrong)
    proxy.refuse()
    spooled_lines = site.send(lines_at(now))
    drained(site.valkey, wrong)
    assert spooled(site.folder) == len(spooled_lines)
    [segment] = (site.folder / "spool").iterdir()
    assert segment.name.startswith(f"{now + off:%Y%m%d}"), "its clock was off"
    assert wrong.terminate() == 0
    proxy.restore()
    site.worker().started()
    site.settle()
    push(site.valkey, spooled_lines)
    site.proven(fired=has_partition(site, now + off))


def test_id_far_outside_the_window_is_a_dead_letter_that_says_so(site: Site) -> None:
    """No partition is made for a clock that cannot be right; the event is kept."""
    old, new = datetime.now(UTC) - 401 * DAY, datetime.now(UTC) + 3 * DAY
    site.worker().started()
    lines = site.send([*lines_at(old, 1), *lines_at(new, 1)])
    site.send_requests(10)
    site.proven(fired=True, dead=[key_and_hash(line)[0] for line in lines])
    assert not has_partition(site, old)
    assert not has_partition(site, new)
