"""When the next request may start. Every attempt asks here, retries and splits included."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

import structlog

from importer.rate import Rate, RateLimits

WINDOW_SECONDS = 60.3
"""The minute of the quota, with a margin for requests that take unlike times to reach the server's own count."""

_MINUTE = 60.0
_CATCH_UP_SECONDS = 0.1
_FORGOTTEN_SECONDS = 600.0  # after which a 429 is of no interest, even to a request that was answered very late


class Start(NamedTuple):
    """The start of one request."""

    at: float
    before: int  # starts in the minute before it


class Pace:
    """Evenly spaced starts, of which no window of a minute holds more than the quota. Pure: the time is handed in."""

    def __init__(self, requests_per_minute: float) -> None:
        """Allow the first request at once."""
        self._slot = float("-inf")
        self._starts: deque[float] = deque()
        self.set_rate(requests_per_minute)

    def set_rate(self, requests_per_minute: float) -> None:
        """Go on at another rate."""
        self.requests_per_minute = requests_per_minute
        self._limit = max(1, int(requests_per_minute))
        self._interval = WINDOW_SECONDS / requests_per_minute
        # A start that came late, by a timer or a busy sender, is made up for, but idle time is not saved.
        self._tolerance = max(self._interval, _CATCH_UP_SECONDS)

    @property
    def starts(self) -> Sequence[float]:
        """The starts of the last minute, and perhaps older ones; it changes with every start."""
        return self._starts

    def remember(self, starts: Sequence[float]) -> None:
        """Count starts of an earlier process, in the order of time, on this one's clock."""
        self._starts.extend(starts)
        if starts:
            self._slot = starts[-1] + self._interval

    def delay_seconds(self, now: float) -> float:
        """Tell how long to wait before the next start; 0 for none."""
        while self._starts and self._starts[0] <= now - WINDOW_SECONDS:
            self._starts.popleft()
        window_opens = self._starts[-self._limit] + WINDOW_SECONDS if len(self._starts) >= self._limit else now
        return max(0.0, self._slot - now, window_opens - now)

    def start(self, now: float) -> Start:
        """Take the slot."""
        before_the_minute = sum(1 for _ in takewhile(lambda start: start <= now - _MINUTE, self._starts))
        taken = Start(now, len(self._starts) - before_the_minute)
        self._starts.append(now)
        is_late = now - self._slot <= self._tolerance
        self._slot = (self._slot if is_late else now) + self._interval
        return taken

    def pause_until(self, until: float) -> None:
        """Let no request start before `until`; the pace goes on from there, without a burst."""
        self._slot = max(self._slot, until)


def on_this_clock(starts: Sequence[float], *, wall_now: float, now: float) -> list[float]:
    """Translate times of the wall clock; those that seem to come from the future began now at the latest."""
    return [now - max(0.0, wall_now - start) for start in sorted(starts)]


class Quota:
    """Hands out starts one at a time, in the order in which they were asked for."""

    def __init__(
        self,
        rate: Rate,
        *,
        starts: Sequence[float] = (),
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Take the time in seconds from `clock`, by default the running event loop's; count the `starts` so far."""
        self._rate = rate
        self._pace = Pace(rate.per_minute)
        self._pace.remember(starts)
        self._clock = clock or asyncio.get_running_loop().time
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._paused_at = float("-inf")
        self._pauses_in_a_row = 0
        self._throttled: deque[float] = deque()  # starts that were answered 429
        self._log = structlog.get_logger()

    @property
    def per_minute(self) -> float:
        """The rate at present."""
        return self._rate.per_minute

    @property
    def starts(self) -> Sequence[float]:
        """When the requests of the last minute started, on the clock; it changes with every start."""
        return self._pace.starts

    @property
    def next_start(self) -> float:
        """When the next request may start, on the clock."""
        now = self._clock()
        return now + self._pace.delay_seconds(now)

    async def acquire(self, prepare: Callable[[], Awaitable[object]] | None = None) -> Start:
        """Wait until a request may start, and give its start, which is now.

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
            return self._pace.start(self._clock())

    def throttled(self, start: Start, wait_seconds: Callable[[int], float]) -> float | None:
        """Pause every sender because the request of that start was answered 429.

        `wait_seconds` gives the pause from the number of pauses in a row, from 1. Gives the pause's seconds, or None
        for a straggler: a request that began before the pause did says nothing new, and does not prolong it.
        """
        self._throttled.append(start.at)
        if start.at <= self._paused_at:
            return None
        # Only the first in a row tells of a rate: nothing was let through since.
        if not self._pauses_in_a_row:
            self._rate.throttled(start.at, self._let_through_before(start))
            self._follow_rate()
        self._pauses_in_a_row += 1
        self._paused_at = self._clock()
        seconds = wait_seconds(self._pauses_in_a_row)
        self._pace.pause_until(self._paused_at + seconds)
        return seconds

    def answered(self, start: Start) -> None:
        """Note that the request of that start was answered other than by 429."""
        if start.at > self._paused_at:
            self._pauses_in_a_row = 0
            self._rate.accepted(start.at, start.before + 1)
            self._follow_rate()

    def told(self, start: Start, limits: RateLimits, *, was_let_through: bool) -> None:
        """Believe what the headers of an answer say of the limit, as of the start of its request."""
        if limits.limit is not None:
            ours = None
            if limits.remaining is not None:
                ours = limits.remaining + self._let_through_before(start) + was_let_through
            self._rate.told(limits.limit, ours)
            self._follow_rate()
        if limits.remaining == 0 and limits.reset_seconds is not None:
            # Whole seconds are rounded up: those who wait for all of them never use a quota to its end.
            self._pace.pause_until(start.at + limits.reset_seconds - 1)

    def _let_through_before(self, start: Start) -> int:
        while self._throttled and self._throttled[0] < start.at - _FORGOTTEN_SECONDS:
            self._throttled.popleft()
        return start.before - sum(1 for at in self._throttled if start.at - _MINUTE < at < start.at)

    def _follow_rate(self) -> None:
        before, now = self._pace.requests_per_minute, self._rate.per_minute
        if before != now:
            self._pace.set_rate(now)
            self._log.info("rate_changed", requests_per_minute=round(now, 1), before=round(before, 1))
