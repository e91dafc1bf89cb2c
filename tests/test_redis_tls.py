"""Redis over TLS: the certificate and its host are verified, and a mistake is one line."""

from pathlib import Path
from urllib.parse import quote

import pytest

from spoolway.producer import Producer
from tests.commands import Ended, run
from tests.servers import ValkeyServer, eventually, make_certificate


def refused_worker(url: str, folder: Path) -> str:
    """The one line with which a worker refuses this Redis."""
    done: Ended = run("worker", "--dir", str(folder), SPOOLWAY_STARTUP_TIMEOUT="0", REDIS_URL=url)
    assert done.code == 2
    *_, line = done.err.splitlines()
    return line


def test_certificate_is_verified_by_worker_status_and_producer(
    tls_server: ValkeyServer, tmp_path: Path, folder: Path
) -> None:
    """The right authority is taken; a wrong one, no TLS and TLS where there is none are refused."""
    place = f"127.0.0.1:{tls_server.port}/0"
    other = make_certificate(tmp_path / "other").ca
    trusted = f"{tls_server.url}&ssl_cert_reqs=required&ssl_check_hostname=true"
    shown = run("status", "--json", "--dir", str(tmp_path), REDIS_URL=trusted)
    assert shown.json["redis"]["error"] is None
    with Producer(trusted) as producer:
        assert producer.emit({"type": "request"})
        assert producer.flush()

    for url, advice in (
        (f"rediss://{place}?ssl_ca_certs={quote(str(other))}", "name its authority"),
        (f"redis://{place}", "rediss:// for a port that speaks TLS"),
    ):
        assert advice in refused_worker(url, folder)
        shown = run("status", "--dir", str(tmp_path), REDIS_URL=url)
        assert advice in shown.out.splitlines()[0]
        with Producer(url) as producer:
            assert producer.emit({"type": "request"})
            eventually(lambda: advice in (producer.stats.last_error or ""))  # noqa: B023 - called in this round only
            producer.close(0)


@pytest.mark.chaos  # it takes the time that a connection may take
def test_tls_to_a_server_without_it_is_one_line(valkey: ValkeyServer, folder: Path) -> None:
    """The line says that this port does not speak TLS, not which version number was wrong."""
    line = refused_worker(f"rediss://127.0.0.1:{valkey.port}/0", folder)
    assert "with rediss://, this port does not speak TLS" in line


@pytest.mark.parametrize("option", ["ssl_ca_certs=/no/such/file.pem", "ssl_cert_reqs=perhaps"])
def test_an_option_of_tls_that_cannot_work_is_one_line(
    option: str, valkey: ValkeyServer, folder: Path
) -> None:
    """A file that is not there, and a word that is none."""
    line = refused_worker(f"rediss://127.0.0.1:{valkey.port}/0?{option}", folder)
    assert "REDIS_URL" in line
    assert "Traceback" not in line
