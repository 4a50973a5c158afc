"""What a run did over time is put into few buckets, and nothing is lost or made up on the way."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer.model import Attempt, Outcome
from importer.page.figures import time_ticks
from importer.page.timeline import MAX_BUCKETS, Answer, Timeline, Times, timeline_of
from importer.state import DoneBatch
from tests.unit.runs import done_of

NOON = datetime(2026, 9, 21, 12, tzinfo=UTC).timestamp()

seconds = st.floats(0, 400_000)
attempts = st.builds(
    Attempt,
    at=seconds.map(lambda at: NOON + at),
    seconds=st.floats(0, 200),
    waited_seconds=st.floats(0, 900),
    contacts=st.integers(1, 5000),
    status=st.sampled_from([None, 200, 207, 400, 429, 500, 503]),
)


@st.composite
def batches(draw: st.DrawFn) -> list[DoneBatch]:
    """Finished batches, one after the other."""
    times = sorted(draw(st.lists(seconds, max_size=40)))
    counts = st.integers(0, 5000)
    return [
        batch_at(NOON + at, number, added=draw(counts), rejected=draw(counts), duplicate=draw(counts))
        for number, at in enumerate(times, 1)
    ]


def batch_at(at: float, number: int = 1, **outcomes: int) -> DoneBatch:
    done = done_of(number, number, number + 1, **outcomes)
    return DoneBatch(done.batch, number, number, b"", number, number + 1, 0, done.outcomes, at=at)


def request_at(at: float, took: float = 1.0, status: int | None = 207) -> Attempt:
    return Attempt(at, took, 2.0, 5000, status)


def timeline(requests: list[Attempt], done: list[DoneBatch]) -> Timeline:
    requests.sort(key=lambda attempt: attempt.at + attempt.seconds)
    return timeline_of(lambda: requests, lambda: done)


@given(st.lists(attempts, max_size=60), batches())
def test_buckets_add_up_to_the_run(requests: list[Attempt], done: list[DoneBatch]) -> None:
    """Whatever happened is in exactly one of few buckets, which follow each other."""
    found = timeline(requests, done)

    assert len(found.buckets) <= MAX_BUCKETS
    starts = [bucket.start for bucket in found.buckets]
    assert starts == sorted(set(starts))
    assert sum(bucket.requests for bucket in found.buckets) == len(requests)
    assert found.statuses() == Counter(attempt.status for attempt in requests)
    reported = sum(bucket.in_list + bucket.not_in_list for bucket in found.buckets)
    assert reported == sum(sum(batch.outcomes.values()) for batch in done)
    rejected = sum(batch.outcomes[Outcome.REJECTED] for batch in done)
    assert sum(bucket.not_in_list for bucket in found.buckets) == rejected
    waited = sum(bucket.waited_seconds for bucket in found.buckets)
    assert waited == pytest.approx(sum(attempt.waited_seconds for attempt in requests))
    answered = [attempt for attempt in requests if attempt.status not in {None, 429}]
    assert found.times().total() == len(answered)
    assert sum(count for _, _, count in found.times().histogram(32)) == len(answered)


@given(st.lists(st.floats(0.001, 10_000), min_size=1))
def test_answer_times_are_told_to_5_percent(taken: list[float]) -> None:
    """Median, the slowest and the spread of answer times are right, though no time is kept."""
    times = Times()
    for each in taken:
        times.add(each)

    middle = times.quantile(0.5)

    ordered = sorted(taken)
    assert middle is not None
    assert ordered[(len(taken) - 1) // 2] / 1.051 <= middle <= ordered[len(taken) // 2] * 1.051
    assert times.longest == ordered[-1]
    spread = times.histogram(10)
    assert len(spread) <= 10
    assert spread[0][0] <= ordered[0] * 1.001
    assert spread[-1][1] >= ordered[-1] / 1.001


def test_run_that_did_nothing_has_no_buckets() -> None:
    """Nothing that happened is nothing to show."""
    found = timeline([], [])

    assert (found.buckets, found.started, found.ended, found.statuses()) == ([], None, None, {})


def test_buckets_begin_at_even_times_of_the_wall_clock() -> None:
    """Ten hours are told in steps of five minutes, from the hour on, in a zone of half hours too."""
    requests = [request_at(NOON + 60 * minute) for minute in range(600)]

    found = timeline_of(lambda: requests, list, utc_offset=5.5 * 3600)

    assert found.width_seconds == 300
    assert len(found.buckets) == 120
    assert found.buckets[0].start == NOON
    assert {bucket.requests for bucket in found.buckets} == {5}


def test_time_in_which_nobody_was_at_work_is_left_out() -> None:
    """A run stopped in the evening and resumed in the morning is shown as what was done, without the night."""
    evening = [request_at(NOON + second) for second in range(0, 600, 10)]
    morning = [request_at(NOON + 50_000 + second) for second in range(0, 600, 10)]

    found = timeline(evening + morning, [])

    assert found.width_seconds == 10
    assert found.pauses == [(NOON + 591, NOON + 50_000)]
    assert all(bucket.requests for bucket in found.buckets)
    assert (found.started, found.ended) == (NOON, NOON + 50_591)


def test_slow_run_is_no_pause() -> None:
    """A request that takes long, or an outage of some minutes, is time at work."""
    found = timeline([request_at(NOON), request_at(NOON + 10, took=4000, status=None), request_at(NOON + 4600)], [])

    assert found.pauses == []
    assert [bucket.answered(Answer.NONE) for bucket in found.buckets if bucket.requests] == [1, 0]


def test_short_buckets_tell_of_the_minute_before() -> None:
    """In steps of seconds, what is told is a sum over 60 seconds: just what a quota allows."""
    found = timeline([request_at(NOON + 2 * number) for number in range(100)], [])

    a_minute = found.a_minute(lambda bucket: bucket.requests)

    assert found.width_seconds == 2
    assert a_minute[:3] == [1, 2, 3]
    assert max(a_minute) == a_minute[-1] == 30


def test_long_buckets_tell_the_average() -> None:
    """In steps of minutes, what is told is an average."""
    found = timeline([request_at(NOON + 10 * number) for number in range(3600)], [])

    assert found.width_seconds == 300
    assert set(found.a_minute(lambda bucket: bucket.requests)) == {6}


@pytest.mark.parametrize("length_seconds", [0, 1, 7, 59, 600, 3601, 86_399, 200_000, 5_000_000, 400_000_000])
def test_labels_of_the_axis_have_room(length_seconds: int) -> None:
    """However long a run was, its axis has one to six labels, and none touches the next one."""
    found = timeline([request_at(NOON + part * length_seconds / 500) for part in range(501)], [])

    ticks = time_ticks(found, UTC)

    assert 1 <= len(ticks) <= 6
    gaps = [after.at - before.at for before, after in pairwise(ticks)]
    assert all(gap >= 0.19 * len(found.buckets) for gap in gaps)
