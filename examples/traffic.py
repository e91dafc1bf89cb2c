"""The demo's clients: real requests with the `openai` client.

They carry keys, cookies and passwords, of which nothing may be found anywhere afterwards.
"""

import asyncio
import itertools
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final

import openai

from examples.ledger import Ledger, Scenario

AT_ONCE: Final = 8
"""Requests on their way at the same time when nobody watches."""
GENTLE_S: Final = 0.4
"""Seconds between two requests when somebody does."""
ANSWER_S: Final = 15.0
"""Longest silence of the proxy."""
HANG_UP_AFTER: Final = 6
"""Chunks of a stream."""
ID_HEADER: Final = "x-request-log-id"


SCENARIOS: Final = (
    Scenario("small"),
    Scenario("small", stream=True),
    Scenario("large"),
    Scenario("story", stream=True, outcome="cancelled", hang_up=True),
    Scenario("large", stream=True),
    Scenario("fail-429", outcome="error", errors=1),
    Scenario("small"),
    Scenario("busy", errors=1),  # the first backend's 503; the second one answers
    Scenario("small", stream=True),
    Scenario("fail-500", stream=True, outcome="error", errors=1),
    Scenario("", stream=False),
    Scenario("large", stream=True),
    Scenario("fail-400", outcome="error", errors=1),
    Scenario("busy", stream=True, errors=1),
    Scenario("fail-midstream", stream=True, outcome="error", errors=1),
    Scenario("slow", outcome="error", errors=1),
)
QUESTIONS: Final = (
    "What is a stream for?",
    "When may a worker acknowledge?",
    "Why in batches?",
    "Where do the rows go that no database wants?",
)


@dataclass(slots=True, frozen=True)
class Customer:
    """Who sends, and what must not be found anywhere afterwards."""

    name: str
    key: str
    headers: dict[str, str]
    query: dict[str, object] = field(default_factory=dict)


CUSTOMERS: Final = (
    Customer("alice", "sk-demo-alice-3f9c27d1e8", {"cookie": "session=alice-cookie-51b0c2"}),
    Customer(
        "bob",
        "sk-demo-bob-a81e04c6b2",
        {
            "x-api-key": "bob-x-api-key-7d20aa",
            "proxy-authorization": "Basic " + b64encode(b"bob:bob-password-90cc1f").decode(),
        },
    ),
    Customer(
        "carol",
        "sk-demo-carol-5be7722f90",
        {"x-acme-session-token": "carol-token-e4418b", "x-team": "billing"},
        {"api_key": "carol-query-key-2c6a7e", "api-version": "2026-01-01"},
    ),
)
KEPT_PRIVATE: Final = (
    *(customer.key for customer in CUSTOMERS),
    "alice-cookie-51b0c2",
    "bob-x-api-key-7d20aa",
    "bob-password-90cc1f",
    b64encode(b"bob:bob-password-90cc1f").decode(),
    "carol-token-e4418b",
    "carol-query-key-2c6a7e",
)
"""Everything that the requests carry and that no database, stream or log may hold."""


class Clients:
    """The customers' clients of one proxy."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._url = url
        self._ledger = ledger
        # Not through a proxy of the environment, and without retries: each is a request of its own.
        self._http = openai.DefaultAsyncHttpxClient(trust_env=False)
        self._clients = [
            openai.AsyncOpenAI(
                api_key=customer.key,
                base_url=url,
                http_client=self._http,
                max_retries=0,
                timeout=ANSWER_S,
                default_headers=customer.headers,
                default_query=customer.query,
            )
            for customer in CUSTOMERS
        ]
        self._turns = itertools.cycle(zip(CUSTOMERS, self._clients, strict=True))
        self._questions = itertools.cycle(QUESTIONS)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send_all(self, rounds: int, stop: asyncio.Event) -> None:
        """Send every scenario `rounds` times, as quickly as some clients at once do."""
        scenarios = iter(SCENARIOS * rounds)

        async def client() -> None:
            for scenario in scenarios:
                if stop.is_set():
                    return
                await self.send(scenario)

        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(client(), name=f"demo-client-{number}")

    async def send_gently(self, stop: asyncio.Event) -> None:
        """Send one request after the other until `stop`, and return when all are answered."""
        async with asyncio.TaskGroup() as group:
            for scenario in itertools.cycle(SCENARIOS):
                group.create_task(self.send(scenario), name=f"demo-{scenario.model}")
                try:
                    async with asyncio.timeout(GENTLE_S):
                        await stop.wait()
                        return
                except TimeoutError:
                    continue

    async def send(self, scenario: Scenario) -> None:
        """Send one request, and read its answer as far as the scenario wants it."""
        customer, client = next(self._turns)
        try:
            if not scenario.model:
                models = await client.models.with_raw_response.list()
                self._ledger.add(models.headers[ID_HEADER], scenario)
            elif scenario.stream:
                await self._read_stream(client, customer, scenario)
            else:
                whole = await client.chat.completions.with_raw_response.create(
                    model=scenario.model, messages=self._messages(), user=customer.name
                )
                self._ledger.add(whole.headers[ID_HEADER], scenario)
        except openai.APIStatusError as error:
            self._ledger.add(error.response.headers[ID_HEADER], scenario)

    async def _read_stream(
        self, client: openai.AsyncOpenAI, customer: Customer, scenario: Scenario
    ) -> None:
        answer = await client.chat.completions.with_raw_response.create(
            model=scenario.model,
            messages=self._messages(),
            user=customer.name,
            stream=True,
            stream_options={"include_usage": True},
        )
        self._ledger.add(answer.headers[ID_HEADER], scenario)
        stream = answer.parse()
        try:
            chunks = 0
            async for _ in stream:
                chunks += 1
                if scenario.hang_up and chunks == HANG_UP_AFTER:
                    break
        except openai.APIError:
            pass  # what "fail-midstream" is for
        finally:
            await stream.close()

    def _messages(self) -> list[Any]:
        return [
            {"role": "system", "content": "Answer in few words."},
            {"role": "user", "content": next(self._questions)},
        ]
