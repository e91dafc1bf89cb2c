"""Something that fails for a while: logged when it starts, now and then, and when it ends."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger("spoolway.drain")

_LOG_EVERY: Final = 30.0


@dataclass(slots=True)
class Outage:
    """Whether one thing works; `since` is when it began to fail, None while it does not."""

    what: str
    clock: Callable[[], float]
    since: float | None = None
    logged: float = 0.0

    def failed(self, error: BaseException, next_step: str) -> None:
        """Note a failure, and say what happens next."""
        now = self.clock()
        if self.since is None:
            self.since = now
        elif now - self.logged < _LOG_EVERY:
            return
        self.logged = now
        log.warning("%s: %s: %s; %s", self.what, type(error).__name__, error, next_step)

    def worked(self) -> None:
        """Note that it works."""
        if self.since is not None:
            log.warning("%s: works again after %.1f s", self.what, self.clock() - self.since)
            self.since = None
