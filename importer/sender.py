"""Takes one batch to its result: composes the quota, one attempt, and the decision that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from importer.answers import Answer, Throttled
from importer.delivery import Delivery
from importer.errors import IncompleteError
from importer.exotel import Api
from importer.model import BatchResult, Outcome, Reason, Tally, Verdict
from importer.quota import Quota
from importer.replay import Task
from importer.retry import Decision, RetryPolicy, attempts, decide
from importer.shutdown import Shutdown, StoppedError

SPLIT_BUDGET_REQUESTS = 64
"""Requests that a batch may cost beyond its first because the API refuses it as a whole."""


REFUSED = Verdict(Outcome.FAILED, reason=Reason.REQUEST_REFUSED)


class IntentWriter(Protocol):
    """The part of the journal that the senders write to. All of it is on the disk when the call returns."""

    async def intend(self, batch: int, tally: Tally) -> int:
        """Say that a request is about to leave; gives the intent's number."""
        ...

    async def withdraw(self, intent: int) -> None:
        """Say that the request was certainly not processed."""
        ...

    async def note(self, batch: int, known: bytes, tally: Tally) -> None:
        """Say what all requests for the batch so far have proved."""
        ...


class Sender:
    """Delivers batches, one after the other or many at a time; it keeps no state of any of them."""

    def __init__(
        self,
        api: Api,
        quota: Quota,
        policy: RetryPolicy,
        shutdown: Shutdown,
        tally: Tally,
        journal: IntentWriter,
        *,
        list_sid: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the time in seconds from `clock`, by default the running event loop's."""
        self._api = api
        self._quota = quota
        self._policy = policy
        self._shutdown = shutdown
        self._tally = tally
        self._journal = journal
        self._list_sid = list_sid
        self._clock = clock or asyncio.get_running_loop().time
        self._last_answer_at = self._clock()
        self._unanswered_since = float("inf")
        self._log = structlog.get_logger()

    async def deliver(self, task: Task) -> BatchResult:
        """Send a batch until each of its contacts has a verdict that stands.

        Raises StoppedError if the run ends before; the journal then holds what is known.
        """
        delivery = Delivery(task)
        if delivery.in_doubt and self._policy.on_unknown == "hold":
            return delivery.result()
        parts: list[Sequence[int]] = [delivery.open] if delivery.open else []
        if delivery.in_doubt:
            self._tally.resent_contacts += len(delivery.open)
        budget = SPLIT_BUDGET_REQUESTS
        while parts:
            part = parts.pop()
            refused = await self._settle(delivery, part, is_last=not parts)
            if not refused:
                continue
            budget -= 2
            if budget < 0:
                delivery.settle(refused, [REFUSED] * len(refused))
            else:
                middle = len(refused) // 2
                parts += [refused[middle:], refused[:middle]]
        return delivery.result()

    async def _settle(self, delivery: Delivery, part: Sequence[int], *, is_last: bool) -> Sequence[int]:
        """Ask for a part of the batch until nothing is left to ask; give what is refused as a whole."""
        log = self._log.bind(batch=delivery.batch.number)
        remaining = part
        began = failed_before = failed_last = self._clock()

        async def attempt() -> Decision:
            nonlocal remaining, failed_before, failed_last
            sids = [delivery.batch.sids[index] for index in remaining]
            intent, answer = await self._request(delivery.batch.number, sids)
            decision = decide(answer, sids, self._list_sid, self._policy)
            self._tally.count_anomalies(decision.anomalies)
            if decision.anomalies:
                log.warning("answer_anomalous", **{kind.value: count for kind, count in decision.anomalies.items()})
            delivery.record(remaining, decision.verdicts)
            if not decision.split:
                remaining = [remaining[position] for position in decision.again]
            if not decision.in_doubt:
                await self._account_for(intent, delivery, decision, is_settled=is_last and not remaining)
            if decision.stop is not None:
                self._shutdown.request(decision.stop)
                raise StoppedError
            self._watch_for_outage(decision)
            failed_before, failed_last = failed_last, self._clock()
            return decision

        def give_up(attempt_number: int, decision: Decision) -> bool:
            # If not one request was answered between this batch's last two failures, the batch is not at fault:
            # `_watch_for_outage` ends that.
            in_outage = not decision.answered and self._last_answer_at <= failed_before
            now = self._clock()
            spent = attempt_number >= self._policy.max_attempts or now - began >= self._policy.max_elapsed_seconds
            return spent and not in_outage

        def announce(attempt_number: int, wait_seconds: float, decision: Decision) -> None:
            self._tally.retries += 1
            log.warning(
                "retry_scheduled",
                attempt=attempt_number + 1,
                wait_seconds=round(wait_seconds, 1),
                contacts=len(decision.again),
                reason=str(decision.verdicts[decision.again[0]].reason),
                detail=decision.detail,
            )

        loop = attempts(self._policy, give_up=give_up, sleep=self._sleep, announce=announce)
        decision: Decision = await loop(attempt)
        if not decision.split:
            return ()
        log.warning("batch_split", contacts=len(remaining), detail=decision.detail)
        return remaining

    async def _request(self, batch: int, sids: Sequence[str]) -> tuple[int, Answer]:
        """Make one attempt, as often as the API puts it off: a throttled request is none. Gives its intent too."""
        intent = 0

        async def prepare() -> None:
            nonlocal intent
            self._tally.requests += 1
            intent = await self._journal.intend(batch, self._tally)

        while True:
            async with self._shutdown.waiting():
                started = await self._quota.acquire(prepare)
            async with self._shutdown.in_flight():
                self._tally.in_flight += 1
                try:
                    answer = await self._api.add_contacts(sids)
                finally:
                    self._tally.in_flight -= 1
            if not isinstance(answer, Throttled):
                self._quota.answered()
                return intent, answer
            self._tally.throttled += 1
            self._pause(started, answer)
            await self._journal.withdraw(intent)

    async def _account_for(self, intent: int, delivery: Delivery, decision: Decision, *, is_settled: bool) -> None:
        """Take an answered request out of doubt, before another one leaves; a settled batch is about to be done."""
        if not decision.answered or not decision.verdicts:
            await self._journal.withdraw(intent)
        elif not is_settled:
            await self._journal.note(delivery.batch.number, delivery.known(), self._tally)

    def _pause(self, started: float, answer: Throttled) -> None:
        asked = answer.retry_after_seconds
        seconds = self._quota.throttled(started, lambda pauses: self._policy.throttle_wait_seconds(asked, pauses))
        if seconds is None:
            return
        self._log.warning("quota_paused", wait_seconds=round(seconds, 1), asked_by_server=asked is not None)
        patience = self._policy.max_elapsed_seconds
        if seconds > patience or self._unanswered_seconds() > patience:
            self._shutdown.request(
                IncompleteError(
                    f"The API answers 429 and asks to wait {seconds:,.0f} seconds; retry.max_elapsed_seconds is "
                    f"{patience:g}. Nothing is lost: run the same command again later."
                )
            )

    def _watch_for_outage(self, decision: Decision) -> None:
        if decision.answered:
            self._last_answer_at = self._clock()
            self._unanswered_since = float("inf")
        elif (seconds := self._unanswered_seconds()) > self._policy.max_elapsed_seconds:
            self._shutdown.request(
                IncompleteError(
                    f"No request was answered for {seconds:,.0f} seconds ({decision.detail}). "
                    "Nothing is lost: run the same command again once the API is back."
                )
            )

    def _unanswered_seconds(self) -> float:
        """Seconds since the first failure that no answer followed: a run that idles is in no outage."""
        now = self._clock()
        self._unanswered_since = min(self._unanswered_since, now)
        return now - self._unanswered_since

    async def _sleep(self, seconds: float) -> None:
        async with self._shutdown.waiting():
            await asyncio.sleep(min(seconds, self._policy.max_elapsed_seconds))
