"""What the demo's clients have sent, and what must have become of it.

The clients' side alone; it is compared with the database afterwards.
"""

from collections import Counter
from dataclasses import dataclass

from spoolway.producer import Outcome


@dataclass(slots=True, frozen=True)
class Scenario:
    """One kind of request, and what must become of it."""

    model: str
    """Empty: not a question, but which models there are."""
    stream: bool = False
    outcome: Outcome = "success"
    errors: int = 0
    hang_up: bool = False


class Ledger:
    """What was sent: open until it is found in the database."""

    def __init__(self) -> None:
        self.open: dict[str, Scenario] = {}
        """By id of the request's record."""
        self.sent = self.errors = 0
        self.expected: Counter[str] = Counter()
        self.wrong: list[str] = []
        """What was found, but is not what was sent."""

    def add(self, request_id: str, scenario: Scenario) -> None:
        """Note a request whose answer has begun."""
        self.open[request_id] = scenario
        self.sent += 1
        self.errors += scenario.errors
        self.expected[scenario.outcome] += 1

    def settle(self, request_id: str, outcome: str, errors: int) -> None:
        """Note that a request's row is there, and how many linked errors are."""
        scenario = self.open[request_id]
        if outcome == scenario.outcome and errors < scenario.errors:
            return  # they may still come
        del self.open[request_id]
        if (outcome, errors) != (scenario.outcome, scenario.errors):
            self.wrong.append(
                f"{request_id} ({scenario.model}) was sent to be {scenario.outcome} with "
                f"{scenario.errors} errors, and is {outcome} with {errors}"
            )
