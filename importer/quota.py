"""When the next request may start. Every attempt asks here, retries and splits included."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

WINDOW_SECONDS = 60.3
"""The minute of the quota, with a margin for requests that take unlike times to reach the server's own count."""

_CATCH_UP_SECONDS = 0.1


class Pace:
    """Evenly spaced starts, of which no window of a minute holds more than the quota. Pure: the time is handed in."""

    def __init__(self, requests_per_minute: float) -> None:
        """Allow the first request at once."""
        self._limit = max(1, int(requests_per_minute))
        self._interval = WINDOW_SECONDS / requests_per_minute
        # A start that came late, by a timer or a busy sender, is made up for, but idle time is not saved.
        self._tolerance = max(self._interval, _CATCH_UP_SECONDS)
        self._slot = float("-inf")
        self._starts: deque[float] = deque()

    def delay_seconds(self, now: float) -> float:
        """Tell how long to wait before the next start; 0 for none."""
        while self._starts and self._starts[0] <= now - WINDOW_SECONDS:
            self._starts.popleft()
        window_opens = self._starts[-self._limit] + WINDOW_SECONDS if len(self._starts) >= self._limit else now
        return max(0.0, self._slot - now, window_opens - now)

    def start(self, now: float) -> None:
        """Take the slot."""
        self._starts.append(now)
        is_late = now - self._slot <= self._tolerance
        self._slot = (self._slot if is_late else now) + self._interval

    def pause_until(self, until: float) -> None:
        """Let no request start before `until`; the pace goes on from there, without a burst."""
        self._slot = max(self._slot, until)


class Quota:
    """Hands out starts one at a time, in the order in which they were asked for."""

    def __init__(
        self,
        pace: Pace,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Take the time in seconds from `clock`, by default the running event loop's."""
        self._pace = pace
        self._clock = clock or asyncio.get_running_loop().time
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._paused_at = float("-inf")
        self._pauses_in_a_row = 0

    async def acquire(self, prepare: Callable[[], Awaitable[object]] | None = None) -> float:
        """Wait until a request may start, and give the time at which it does.

        `prepare` is done when the wait is over and before the start counts: whatever it takes, no two starts are
        nearer to each other than they may be.
        """
        async with self._turn:
            # Asked again after every wait: a pause may have come meanwhile.
            while (delay := self._pace.delay_seconds(self._clock())) > 0 or prepare is not None:
                if delay > 0:
                    await self._sleep(delay)
                elif prepare is not None:
                    await prepare()
                    prepare = None
            now = self._clock()
            self._pace.start(now)
            return now

    def throttled(self, started: float, wait_seconds: Callable[[int], float]) -> float | None:
        """Pause every sender because the request that began at `started` was answered 429.

        `wait_seconds` gives the pause from the number of pauses in a row, from 1. Gives the pause's seconds, or None
        for a straggler: a request that began before the pause did says nothing new, and does not prolong it.
        """
        if started <= self._paused_at:
            return None
        self._pauses_in_a_row += 1
        self._paused_at = self._clock()
        seconds = wait_seconds(self._pauses_in_a_row)
        self._pace.pause_until(self._paused_at + seconds)
        return seconds

    def answered(self) -> None:
        """Note an answer other than 429: the next pause is the first one again."""
        self._pauses_in_a_row = 0
