"""pgbouncer in transaction mode, as Debian ships it, with nothing set for our sake on either side."""

import asyncio
from collections.abc import Callable

from spoolway import migrations
from spoolway.worker.config import database_url
from spoolway.worker.stores import PostgresStore
from spoolway.worker.stores.partitions import utc_today
from tests.servers import Pgbouncer, PostgresServer
from tests.stores import request

Start = Callable[..., Pgbouncer]


async def test_everything_a_store_does_works_on_changing_server_connections(
    start_pgbouncer: Start, newest_postgres: PostgresServer, newest_postgres_url: str
) -> None:
    """Migrations, partitions, COPY, duplicates, conflicts and links, of three clients on two connections."""
    # A second pool of the same database takes turns on the same server connections.
    pooler = start_pgbouncer(newest_postgres, settings={"default_pool_size": 2})
    url = database_url(pooler.url(newest_postgres_url))
    done = await asyncio.gather(*(migrations.upgrade(url) for _ in range(3)))
    assert sum(one.changed for one in done) == 1
    assert await migrations.check(url) == []

    options = {"connect_args": {"server_settings": {"statement_timeout": "5s"}}}
    stores = [PostgresStore(url, pool_size=3, write_timeout=30, options=options) for _ in range(3)]
    try:
        made = await asyncio.gather(*(store.prepare_days(utc_today(), 2) for store in stores))
        assert sum(made) == 4
        for _ in range(5):
            batches = [[request(path=f"/{n}") for n in range(20)] for _ in range(6)]
            twice = [*batches, *batches]  # a redelivery beside its first: through staging
            written = await asyncio.gather(
                *(stores[n % 3].write(batch) for n, batch in enumerate(twice))
            )
            assert sum(one.inserted for one in written) == 120
            assert sum(one.duplicates for one in written) == 120
            await asyncio.gather(*(store.link_errors() for store in stores))
    finally:
        await asyncio.gather(*(store.close() for store in stores))
