"""How the demo says that it cannot go on."""


class Failed(Exception):
    """The demo cannot go on; the message is for the reader."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
