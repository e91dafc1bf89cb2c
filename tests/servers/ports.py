"""A loopback port that stays ours while its server is down."""

import os
import socket
import sys
import weakref


class ReservedPort:
    """A free TCP port on 127.0.0.1, kept until this object is gone.

    On Linux a socket stays bound to it without listening, so that between a server's death and
    its return nobody else is given the port: not another test worker's server, and not a client's
    outgoing connection either (a client that reconnects in a loop to a dead port of the ephemeral
    range would otherwise, one day, be connected to itself). The server binds beside it because
    both set SO_REUSEADDR and only one listens. Elsewhere the port is only probed, and
    whoever starts a server on it must be ready to try another one.
    """

    def __init__(self, port: int = 0) -> None:
        """Raise OSError when `port` is given and taken."""
        with socket.socket() as probe:
            # Bound without SO_REUSEADDR: this fails when anybody else, listening or not, has it.
            probe.bind(("127.0.0.1", port))
            self.number: int = probe.getsockname()[1]
            if sys.platform == "linux":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                weakref.finalize(self, os.close, probe.detach())
