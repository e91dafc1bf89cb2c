"""Where the page is listened for: on this machine alone, unless there are tokens."""

import ipaddress
import socket
from typing import Final

from spoolway.worker.config import Settings, UsageError
from spoolway.worker.http.listening import Place, listen, shown_address

MOST_CONNECTIONS: Final = 128


def listen_for(settings: Settings) -> socket.socket:
    """Open the socket that the settings name.

    Raises:
        UsageError: it cannot be had, or everybody could read everything there.
    """
    if not is_loopback(settings.api_host):
        _require_token(settings)
    listener = listen(
        Place(
            "the page",
            settings.api_host,
            settings.api_port,
            "SPOOLWAY_API_HOST",
            "SPOOLWAY_API_PORT",
            MOST_CONNECTIONS,
        )
    )
    try:
        if not is_loopback(listener.getsockname()[0]):  # localhost is what /etc/hosts says it is
            _require_token(settings)
    except UsageError:
        listener.close()
        raise
    return listener


def _require_token(settings: Settings) -> None:
    if not settings.api_token and not settings.api_tokens:
        raise UsageError(
            f"SPOOLWAY_API_HOST: {settings.api_host} is not this machine alone, and everybody who "
            "reaches it could read all logs: set SPOOLWAY_API_TOKEN (openssl rand -hex 24 makes one)"
        )


def shown_url(listener: socket.socket) -> str:
    """Return the address of the page."""
    return f"http://{shown_address(listener)}/"


def is_loopback(host: str) -> bool:
    """Whether an address, as text, reaches nobody but this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
