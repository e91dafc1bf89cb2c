"""TLS to PostgreSQL: what each sslmode vouches for, for the store and for migrations alike."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from spoolway import migrations
from spoolway.worker.config import database_url
from spoolway.worker.connecting import explain
from spoolway.worker.stores import PostgresStore, is_away
from tests.servers import (
    Certificate,
    Pgbouncer,
    PostgresServer,
    make_certificate,
    tls_postgres_binaries,
)
from tests.stores import request


@pytest.fixture
def certificate(private_folder: Path) -> Certificate:
    """A certificate for the name localhost alone; skips where no server takes it."""
    if not tls_postgres_binaries():
        pytest.skip("no PostgreSQL with TLS here (the wheels' have none), or no openssl command")
    return make_certificate(private_folder / "certificates", names="DNS:localhost")


async def encrypted(url: str) -> int:
    """Migrate and write one event; return how many of the server's TLS connections are ours."""
    await migrations.upgrade(database_url(url))
    store = PostgresStore(database_url(url), pool_size=1, write_timeout=10)
    try:
        assert (await store.write([request()])).inserted == 1
        async with store._connection() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM pg_stat_ssl WHERE ssl"))
    finally:
        await store.close()


async def refusal(url: str) -> tuple[str, bool]:
    """What an operator is told when this URL is used, and whether a worker waits for its server."""
    try:
        await encrypted(url)
    except migrations.MigrationError as error:
        return str(error), is_away(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, a person must be told
        return explain(error, database_url(url)) or repr(error), is_away(error)
    pytest.fail(f"{url} was not refused")


async def test_each_sslmode_vouches_for_what_it_says(
    start_postgres: Callable[..., PostgresServer], certificate: Certificate, private_folder: Path
) -> None:
    """Right authorities, name and client: trusted; one of them wrong, or no TLS: refused in one line."""
    clients = make_certificate(private_folder / "clients", client="worker")
    server = start_postgres(
        next(iter(tls_postgres_binaries())), certificate=certificate, clients=clients
    )
    other = make_certificate(private_folder / "others", names="DNS:localhost")
    own = urlencode({"sslcert": str(clients.certificate), "sslkey": str(clients.key)})
    plain = f"{server.url()}?{own}"
    by_name = plain.replace("127.0.0.1", "localhost")
    ca, wrong_ca = (urlencode({"sslrootcert": str(one.ca)}) for one in (certificate, other))

    for works in (
        f"{by_name}&sslmode=verify-full&{ca}",
        f"{plain}&sslmode=verify-ca&{ca}",
        f"{plain}&sslmode=require",
        f"{plain}&ssl=require",
    ):
        assert await encrypted(works) == 1, works
    for url, said in {
        f"{plain}&sslmode=verify-full&{ca}": "IP address mismatch, certificate is not valid for",
        f"{by_name}&sslmode=verify-full&{wrong_ca}": "unable to get local issuer certificate",
        f"{plain}&sslmode=verify-ca&{wrong_ca}": "unable to get local issuer certificate",
        f"{plain}&sslmode=require&{wrong_ca}": "unable to get local issuer certificate",  # as libpq
        f"{plain}&sslmode=verify-full&sslrootcert=/nowhere/ca.crt": "/nowhere/ca.crt: No such file",
        f"{plain}&sslmode=disable": "no encryption",
        f"{server.url()}?sslmode=require": "requires a valid client certificate",
    }.items():
        told, is_outage = await refusal(url)
        assert said in told
        assert not is_outage, "a worker must not start with it, and spool for ever"
        assert "\n" not in told
        assert server.password not in told


async def test_pgbouncer_with_tls_is_verified_as_a_server_is(
    start_pgbouncer: Callable[..., Pgbouncer],
    newest_postgres: PostgresServer,
    newest_postgres_url: str,
    certificate: Certificate,
) -> None:
    """TLS to the pooler, with full verification: migrations and the store work through it."""
    pooler = start_pgbouncer(newest_postgres, certificate=certificate)
    url = pooler.url(newest_postgres_url).replace("127.0.0.1", "localhost")
    ca = urlencode({"sslrootcert": str(certificate.ca)})

    await encrypted(f"{url}?sslmode=verify-full&{ca}")  # between pooler and server there is none
    told, _ = await refusal(f"{url}?sslmode=disable")
    assert "SSL required" in told
