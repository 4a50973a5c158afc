"""Takes one batch to its result: composes the quota, one attempt, and the decision that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from importer.answers import Answer, Throttled
from importer.errors import IncompleteError
from importer.exotel import Api
from importer.model import Batch, BatchResult, Outcome, Reason, Tally, Verdict
from importer.quota import Quota
from importer.retry import Decision, RetryPolicy, attempts, decide, supersede
from importer.shutdown import Shutdown, StoppedError

SPLIT_BUDGET_REQUESTS = 64
"""Requests that a batch may cost beyond its first because the API refuses it as a whole."""


class Sender:
    """Delivers batches, one after the other or many at a time; it keeps no state of any of them."""

    def __init__(
        self,
        api: Api,
        quota: Quota,
        policy: RetryPolicy,
        shutdown: Shutdown,
        tally: Tally,
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
        self._list_sid = list_sid
        self._clock = clock or asyncio.get_running_loop().time
        self._last_answer_at = self._clock()
        self._log = structlog.get_logger()

    async def deliver(self, batch: Batch) -> BatchResult:
        """Send a batch until each of its contacts has a verdict that stands.

        Raises StoppedError if the run ends before; the batch is then as good as not sent.
        """
        delivery = _Delivery(batch)
        parts: list[Sequence[int]] = [range(len(batch.sids))] if batch.sids else []
        budget = SPLIT_BUDGET_REQUESTS
        while parts:
            refused = await self._settle(delivery, parts.pop())
            if not refused:
                continue
            budget -= 2
            if budget < 0:
                delivery.refuse(refused)
            else:
                middle = len(refused) // 2
                parts += [refused[middle:], refused[:middle]]
        return BatchResult(batch, delivery.settled(), delivery.attempts)

    async def _settle(self, delivery: _Delivery, part: Sequence[int]) -> Sequence[int]:
        """Ask for a part of the batch until nothing is left to ask; give what is refused as a whole."""
        log = self._log.bind(batch=delivery.batch.number)
        remaining = part
        began = self._clock()

        async def attempt() -> Decision:
            nonlocal remaining
            sids = [delivery.batch.sids[index] for index in remaining]
            decision = decide(await self._request(sids), sids, self._list_sid, self._policy)
            self._tally.count_anomalies(decision.anomalies)
            if decision.anomalies:
                log.warning("answer_anomalous", **{kind.value: count for kind, count in decision.anomalies.items()})
            if decision.stop is not None:
                self._shutdown.request(decision.stop)
                raise StoppedError
            delivery.record(remaining, decision)
            if not decision.split:
                remaining = [remaining[position] for position in decision.again]
            self._watch_for_outage(decision)
            return decision

        def give_up(attempt_number: int, decision: Decision) -> bool:
            # While not one request is answered, the batch is not at fault: `_watch_for_outage` ends that.
            in_outage = not decision.answered and self._last_answer_at <= began
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

    async def _request(self, sids: Sequence[str]) -> Answer:
        """Make one attempt, as often as the API puts it off: a throttled request is none."""
        while True:
            async with self._shutdown.waiting():
                started = await self._quota.acquire()
            async with self._shutdown.in_flight():
                self._tally.requests += 1
                self._tally.in_flight += 1
                try:
                    answer = await self._api.add_contacts(sids)
                finally:
                    self._tally.in_flight -= 1
            if not isinstance(answer, Throttled):
                self._quota.answered()
                return answer
            self._tally.throttled += 1
            self._pause(started, answer)

    def _pause(self, started: float, answer: Throttled) -> None:
        asked = answer.retry_after_seconds
        seconds = self._quota.throttled(started, lambda pauses: self._policy.throttle_wait_seconds(asked, pauses))
        if seconds is None:
            return
        self._log.warning("quota_paused", wait_seconds=round(seconds, 1), asked_by_server=asked is not None)
        patience = self._policy.max_elapsed_seconds
        if seconds > patience or self._clock() - self._last_answer_at > patience:
            self._shutdown.request(
                IncompleteError(
                    f"The API answers 429 and asks to wait {seconds:,.0f} seconds; retry.max_elapsed_seconds is "
                    f"{patience:g}. Nothing is lost: run the same command again later."
                )
            )

    def _watch_for_outage(self, decision: Decision) -> None:
        now = self._clock()
        if decision.answered:
            self._last_answer_at = now
        elif now - self._last_answer_at > self._policy.max_elapsed_seconds:
            self._shutdown.request(
                IncompleteError(
                    f"No request was answered for {now - self._last_answer_at:,.0f} seconds ({decision.detail}). "
                    "Nothing is lost: run the same command again once the API is back."
                )
            )

    async def _sleep(self, seconds: float) -> None:
        async with self._shutdown.waiting():
            await asyncio.sleep(min(seconds, self._policy.max_elapsed_seconds))


class _Delivery:
    """What is known so far of the contacts of one batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.attempts = [0] * len(batch.sids)
        self._verdicts: list[Verdict | None] = [None] * len(batch.sids)

    def record(self, indices: Sequence[int], decision: Decision) -> None:
        """Note an attempt that carried the contacts at `indices`, and what it proved of them."""
        for index in indices:
            self.attempts[index] += 1
        for index, verdict in zip(indices, decision.verdicts, strict=False):  # a refusal proves nothing of each
            self._verdicts[index] = supersede(self._verdicts[index], verdict)

    def refuse(self, indices: Sequence[int]) -> None:
        """Give up on contacts that the API refuses together with others."""
        verdict = Verdict(Outcome.FAILED, reason=Reason.REQUEST_REFUSED)
        for index in indices:
            self._verdicts[index] = supersede(self._verdicts[index], verdict)

    def settled(self) -> Sequence[Verdict]:
        """Give the verdicts, now that each contact has one."""
        missing = self._verdicts.count(None)
        assert not missing, f"{missing} contacts of batch {self.batch.number} have no verdict"  # noqa: S101
        return [verdict for verdict in self._verdicts if verdict is not None]
