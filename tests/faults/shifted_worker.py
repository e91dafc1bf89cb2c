"""A real command whose clock is wrong: `shifted_worker.py SECONDS PACE -- spoolway worker`.

Its wall clock starts so many seconds off and runs PACE times as fast as it should. Only what the
product reads of it is wrong: timers and deadlines (the monotonic clock) are as ever.
"""

import datetime as dt
import sys
import time
from typing import Any

import spoolway.worker.autoreplay
import spoolway.worker.service  # noqa: F401 - loaded before its clock is changed
from spoolway.worker.cli import main


class _Meta(type):
    """What is a datetime stays one: only `now` is another."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, dt.datetime)


def set_clock(shift: float, pace: float) -> None:
    """Change the clock of every module of the product that is loaded."""
    began = time.time()
    right = time.time

    def now() -> float:
        return began + shift + (right() - began) * pace

    class Shifted(dt.datetime, metaclass=_Meta):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return dt.datetime.fromtimestamp(now(), tz)

    time.time = now
    time.time_ns = lambda: int(now() * 1e9)
    for name, module in list(sys.modules.items()):
        if name.startswith("spoolway.") and getattr(module, "datetime", None) is dt.datetime:
            module.datetime = Shifted  # type: ignore[attr-defined] # it was looked up just now


if __name__ == "__main__":
    _, seconds, pace, _, *sys.argv = sys.argv
    set_clock(float(seconds), float(pace))
    main()
