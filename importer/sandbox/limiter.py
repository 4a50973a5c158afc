"""The limit of requests a minute: whether a request is let through, and what is said about it.

Goes by the sandbox's own clock; writes no answer.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importer.sandbox.sections import Limit

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Admission:
    """What the limiter decided about one request."""

    is_admitted: bool
    # Requests a minute that hold now.
    limit: int
    remaining: int
    # Seconds until a request can be let through (throttled), or until the oldest request leaves the window.
    reset_seconds: float


class Limiter:
    """Requests in the current window. Those before it are forgotten, so that memory depends on the limit alone."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._times: deque[float] = deque()
        others = limit.others_requests_per_minute
        self._others_gap = WINDOW_SECONDS / others if others else math.inf
        self._others_next = self._others_gap / 2

    def admit(self, now: float) -> Admission | None:
        """Decide about a request at `now`, in seconds that never go back; None where there is no limit."""
        self._let_others_in(now)
        allowed = self._allowed(now)
        if allowed is None:
            return None
        self._forget(now)
        is_admitted = len(self._times) < allowed
        if is_admitted or self._limit.count_throttled:
            self._times.append(now)
        return Admission(
            is_admitted=is_admitted,
            limit=allowed,
            remaining=max(0, allowed - len(self._times)),
            reset_seconds=self._reset_seconds(now, allowed, is_admitted=is_admitted),
        )

    def _allowed(self, now: float) -> int | None:
        allowed = self._limit.requests_per_minute
        for change in sorted(self._limit.changes, key=lambda change: change.at_seconds):
            if change.at_seconds <= now:
                allowed = change.requests_per_minute
        return allowed

    def _let_others_in(self, now: float) -> None:
        # What they did more than a window ago no longer matters; a long pause must not cost a long loop.
        overdue = now - WINDOW_SECONDS - self._others_next
        if 0 < overdue < math.inf:
            self._others_next += math.ceil(overdue / self._others_gap) * self._others_gap
        while self._others_next <= now:
            # They always get theirs, so that what is left for the client is known in advance.
            self._times.append(self._others_next)
            self._others_next += self._others_gap

    def _forget(self, now: float) -> None:
        if self._limit.window == "fixed":
            start = math.floor(now / WINDOW_SECONDS) * WINDOW_SECONDS
            while self._times and self._times[0] < start:
                self._times.popleft()
        else:
            while self._times and self._times[0] <= now - WINDOW_SECONDS:
                self._times.popleft()

    def _reset_seconds(self, now: float, allowed: int, *, is_admitted: bool) -> float:
        if self._limit.window == "fixed":
            return WINDOW_SECONDS - now % WINDOW_SECONDS
        if not self._times or not allowed:
            return WINDOW_SECONDS
        # The request that has to leave before the next one fits; the limit may have been lowered meanwhile.
        leaver = self._times[0] if is_admitted else self._times[len(self._times) - allowed]
        return leaver + WINDOW_SECONDS - now
