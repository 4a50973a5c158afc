"""What a run did over time, in at most as many buckets as a picture can show; pure, and bounded whatever the run.

Whatever happened is in exactly one bucket, so that the buckets add up to the run.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from heapq import merge
from itertools import pairwise

import msgspec

from importer.model import IN_THE_LIST, Attempt
from importer.state import DoneBatch

MAX_BUCKETS = 120
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_PAUSE_SECONDS = 1800.0  # nothing happens for that long only where no process is at work
_MAX_STRETCHES = 12
_STEP = 1.05  # of the answer times that are told apart: 5 %
_LEAST_SECONDS = 0.001


class Answer(StrEnum):
    """What came back for a request."""

    OK = "2xx"
    THROTTLED = "429"
    SERVER_ERROR = "5xx"
    OTHER = "other"
    NONE = "no answer"


def answer_of(status: int | None) -> Answer:
    """Sort a status of HTTP."""
    if status is None:
        return Answer.NONE
    if 200 <= status < 300:
        return Answer.OK
    if status == 429:
        return Answer.THROTTLED
    return Answer.SERVER_ERROR if status >= 500 else Answer.OTHER


class Times(msgspec.Struct):
    """How long answers took, told apart to 5 %: as small for a million of them as for a hundred."""

    counts: dict[int, int] = msgspec.field(default_factory=dict)
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one answer."""
        step = math.floor(math.log(max(seconds, _LEAST_SECONDS), _STEP))
        self.counts[step] = self.counts.get(step, 0) + 1
        self.longest = max(self.longest, seconds)

    def include(self, other: Times) -> None:
        """Count what others have counted."""
        for step, count in other.counts.items():
            self.counts[step] = self.counts.get(step, 0) + count
        self.longest = max(self.longest, other.longest)

    def total(self) -> int:
        """How many answers there were."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Give the time in which this share of the answers came, to 5 %; None where none came."""
        left = share * self.total()
        for step, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                middle: float = _STEP ** (step + 0.5)
                return min(middle, self.longest)
        return None

    def histogram(self, max_bars: int) -> list[tuple[float, float, int]]:
        """Give bars from the quickest answer to the slowest: from, to, how many. Each is as many times the last."""
        if not self.counts:
            return []
        first, last = min(self.counts), max(self.counts)
        steps = -(-(last - first + 1) // max_bars)
        bars = [0] * ((last - first) // steps + 1)
        for step, count in self.counts.items():
            bars[(step - first) // steps] += count
        edges = [_STEP ** (first + place * steps) for place in range(len(bars) + 1)]
        return [(begin, end, count) for (begin, end), count in zip(pairwise(edges), bars, strict=True)]


class Bucket(msgspec.Struct):
    """What happened from one moment on, until the next bucket's or a pause begins."""

    start: float  # seconds of the wall clock
    in_list: int = 0  # rows reported, of which the contact is in the list
    not_in_list: int = 0
    requests: int = 0  # that left
    statuses: dict[int | None, int] = msgspec.field(default_factory=dict)  # of the answers to these; None: no answer
    times: Times = msgspec.field(default_factory=Times)  # of answers but 429
    waited_seconds: float = 0.0  # of all requests, before they left
    longest_wait: float = 0.0

    def count_rows(self, done: DoneBatch) -> None:
        """Add a finished batch."""
        in_list = sum(count for outcome, count in done.outcomes.items() if outcome in IN_THE_LIST)
        self.in_list += in_list
        self.not_in_list += sum(done.outcomes.values()) - in_list

    def count_request(self, attempt: Attempt) -> None:
        """Add a request."""
        self.requests += 1
        self.statuses[attempt.status] = self.statuses.get(attempt.status, 0) + 1
        self.waited_seconds += attempt.waited_seconds
        self.longest_wait = max(self.longest_wait, attempt.waited_seconds)
        if answer_of(attempt.status) not in {Answer.NONE, Answer.THROTTLED}:
            self.times.add(attempt.seconds)

    @property
    def average_wait(self) -> float | None:
        """How long a request waited, in seconds; None where none left."""
        return self.waited_seconds / self.requests if self.requests else None

    def answered(self, answer: Answer) -> int:
        """How many requests got such an answer."""
        return sum(count for status, count in self.statuses.items() if answer_of(status) is answer)


class Timeline(msgspec.Struct, frozen=True):
    """The buckets of a run, in order; none where nothing has happened yet."""

    width_seconds: int
    buckets: Sequence[Bucket]
    started: float | None = None
    ended: float | None = None
    pauses: Sequence[tuple[float, float]] = ()  # in which nobody was at work; they have no buckets

    def times(self) -> Times:
        """How long all answers took."""
        times = Times()
        for bucket in self.buckets:
            times.include(bucket.times)
        return times

    def statuses(self) -> dict[int | None, int]:
        """What came back for all requests, the commonest first."""
        statuses: Counter[int | None] = Counter()
        for bucket in self.buckets:
            statuses.update(bucket.statuses)
        return dict(statuses.most_common())

    def a_minute(self, count: Callable[[Bucket], float]) -> list[float]:
        """Give what happened a minute: in the minute that ends with the bucket, or on average in a longer bucket."""
        values = [float(count(bucket)) for bucket in self.buckets]
        if self.width_seconds >= 60:
            return [value * 60 / self.width_seconds for value in values]
        starts = [bucket.start for bucket in self.buckets]
        first = (bisect_right(starts, start + self.width_seconds - 60 - self.width_seconds / 2) for start in starts)
        return [sum(values[begin : place + 1]) for place, begin in enumerate(first)]


def timeline_of(
    attempts: Callable[[], Iterable[Attempt]],
    done: Callable[[], Iterable[DoneBatch]],
    *,
    utc_offset: float = 0.0,
    max_buckets: int = MAX_BUCKETS,
) -> Timeline:
    """Read a run twice: when it was at work, and what it did. Both come in the order in which they ended.

    `utc_offset` in seconds lets the buckets begin at even times of the clock on the wall.
    """
    stretches = _stretches(attempts(), done())
    if not stretches:
        return Timeline(_WIDTHS[0], [])
    width, places = _places(stretches, utc_offset, max_buckets)
    buckets = [Bucket(place * width - utc_offset) for place in places]

    def bucket_at(moment: float) -> Bucket:
        return buckets[max(0, bisect_right(places, math.floor((moment + utc_offset) / width)) - 1)]

    for batch in done():
        bucket_at(batch.at).count_rows(batch)
    for attempt in attempts():
        bucket_at(attempt.at).count_request(attempt)
    gaps = [(before[1], after[0]) for before, after in pairwise(stretches)]
    pauses = [(begin, end) for begin, end in gaps if end - begin > _PAUSE_SECONDS]
    return Timeline(width, buckets, stretches[0][0], stretches[-1][1], pauses)


def _stretches(attempts: Iterable[Attempt], done: Iterable[DoneBatch]) -> list[tuple[float, float]]:
    """When something was under way: from, until."""
    events = merge(
        ((attempt.at + attempt.seconds, attempt.at) for attempt in attempts), ((batch.at, batch.at) for batch in done)
    )
    stretches: list[tuple[float, float]] = []
    for end, begin in events:
        if not stretches or (begin > stretches[-1][1] + _PAUSE_SECONDS and len(stretches) < _MAX_STRETCHES):
            stretches.append((begin, end))
        else:
            first, last = stretches[-1]
            stretches[-1] = min(first, begin), max(last, end)
    return sorted(stretches)


def _places(stretches: Sequence[tuple[float, float]], utc_offset: float, most: int) -> tuple[int, list[int]]:
    """The narrowest width at which few enough buckets cover the stretches, and the buckets' places in such a grid."""
    width, widths = 1, iter(_WIDTHS)
    while True:
        width = next(widths, width * 2)
        ranges = [
            range(math.floor((first + utc_offset) / width), math.floor((last + utc_offset) / width) + 1)
            for first, last in stretches
        ]
        if sum(map(len, ranges)) <= most:
            return width, sorted({place for each in ranges for place in each})
