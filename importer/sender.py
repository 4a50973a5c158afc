"""Takes one batch to its result: one request after another, and the decision that follows each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from importer.channel import Channel, IntentWriter
from importer.delivery import Delivery
from importer.health import Health, RetryBudget
from importer.model import BatchResult, Outcome, Reason, Tally, Verdict, Wait
from importer.replay import Task
from importer.retry import Decision, RetryPolicy, attempts, decide
from importer.shutdown import Shutdown, StoppedError
from importer.split import MAX_CONTACTS, Parts

REFUSED = Verdict(Outcome.FAILED, reason=Reason.REQUEST_REFUSED)


class Sender:
    """Delivers batches, many at a time. Of the batches it keeps nothing; of the API what they have in common."""

    def __init__(
        self,
        channel: Channel,
        health: Health,
        policy: RetryPolicy,
        shutdown: Shutdown,
        tally: Tally,
        journal: IntentWriter,
        *,
        list_sid: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take the time in seconds from `clock`, by default the running event loop's."""
        self._channel = channel
        self._health = health
        self._policy = policy
        self._shutdown = shutdown
        self._tally = tally
        self._journal = journal
        self._list_sid = list_sid
        self._clock = clock or asyncio.get_running_loop().time
        self._budget = RetryBudget()
        self._max_contacts = MAX_CONTACTS
        self._log = structlog.get_logger()

    async def deliver(self, task: Task) -> BatchResult:
        """Send a batch until each of its contacts has a verdict that stands.

        Raises StoppedError if the run ends before; the journal then holds what is known.
        """
        delivery = Delivery(task)
        to_send = delivery.open
        if self._policy.on_unknown == "hold":  # even if an earlier process was told to resend
            to_send = [index for index in to_send if not delivery.may_be_added(index)]
        if delivery.in_doubt:
            self._tally.resent_contacts += len(to_send)
        parts, size = Parts(to_send, self._max_contacts), self._max_contacts
        refusal = ""
        while parts:
            part = parts.take()
            decision, remaining, put_off = await self._settle(delivery, part, is_last=not parts)
            if put_off:
                parts.put_back(put_off)
            if not decision.split:
                parts.settled(part, got_in=delivery.is_any_in_the_list(part))
                continue
            refusal = decision.detail
            sids = delivery.batch.sids
            given_up = parts.split(remaining, sids, decision.error, too_large=decision.too_large)
            delivery.settle(given_up, [REFUSED] * len(given_up))
        self._max_contacts = min(self._max_contacts, parts.size)
        if parts.size == size:  # or else it was too large, which says nothing of its contacts
            delivery.refusal = refusal
        return delivery.result()

    async def _settle(
        self, delivery: Delivery, part: Sequence[int], *, is_last: bool
    ) -> tuple[Decision, Sequence[int], Sequence[int]]:
        """Ask for a part of the batch until nothing is left to ask.

        Gives the last decision, the contacts that it left open, and those that were put off for a probe.
        """
        log = self._log.bind(batch=delivery.batch.number)
        remaining, put_off = part, part[:0]
        charged, silent = 0, False
        began = failed_before = self._clock()

        async def attempt() -> Decision:
            nonlocal remaining, put_off, charged, silent, began, failed_before
            sids = delivery.batch.sids
            if len(remaining) < len(sids):
                sids = [sids[index] for index in remaining]
            intent, carried, answer = await self._channel.request(delivery.batch, sids)
            if carried < len(sids):
                remaining, put_off = remaining[:carried], [*remaining[carried:], *put_off]
                sids = sids[:carried]
            decision = decide(answer, sids, self._list_sid, self._policy)
            self._tally.count_anomalies(decision.anomalies)
            if decision.anomalies:
                log.warning("answer_anomalous", **{kind.value: count for kind, count in decision.anomalies.items()})
            delivery.record(remaining, decision.verdicts)
            if not decision.split:
                remaining = [remaining[position] for position in decision.again]
            if not decision.in_doubt:
                is_settled = is_last and not remaining and not put_off
                await self._account_for(intent, delivery, decision, is_settled=is_settled)
            if decision.stop is not None:
                self._shutdown.request(decision.stop)
                raise StoppedError
            if decision.answered:
                self._budget.deposit()
            silent = not decision.answered and self._health.last_answer_at <= failed_before
            failed_before = self._clock()
            # An outage is not the batch's fault: what fails in it is not held against the batch.
            if self._health.in_outage():
                began = self._clock()
            else:
                charged += 1
            return decision

        def give_up() -> bool:
            too_long = self._clock() - began >= self._policy.max_elapsed_seconds
            return not silent and (charged >= self._policy.max_attempts or too_long)

        def announce(attempt_number: int, wait_seconds: float, decision: Decision) -> None:
            self._tally.retries += 1
            log.warning(
                "retry_scheduled",
                attempt=attempt_number + 1,
                wait_seconds=round(wait_seconds, 1),
                contacts=len(decision.again),
                reason=str(decision.verdicts[decision.again[0]].reason),
                **({"detail": decision.detail} if decision.detail else {}),
            )

        loop = attempts(
            self._policy, give_up=give_up, least_wait=self._least_wait_seconds, sleep=self._back_off, announce=announce
        )
        decision: Decision = await loop(attempt)
        if decision.split:
            log.warning("batch_split", contacts=len(remaining), detail=decision.detail)
        return decision, remaining, put_off

    async def _account_for(self, intent: int, delivery: Delivery, decision: Decision, *, is_settled: bool) -> None:
        """Take an answered request out of doubt, before another one leaves; a settled batch is about to be done."""
        if not decision.answered or not decision.verdicts:
            await self._journal.withdraw(intent)
        elif not is_settled:
            await self._journal.note(delivery.batch, delivery.known(), self._tally)

    def _least_wait_seconds(self) -> float:
        """Pause that a retry must keep at least: the longest one, once the budget is spent."""
        return 0.0 if self._budget.withdraw() else self._policy.max_wait_seconds

    async def _back_off(self, seconds: float) -> None:
        seconds = min(seconds, self._policy.max_elapsed_seconds)
        self._tally.waits[Wait.BACK_OFF] = max(self._tally.waits.get(Wait.BACK_OFF, 0.0), self._clock() + seconds)
        async with self._shutdown.waiting():
            await asyncio.sleep(seconds)
