"""Real servers for tests and benchmarks, on loopback, in a folder, owned by one process.

Nothing here may outlive the process that started it, and nothing here knows Spoolway.
"""

from tests.servers.found import (
    postgres_binaries,
    redis_binaries,
    tls_binaries,
    tls_postgres_binaries,
)
from tests.servers.local import LocalServer, ServerFailedError
from tests.servers.pgbouncer import Pgbouncer, pgbouncer_binary
from tests.servers.postgres import PostgresServer
from tests.servers.tls import Certificate, make_certificate
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import aeventually, eventually

__all__ = [
    "Certificate",
    "LocalServer",
    "Pgbouncer",
    "PostgresServer",
    "ServerFailedError",
    "ValkeyServer",
    "aeventually",
    "eventually",
    "make_certificate",
    "pgbouncer_binary",
    "postgres_binaries",
    "redis_binaries",
    "tls_binaries",
    "tls_postgres_binaries",
]
