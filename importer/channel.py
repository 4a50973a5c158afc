"""One request to the API, at the moment at which it may leave: pace, outage, places in flight, the journal's intent.

Knows nothing of what an answer means, but for a 429: that request is made again, and nobody hears of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from importer.answers import Answer, Lost, NotSent, Throttled
from importer.errors import IncompleteError
from importer.exotel import Api
from importer.health import Health
from importer.model import Attempt, Batch, Tally, Wait
from importer.places import Places
from importer.quota import Quota, Start
from importer.retry import RetryPolicy
from importer.shutdown import Shutdown, StoppedError


class IntentWriter(Protocol):
    """The part of the journal that the senders write to. All of it is on the disk when the call returns."""

    async def intend(self, batch: Batch, tally: Tally) -> None:
        """Say that a request is about to leave; the intent's number is that of the request."""
        ...

    async def withdraw(self, intent: int) -> None:
        """Say that the request was certainly not processed."""
        ...

    async def note(self, batch: Batch, known: bytes, tally: Tally) -> None:
        """Say what all requests for the batch so far have proved."""
        ...


class _OutageBegunError(Exception):
    """An outage began while a request waited for the quota: it is not to be made."""


class Channel:
    """The way to the API, which all senders share."""

    def __init__(
        self,
        api: Api,
        quota: Quota,
        health: Health,
        places: Places,
        policy: RetryPolicy,
        shutdown: Shutdown,
        tally: Tally,
        journal: IntentWriter,
        *,
        observe: Callable[[Attempt], None] = lambda _: None,
        clock: Callable[[], float] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Compose the parts, which others may look at too. `observe` is told of every request that ended."""
        self._api = api
        self._quota = quota
        self._health = health
        self._places = places
        self._policy = policy
        self._shutdown = shutdown
        self._tally = tally
        self._journal = journal
        self._observe = observe
        self._clock = clock or asyncio.get_running_loop().time
        self._wall_clock = wall_clock
        self._tally.starts = quota.starts
        self._tally.per_minute = quota.per_minute
        self._log = structlog.get_logger()

    async def request(self, batch: Batch, sids: Sequence[str]) -> tuple[int, int, Answer]:
        """Make one attempt, as often as the API puts it off: a throttled request is none.

        Gives the number of its intent, which is the caller's to account for; how many contacts it carried, which is
        one for a probe that would leave all the others unknown; and any answer but Throttled. Raises StoppedError if
        the run ends before the answer is there.
        """
        while True:
            began = self._clock()
            async with self._shutdown.waiting():
                is_probe = await self._health.wait_turn()
            carried = 1 if is_probe and self._policy.on_unknown == "hold" else len(sids)
            try:
                intent, start = await self._start(batch, is_probe=is_probe)
                answer = await self._send(sids[:carried], waited_seconds=self._clock() - began)
                self._watch_health(answer)
            except _OutageBegunError:
                continue
            finally:
                if is_probe:
                    self._health.end_probe()
            if isinstance(answer, NotSent):  # says nothing of the quota
                return intent, carried, answer
            self._quota.told(start, answer.limits, was_let_through=not isinstance(answer, Throttled))
            if not isinstance(answer, Throttled):
                self._quota.answered(start)
                self._tally.per_minute = self._quota.per_minute
                return intent, carried, answer
            self._tally.throttled += 1
            self._pause(start, answer)
            await self._journal.withdraw(intent)

    async def _start(self, batch: Batch, *, is_probe: bool) -> tuple[int, Start]:
        """Wait for the quota, and write the intent. What is stopped before it can leave is no request."""
        intent = 0

        async def prepare() -> None:
            nonlocal intent
            if not is_probe and self._health.in_outage():
                raise _OutageBegunError
            self._tally.requests += 1
            intent = self._tally.requests
            await self._journal.intend(batch, self._tally)

        try:
            async with self._shutdown.waiting(), self._places.awaiting_start():
                self._tally.waits[Wait.QUOTA] = self._quota.next_start
                start = await self._quota.acquire(prepare)
            if self._shutdown.cause is not None:
                raise StoppedError
        except StoppedError:
            if intent:
                await self._journal.withdraw(intent)
            raise
        return intent, start

    async def _send(self, sids: Sequence[str], *, waited_seconds: float) -> Answer:
        at, began, status = self._wall_clock(), self._clock(), None
        async with self._shutdown.in_flight():
            self._tally.in_flight += 1
            try:
                answer = await self._api.add_contacts(sids)
                status = None if isinstance(answer, NotSent) else answer.http_status
            finally:
                self._tally.in_flight -= 1
                self._observe(Attempt(at, self._clock() - began, waited_seconds, len(sids), status))
        return answer

    def _watch_health(self, answer: Answer) -> None:
        """Tell whether the API is there, before the next one has its turn to probe."""
        if isinstance(answer, Throttled):
            self._health.throttled()
        elif not isinstance(answer, NotSent | Lost):
            self._health.answered()
        else:
            self._health.failed(answer.detail)
            if self._health.silent_seconds > self._policy.max_elapsed_seconds:
                self._shutdown.request(
                    IncompleteError(
                        f"No request was answered for {self._health.silent_seconds:,.0f} seconds ({answer.detail}). "
                        "Nothing is lost: run the same command again once the API is back."
                    )
                )

    def _pause(self, start: Start, answer: Throttled) -> None:
        asked = answer.retry_after_seconds
        seconds = self._quota.throttled(start, lambda pauses: self._policy.throttle_wait_seconds(asked, pauses))
        self._tally.per_minute = self._quota.per_minute
        if seconds is None:
            return
        self._tally.waits[Wait.THROTTLED] = self._quota.next_start
        self._log.warning("quota_paused", wait_seconds=round(seconds, 1), asked_by_server=asked is not None)
        patience = self._policy.max_elapsed_seconds
        if seconds > patience or self._health.silent_seconds > patience:
            self._shutdown.request(
                IncompleteError(
                    f"The API answers 429 and asks to wait {seconds:,.0f} seconds; retry.max_elapsed_seconds is "
                    f"{patience:g}. Nothing is lost: run the same command again later."
                )
            )
