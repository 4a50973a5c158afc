"""How many requests a minute to ask for: as set, or found out. Pure: the time is handed in.

Learns from single requests, never from how long a batch took with all its retries.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

FIRST_GUESS = 30.0
"""Requests a minute of the one documented figure that names Campaigns."""

_WINDOW_SECONDS = 60.0
_LOWERED = 0.98  # by a 429 that tells no better: some step has to be taken
_SMALLEST_STEP = 1.02
# One trial of more costs about one 429: so rarely that they stay far below one answer in a hundred.
_SECONDS_BETWEEN_TRIALS = 600.0
_REQUESTS_BETWEEN_TRIALS = 300
_HIGHEST = 1_000_000.0
# Counts of ours and of the server may differ by a request or two; so much less than the limit is somebody else's.
_SHARE_OF_OTHERS = 0.1


class RateLimits(msgspec.Struct, frozen=True):
    """What an answer's X-RateLimit headers say, as far as it makes sense."""

    limit: int | None = None  # requests a minute
    remaining: int | None = None
    reset_seconds: float | None = None


class Rate(Protocol):
    """A rate that may change with what the API answers."""

    per_minute: float

    def throttled(self, now: float, accepted: int) -> None:
        """Take in an answer 429, `accepted` requests having been let through in the minute before it."""
        ...

    def accepted(self, now: float, started: int) -> None:
        """Take in another answer, `started` requests having begun in the minute before it."""
        ...

    def told(self, limit: int, ours: int | None) -> None:
        """Take in the limit that the API names, and how much of it is ours if others share it."""
        ...


class FixedRate:
    """The rate that was set. A lower limit that the API names is believed; nothing raises the rate."""

    def __init__(self, per_minute: float) -> None:
        """Ask for so many requests a minute."""
        self.per_minute = per_minute
        self._set = per_minute

    def throttled(self, now: float, accepted: int) -> None:
        """Change nothing: the quota was given by a person, and a 429 is waited for."""

    def accepted(self, now: float, started: int) -> None:
        """Change nothing."""

    def told(self, limit: int, ours: int | None) -> None:
        """Stay within what the API names."""
        self.per_minute = min(self._set, _told_rate(self.per_minute, limit, ours))


class FoundRate:
    """A rate that is found out.

    Three phases: doubled every minute until the first 429, which tells the limit, for it is what was let through in
    the minute before; kept there; and tried a little higher after some time, in growing steps as long as that goes
    well. A limit that the API names is taken at once, and never exceeded.
    """

    def __init__(self, per_minute: float = FIRST_GUESS) -> None:
        """Begin with a guess."""
        self.per_minute = per_minute
        self._is_bounded = False  # a 429 or a header told where the limit is
        self._told: float | None = None
        self._settled_at: float | None = None  # when the rate began to be what it is
        self._step = _SMALLEST_STEP
        self._trial_at = float("-inf")

    def throttled(self, now: float, accepted: int) -> None:
        """Go down to what was let through, but no lower than half: a 429 may be of other causes."""
        before = self.per_minute
        self.per_minute = max(1.0, before / 2, min(before * _LOWERED, accepted))
        self._is_bounded = True
        self._step = _SMALLEST_STEP
        self._settled_at = now
        between = max(_SECONDS_BETWEEN_TRIALS, _WINDOW_SECONDS * _REQUESTS_BETWEEN_TRIALS / self.per_minute)
        self._trial_at = now + between

    def accepted(self, now: float, started: int) -> None:
        """Go higher, if the present rate was used for a minute and nothing came of it."""
        if self._settled_at is None:
            self._settled_at = now
        was_used = started >= 0.9 * self.per_minute - 1
        if not was_used or now - self._settled_at < _WINDOW_SECONDS or (self._is_bounded and now < self._trial_at):
            return
        step = 2.0
        if self._is_bounded:
            step, self._step = self._step, min(2.0, 1 + 2 * (self._step - 1))
        self.per_minute = min(self.per_minute * step, self._told or _HIGHEST)
        self._settled_at = now

    def told(self, limit: int, ours: int | None) -> None:
        """Take what the API names; a 429 below that counts for more, until it names something else."""
        told = _told_rate(self._told or self.per_minute, limit, ours)
        if told == self._told:
            return
        self.per_minute = self._told = told
        self._is_bounded = True
        self._settled_at = None


def _told_rate(before: float, limit: int, ours: int | None) -> float:
    if ours is None or ours >= limit * (1 - _SHARE_OF_OTHERS):
        return float(limit)
    is_as_before = abs(ours - before) <= max(1.0, before * _SHARE_OF_OTHERS)
    return before if is_as_before else max(1.0, float(ours))
