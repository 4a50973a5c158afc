"""Stand-ins and short words that the unit tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from importer.answers import Answer, Answered
from importer.channel import Channel
from importer.envelope import Item
from importer.health import Health
from importer.model import Attempt, Batch, BatchResult, Outcome, Tally
from importer.places import Places
from importer.quota import Quota
from importer.rate import FixedRate
from importer.replay import Task
from importer.retry import RetryPolicy
from importer.sender import Sender
from importer.shutdown import Shutdown

LIST = "e46c2fe202904d579ae592d108cf87a0"
UNTHROTTLED = 10_000_000.0

Step = Answer | Callable[[Sequence[str]], Answer]


def sids_of(count: int) -> list[str]:
    """Well-formed sids, all different, with letters in them."""
    return [f"abcdef{number:026x}" for number in range(count)]


def batch_of(count: int, number: int = 1) -> Batch:
    return Batch(number, 1, max(count, 1), range(1, count + 1), sids_of(count))


def policy_of(
    *,
    max_attempts: int = 6,
    max_elapsed_seconds: float = 900,
    initial_wait_seconds: float = 1,
    max_wait_seconds: float = 60,
    on_unknown: Literal["resend", "hold"] = "resend",
) -> RetryPolicy:
    return RetryPolicy(max_attempts, max_elapsed_seconds, initial_wait_seconds, max_wait_seconds, on_unknown)


def encode(items: Any, *, http_code: int | None = 207, metadata: dict[str, Any] | None = None, **members: Any) -> bytes:
    """An answer's body around these items."""
    envelope = {"request_id": "r", "method": "POST", "http_code": http_code, "metadata": metadata, "response": items}
    return msgspec.json.encode(envelope | members)


def success(sid: str) -> dict[str, Any]:
    """An item as documented."""
    data = {"sid": sid, "account_sid": "Exotel", "list_id": LIST, "uri": f"/v2/Accounts/Exotel/contacts/{sid}"}
    return {"code": 200, "error_data": None, "status": "success", "data": data}


def failure(code: int, error_code: int = 1002, sid: str | None = None) -> dict[str, Any]:
    """A failed item as documented: it names its contact only where `sid` is given."""
    error = {"code": error_code, "message": "Invalid parameter", "description": "so it is"}
    return {
        "code": code,
        "error_data": error,
        "status": "failure",
        "data": None if sid is None else {"sid": sid},
    }


def all_added(sids: Sequence[str]) -> Answered:
    return Answered([Item((sid,), 200, "success") for sid in sids])


class Request(NamedTuple):
    """One call that the fake was asked to make."""

    at: float
    sids: list[str]


class FakeApi:
    """Answers by a script, of which the last step is repeated. Remembers what it was asked."""

    def __init__(self, *script: Step, seconds: float = 0.0) -> None:
        self.requests: list[Request] = []
        self.finished = 0
        self._script = list(script)
        self._seconds = seconds

    async def add_contacts(self, sids: Sequence[str]) -> Answer:
        self.requests.append(Request(asyncio.get_running_loop().time(), list(sids)))
        step = self._script[min(len(self.requests), len(self._script)) - 1]
        await asyncio.sleep(self._seconds)
        self.finished += 1
        return step(sids) if callable(step) else step

    @property
    def times(self) -> list[float]:
        return [request.at for request in self.requests]


class FakeJournal:
    """Remembers what was written, in order."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int]] = []

    async def intend(self, batch: Batch, tally: Tally) -> None:  # noqa: ARG002  # the journal's own signature
        self.written.append(("intend", batch.number))

    async def withdraw(self, intent: int) -> None:
        self.written.append(("withdraw", intent))

    async def note(self, batch: Batch, known: bytes, tally: Tally) -> None:  # noqa: ARG002  # the journal's own signature
        self.written.append(("note", batch.number))


class Rig:
    """A sender with all its parts, on the running loop's clock."""

    def __init__(
        self,
        api: FakeApi,
        policy: RetryPolicy | None = None,
        *,
        requests_per_minute: float = UNTHROTTLED,
        grace_seconds: float = 25,
        journal: FakeJournal | None = None,
    ) -> None:
        self.api = api
        self.tally = Tally()
        self.journal = journal or FakeJournal()
        self.shutdown = Shutdown(grace_seconds)
        policy = policy or policy_of()
        self.quota = Quota(FixedRate(requests_per_minute))
        self.health = Health(
            self.tally, initial_wait_seconds=policy.initial_wait_seconds, max_wait_seconds=policy.max_wait_seconds
        )
        self.places = Places(64)
        self.attempts: list[Attempt] = []
        self.channel = Channel(
            api,
            self.quota,
            self.health,
            self.places,
            policy,
            self.shutdown,
            self.tally,
            self.journal,
            observe=self.attempts.append,
            wall_clock=lambda: 1000.0,
        )
        self.sender = Sender(self.channel, self.health, policy, self.shutdown, self.tally, self.journal, list_sid=LIST)

    async def deliver(self, count: int = 1, number: int = 1) -> BatchResult:
        return await self.sender.deliver(Task(batch_of(count, number)))


def outcomes(result: BatchResult) -> list[Outcome]:
    return [verdict.outcome for verdict in result.verdicts]
