"""Fault 3: the connection ends around a COMMIT, so that nobody knows whether it was done."""

import pytest

from spoolway.schema import new_id
from tests.faults.proxy import Cut, Proxy
from tests.faults.site import Site, error_line, rises

REPAIRED = [
    b'{"type":"request","id":"%s","body":1,"response":{"nan":NaN}}',
    b'{"type":"request","id":"%s","body":2,"response":"\\u0000"}',
    b'{"type":"request","id":"%s","body":3,"response":"\\ud800"}',
    b'{"type":"request","id":"%s","body":4,"response":1e200000}',
    b'{"type":"request","id":"%s","body":5,"unknown":[1],"http_status":"200"}',
]
"""Lines that are stored otherwise than they were sent: still the same when they come again."""


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param("before it arrives", marks=pytest.mark.chaos),
        pytest.param("at once", marks=pytest.mark.chaos),
        "after its reply was sent",
    ],
)
def test_ambiguous_commit_leaves_exactly_one_row(
    cut: Cut, proxied_site: Site, proxy: Proxy
) -> None:
    """COMMIT lost, done unheard, or cut off at once: it is tried again, and each event is one row."""
    site = proxied_site
    worker = site.worker().started()
    site.send_requests(100)
    site.settle()
    for expected in (1, 2, 3):
        proxy.cut_at_commit = cut
        lines = [line % str(new_id()).encode() for line in REPAIRED]
        site.send([*lines, error_line(error_message="x")], per_frame=3)
        site.send_requests(150, per_frame=50)
        rises(lambda: proxy.cuts, expected, what="the cut")
        site.settle()
    site.proven(fired=proxy.cuts == 3)
    assert worker.terminate() == 0
