"""What adapters have recorded of requests, read from the stream."""

from spoolway.schema import DEFAULT_STREAM, ErrorEvent, RequestEvent
from tests.pushed import events
from tests.servers import ValkeyServer


class Recorded:
    """The requests and the errors that are on the stream now."""

    def __init__(self, server: ValkeyServer, stream: str = DEFAULT_STREAM) -> None:
        found = events(server, stream)
        self.requests = [event for event in found if isinstance(event, RequestEvent)]
        self.errors = [event for event in found if isinstance(event, ErrorEvent)]

    @property
    def request(self) -> RequestEvent:
        """The only request."""
        [request] = self.requests
        return request

    @property
    def error(self) -> ErrorEvent:
        """The only error."""
        [error] = self.errors
        return error
