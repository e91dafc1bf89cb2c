"""Something that fails for a while: logged when it starts, now and then, and when it ends."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

log = logging.getLogger("spoolway.drain")

_LOG_EVERY: Final = 30.0


def _own_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


@dataclass(slots=True)
class Outage:
    """Whether one thing works; `since` is when it began to fail, None while it does not."""

    what: str
    clock: Callable[[], float]
    since: float | None = None
    logged: float = 0.0
    explain: Callable[[BaseException], str] = field(default=_own_words, kw_only=True)
    """What an operator is told of an error, in one line."""

    @property
    def seconds(self) -> float:
        """How long it has failed by now; 0 while it works."""
        return 0.0 if self.since is None else self.clock() - self.since

    def failed(self, error: BaseException, next_step: str) -> None:
        """Note a failure, and say what happens next."""
        now = self.clock()
        if self.since is None:
            self.since = now
        elif now - self.logged < _LOG_EVERY:
            return
        self.logged = now
        log.warning("%s: %s; %s", self.what, self.explain(error), next_step)

    def worked(self) -> None:
        """Note that it works."""
        if self.since is not None:
            log.warning("%s: works again after %.1f s", self.what, self.clock() - self.since)
            self.since = None
