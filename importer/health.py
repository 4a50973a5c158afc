"""Whether the API is there at all. In an outage one request probes, and everybody else waits for it.

Decides nothing about contacts: that an outage fails no row is seen to by the senders, who ask here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from importer.model import Tally, Wait

FAILURES_OF_AN_OUTAGE = 5
"""So many requests in a row, of whichever batches, without an answer: then nobody is to blame but the API."""


_GROWTH = 1.5  # of the pauses: an outage is noticed to be over within half of its length
_MOST_STEPS = 60  # beyond any longest wait, and far from an overflow


class Health:
    """What the API's silence means. A request is answered, or it failed as a whole: no connection, no answer, 5xx."""

    def __init__(
        self,
        tally: Tally,
        *,
        initial_wait_seconds: float,
        max_wait_seconds: float,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Probe after `initial_wait_seconds`, then after ever longer pauses, up to `max_wait_seconds`."""
        self._tally = tally
        self._initial_wait_seconds = initial_wait_seconds
        self._max_wait_seconds = max_wait_seconds
        self._clock = clock or asyncio.get_running_loop().time
        self._sleep = sleep
        self._failures = 0
        self._probes = 0
        self._silent_since: float | None = None
        self.last_answer_at = self._clock()
        self._probing = asyncio.Lock()
        self._log = structlog.get_logger()

    def in_outage(self) -> bool:
        """Whether so many requests in a row failed that it is an outage."""
        return self._failures >= FAILURES_OF_AN_OUTAGE

    @property
    def silent_seconds(self) -> float:
        """How long ago the first failure was that no answer followed; 0 if there is none."""
        return 0.0 if self._silent_since is None else self._clock() - self._silent_since

    async def wait_turn(self) -> bool:
        """Wait until a request may be made: not at all, or in an outage for a turn and a pause.

        True makes the caller's request the probe, the only one in flight; then call `end_probe`.
        """
        if not self.in_outage():
            return False
        await self._probing.acquire()
        try:
            if self.in_outage():
                seconds = self.probe_wait_seconds()
                self._tally.waits[Wait.OUTAGE] = self._clock() + seconds
                await self._sleep(seconds)
            if self.in_outage():  # or else another's request was answered meanwhile
                self._probes += 1
                return True
        except BaseException:
            self._probing.release()
            raise
        self._probing.release()
        return False

    def end_probe(self) -> None:
        """Let the next one have its turn."""
        self._probing.release()

    def probe_wait_seconds(self) -> float:
        """Length of the pause before the next probe."""
        longest = min(self._initial_wait_seconds * _GROWTH ** min(self._probes, _MOST_STEPS), self._max_wait_seconds)
        return random.uniform(longest / 2, longest)  # noqa: S311  # spreads load, hides nothing

    def answered(self) -> None:
        """Take in that a request was answered."""
        if self.in_outage():
            self._log.warning("outage_over", seconds=round(self.silent_seconds, 1), probes=self._probes)
        self._failures = self._probes = 0
        self._silent_since = None
        self._tally.waits.pop(Wait.OUTAGE, None)
        self.last_answer_at = self._clock()

    def failed(self, detail: str) -> None:
        """Take in that a request failed as a whole."""
        self._failures += 1
        self.throttled()
        if self._failures == FAILURES_OF_AN_OUTAGE:
            self._log.warning("outage_begun", detail=detail, seconds=round(self.silent_seconds, 1))

    def throttled(self) -> None:
        """Take in a 429: it is no failure, but no answer either."""
        if self._silent_since is None:
            self._silent_since = self._clock()


class RetryBudget:
    """Retries in proportion to what is answered, so that a sick API is not hammered. Never runs below zero."""

    def __init__(self, *, capacity: float = 20.0, share: float = 0.5) -> None:
        """Allow `capacity` retries at first, and `share` of one for each answer."""
        self._capacity = capacity
        self._share = share
        self._left = capacity

    def deposit(self) -> None:
        """Take in an answer."""
        self._left = min(self._capacity, self._left + self._share)

    def withdraw(self) -> bool:
        """Take a retry; False if there is none left, and it should wait as long as it can."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
