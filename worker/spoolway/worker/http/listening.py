"""The listening socket, and what is said where there can be none."""

import errno
import os
import socket
from dataclasses import dataclass

from spoolway.worker.config import UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is to listen, and what the operator calls that."""

    what: str
    """Who cannot listen, at the start of a message."""
    host: str
    port: int
    """0 takes a free one."""
    host_setting: str
    port_setting: str
    backlog: int
    """Connections that may wait until they are taken."""


def listen(place: Place) -> socket.socket:
    """Open the socket. Raises UsageError."""
    where = f"{place.host}:{place.port}"
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family, backlog=place.backlog)
    except (socket.gaierror, UnicodeError):
        raise UsageError(
            f"{place.host_setting}: {place.host!r} is no address of this machine: give one, such as "
            "127.0.0.1, or 0.0.0.0 for all of them"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"{place.port_setting}: {where} is in use by another process: set it to another "
                "port, or to 0 for a free one"
            ) from None
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(
            f"{place.what} cannot listen on {where} ({reason}): give another address or port "
            f"in {place.host_setting} and {place.port_setting}"
        ) from None


def shown_address(listener: socket.socket) -> str:
    """Return where a socket listens, as host:port."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
