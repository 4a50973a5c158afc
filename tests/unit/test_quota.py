"""No minute holds more starts than the quota, and a hungry run uses nearly all of them."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importer.quota import Pace, Quota, Start, on_this_clock
from importer.rate import FixedRate, FoundRate, Rate, RateLimits
from tests.unit.fakes import UNTHROTTLED
from tests.virtual_time import in_virtual_time, run

MINUTE = 60.0


def most_in_a_minute(starts: list[float]) -> int:
    """How many starts the fullest window of a minute holds, its ends included."""
    return max((number + 1 - bisect_left(starts, start - MINUTE) for number, start in enumerate(starts)), default=0)


class Starter:
    """Starts requests as a pace allows, on a clock of its own."""

    def __init__(self, requests_per_minute: float, begin: float = 0.0) -> None:
        self.pace = Pace(requests_per_minute)
        self.now = begin
        self.starts: list[float] = []

    def start(self, late_seconds: float = 0.0) -> None:
        """Wait as told, and a little longer; then start."""
        self.now += late_seconds
        while delay := self.pace.delay_seconds(self.now):
            self.now += delay
        self.pace.start(self.now)
        self.starts.append(self.now)

    def start_until(self, end: float) -> None:
        while self.now + self.pace.delay_seconds(self.now) < end:
            self.start()
        self.now = max(self.now, end)


deeds = st.lists(
    st.one_of(
        st.tuples(st.just("starts"), st.integers(1, 90).map(float)),
        st.tuples(st.just("late"), st.floats(0, 5)),
        st.tuples(st.just("idle"), st.floats(0, 200)),
        st.tuples(st.just("pause"), st.floats(0, 100)),
        st.tuples(st.just("overlap"), st.floats(0, 3)),
    ),
    max_size=25,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.one_of(st.integers(1, 200).map(float), st.floats(0.2, 300)), deeds, st.floats(0, 1e6))
def test_no_minute_holds_more_than_the_quota(
    requests_per_minute: float, schedule: list[tuple[str, float]], begin: float
) -> None:
    """Whatever is asked for when, late, after idling or around a pause: no minute holds more than the quota."""
    starter = Starter(requests_per_minute, begin)

    for deed, amount in schedule:
        match deed:
            case "starts":
                for _ in range(int(amount)):
                    starter.start()
            case "late":
                starter.start(late_seconds=amount)
            case "idle":
                starter.now += amount
            case "pause":
                starter.pace.pause_until(starter.now + amount)
            case "overlap":
                starter.pace.pause_until(starter.now + amount)
                starter.now += amount / 2

    assert most_in_a_minute(starter.starts) <= max(1, math.floor(requests_per_minute))
    assert starter.starts == sorted(starter.starts)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(1, 300), st.floats(0, 1e6))
def test_hungry_run_uses_the_whole_quota(requests_per_minute: int, begin: float) -> None:
    """Someone who always has a request to send uses more than 99 % of the quota."""
    starter = Starter(requests_per_minute, begin)

    starter.start_until(begin + 20 * MINUTE)

    assert len(starter.starts) > 0.99 * 20 * requests_per_minute


@pytest.mark.parametrize("requests_per_minute", [1, 30, 100, 200, 3000])
def test_late_timers_cost_next_to_nothing(requests_per_minute: int) -> None:
    """Timers that fire up to 50 ms late leave more than 98.9 % of the quota, and never overdraw it."""
    starter = Starter(requests_per_minute)
    random = Random(1)

    while starter.now < 20 * MINUTE:
        late = random.uniform(0, min(0.05, MINUTE / requests_per_minute))
        starter.now += starter.pace.delay_seconds(starter.now) + late
        starter.start()

    assert most_in_a_minute(starter.starts) <= requests_per_minute
    assert len(starter.starts) > 0.989 * 20 * requests_per_minute


def test_starts_are_evenly_paced() -> None:
    """Thirty a minute start about every two seconds."""
    starter = Starter(30)

    starter.start_until(5 * MINUTE)

    gaps = [after - before for before, after in zip(starter.starts, starter.starts[1:], strict=False)]
    assert max(gaps) - min(gaps) < 0.001
    assert 2.0 <= min(gaps) < 2.02


def test_first_request_starts_at_once() -> None:
    """Nobody waits for the first request, whatever the clock says."""
    assert [Pace(30).delay_seconds(now) for now in (0.0, 12345.6)] == [0.0, 0.0]


@pytest.mark.parametrize("idle_seconds", [10, 59, 61, 3600])
def test_idle_time_is_not_saved(idle_seconds: float) -> None:
    """After idling, as at the very start, requests come at the pace, and none is made up for."""
    starter = Starter(30)
    starter.start_until(MINUTE)
    starter.now += idle_seconds
    before = len(starter.starts)

    starter.start_until(starter.now + 3)

    assert len(starter.starts) - before == 2


def test_pause_ends_without_a_burst() -> None:
    """After a pause the pace goes on as before it."""
    starter = Starter(30)
    starter.start_until(10)
    starter.pace.pause_until(100)

    starter.start_until(110)

    resumed = [start for start in starter.starts if start > 10]
    assert resumed[0] == 100
    assert len(resumed) == 5


def test_shorter_pause_does_not_end_a_longer_one() -> None:
    """The longest of overlapping pauses counts."""
    pace = Pace(30)
    pace.pause_until(100)

    pace.pause_until(50)

    assert pace.delay_seconds(0) == 100


@in_virtual_time
async def test_starts_are_handed_out_in_order() -> None:
    """Who asks first starts first, one at a time, at the pace."""
    quota = Quota(FixedRate(60))
    order: list[int] = []

    async def ask(number: int) -> float:
        start = await quota.acquire()
        order.append(number)
        return start.at

    starts = await asyncio.gather(*(ask(number) for number in range(10)))

    assert list(range(10)) == order
    assert [pytest.approx(1.005 * number) for number in range(10)] == starts


@in_virtual_time
async def test_pause_holds_back_those_who_wait_already() -> None:
    """A pause that comes while senders wait for their turn holds them all."""
    quota = Quota(FixedRate(60))
    waiting = [asyncio.create_task(quota.acquire()) for _ in range(4)]
    await asyncio.sleep(1.5)

    seconds = quota.throttled(await waiting[1], lambda _: 30.0)

    assert seconds == 30.0
    assert [0.0, 1.005, 31.5, pytest.approx(32.505)] == [(await each).at for each in waiting]


@in_virtual_time
async def test_stragglers_do_not_prolong_a_pause() -> None:
    """Requests that began before the pause, and are answered 429 during it, change nothing."""
    quota = Quota(FixedRate(UNTHROTTLED))
    starts = [await quota.acquire() for _ in range(3)]
    first = quota.throttled(starts[0], lambda _: 30.0)
    await asyncio.sleep(20)

    stragglers = [quota.throttled(start, lambda _: 30.0) for start in starts[1:]]

    assert (first, stragglers) == (30.0, [None, None])
    assert (await quota.acquire()).at == pytest.approx(30)


@in_virtual_time
async def test_pauses_in_a_row_are_counted_until_an_answer_comes() -> None:
    """Each pause after another is told its number; an answer begins the count anew."""
    quota = Quota(FixedRate(UNTHROTTLED))
    numbers: list[int] = []

    def wait_seconds(number: int) -> float:
        numbers.append(number)
        return 1.0

    for _ in range(3):
        quota.throttled(await quota.acquire(), wait_seconds)
    quota.answered(await quota.acquire())
    quota.throttled(await quota.acquire(), wait_seconds)

    assert numbers == [1, 2, 3, 1]


@in_virtual_time
async def test_cancelled_wait_leaves_the_turn_to_the_next() -> None:
    """Whoever stops waiting blocks nobody, and takes no start with it."""
    quota = Quota(FixedRate(60))
    waiting = [asyncio.create_task(quota.acquire()) for _ in range(5)]
    await asyncio.sleep(0.5)

    waiting[1].cancel()  # the one whose turn it is
    waiting[3].cancel()  # one that stands in line

    left = await asyncio.gather(*waiting, return_exceptions=True)
    starts = [each.at for each in left if isinstance(each, Start)]
    assert [0.0, 1.005, pytest.approx(2.01)] == starts
    assert [isinstance(left[number], asyncio.CancelledError) for number in (1, 3)] == [True, True]


@in_virtual_time
async def test_pause_that_comes_during_the_preparation_counts() -> None:
    """A request whose preparation outlasts the wait is held back by a pause that came meanwhile."""
    quota = Quota(FixedRate(UNTHROTTLED))
    first = await quota.acquire()
    second = asyncio.create_task(quota.acquire(lambda: asyncio.sleep(5)))
    await asyncio.sleep(2)

    quota.throttled(first, lambda _: 30.0)

    assert (await second).at == pytest.approx(32)


@in_virtual_time
async def test_preparation_is_done_once_before_each_start() -> None:
    """Slow preparations neither overlap nor let two starts come nearer to each other."""
    quota = Quota(FixedRate(60))
    prepared: list[float] = []

    async def prepare() -> None:
        prepared.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.4)

    starts = [start.at for start in await asyncio.gather(*(quota.acquire(prepare) for _ in range(5)))]

    assert len(prepared) == 5
    assert [pytest.approx(0.4) for _ in range(5)] == [
        start - begun for start, begun in zip(starts, prepared, strict=True)
    ]
    assert most_in_a_minute(starts) == 5
    assert starts[-1] - starts[0] == pytest.approx(4 * 1.005, abs=0.5)


@in_virtual_time
async def test_old_answers_do_not_end_a_row_of_pauses() -> None:
    """An answer to a request from before the pause says nothing of whether the pause was long enough."""
    quota = Quota(FixedRate(UNTHROTTLED))
    numbers: list[int] = []

    def wait_seconds(number: int) -> float:
        numbers.append(number)
        return 1.0

    old = await quota.acquire()
    quota.throttled(await quota.acquire(), wait_seconds)
    quota.answered(old)
    quota.throttled(await quota.acquire(), wait_seconds)

    assert numbers == [1, 2]


class Limit:
    """A server that lets through so many requests in any minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._times: deque[float] = deque()

    def lets_through(self, now: float) -> bool:
        while self._times and self._times[0] <= now - MINUTE:
            self._times.popleft()
        if len(self._times) >= self.per_minute:
            return False
        self._times.append(now)
        return True


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(1, 120), st.integers(0, 2**32), st.sampled_from(["set", "found"]))
def test_many_senders_keep_the_quota_through_throttling_and_restarts(
    requests_per_minute: int, seed: int, kind: str
) -> None:
    """Senders of random speed, pauses, retries and new processes: never more than the quota starts in a minute."""
    random = Random(seed)
    starts: list[float] = []

    async def send(quota: Quota) -> None:
        while True:
            start = await quota.acquire()
            starts.append(start.at)
            await asyncio.sleep(random.expovariate(1))
            if random.random() < 0.05:
                quota.throttled(start, lambda _: random.uniform(0, 40))
            else:
                quota.answered(start)

    class Capped(FoundRate):
        """Finds out a rate, but is not to go beyond the limit."""

        def accepted(self, now: float, started: int) -> None:
            super().accepted(now, started)
            self.per_minute = min(self.per_minute, requests_per_minute)

    async def work() -> None:
        rate: Rate = FixedRate(requests_per_minute) if kind == "set" else Capped(min(30, requests_per_minute))
        clock = asyncio.get_running_loop().time
        remembered = on_this_clock(starts[-150:], wall_now=clock(), now=clock())
        quota = Quota(rate, starts=[start for start in remembered if start > clock() - 120])
        senders = [asyncio.create_task(send(quota)) for _ in range(8)]
        await asyncio.sleep(random.uniform(5, 150))
        for sender in senders:
            sender.cancel()
        await asyncio.wait(senders)

    async def main() -> None:
        for _ in range(5):
            await work()

    run(main())

    assert most_in_a_minute(starts) <= requests_per_minute


def test_starts_of_an_earlier_process_count() -> None:
    """Thirty starts of the last minute leave no room; the first of them makes it when it is a minute old."""
    pace = Pace(30)

    pace.remember([2.0 * number for number in range(30)])

    assert pace.delay_seconds(58.5) == pytest.approx(60.3 - 58.5)
    assert pace.delay_seconds(60.4) == 0


def test_few_starts_of_an_earlier_process_keep_the_pace() -> None:
    """A process that begins right after another waits for the other's next slot, and no longer."""
    pace = Pace(30)

    pace.remember([100.0])

    assert pace.delay_seconds(100.5) == pytest.approx(1.51)
    assert pace.delay_seconds(104) == 0


@pytest.mark.parametrize(
    ("wall_now", "now", "here"),
    [
        (1_000_060.0, 5.0, [-55.0, -25.0]),
        (1_000_030.0, 5.0, [-25.0, 5.0]),
        (1_000_020.0, 5.0, [-15.0, 5.0]),  # the wall clock went back: the last start is not in the future
        (900_000.0, 5.0, [5.0, 5.0]),
    ],
)
def test_starts_are_translated_from_the_wall_clock(wall_now: float, now: float, here: list[float]) -> None:
    """Starts keep their age; what seems to come from the future began now, the worst that it can mean."""
    assert here == on_this_clock([1_000_030.0, 1_000_000.0], wall_now=wall_now, now=now)


@in_virtual_time
async def test_headers_that_leave_nothing_pause_until_the_reset() -> None:
    """Nothing remains, and the reset is in 20 seconds, rounded up: the next request starts a second before."""
    quota = Quota(FixedRate(60))

    quota.told(await quota.acquire(), RateLimits(None, 0, 20), was_let_through=True)

    assert (await quota.acquire()).at == 19


@in_virtual_time
async def test_limit_that_others_share_is_seen_in_what_remains() -> None:
    """Of 60 a minute others take 40: what remains after ten of ours tells that 20 are ours."""
    quota = Quota(FixedRate(60))
    starts = [await quota.acquire() for _ in range(10)]

    quota.told(starts[-1], RateLimits(60, 10, 1), was_let_through=True)

    assert quota.per_minute == 20


@in_virtual_time
async def test_small_differences_in_what_remains_are_noise() -> None:
    """A count that differs by a request or two does not change the rate."""
    quota = Quota(FixedRate(60))
    starts = [await quota.acquire() for _ in range(10)]

    quota.told(starts[-1], RateLimits(60, 46, 1), was_let_through=True)

    assert quota.per_minute == 60


@pytest.mark.parametrize("latency_seconds", [0.5, 20, 60])
@pytest.mark.parametrize("limit", [12, 30, 47, 130])
def test_unknown_limit_is_found_and_kept_to(limit: int, latency_seconds: float) -> None:
    """After ten minutes 95 % of an unknown limit are used, and less than one answer in a hundred is 429."""
    server = Limit(limit)
    answers: list[tuple[float, bool]] = []

    async def send(quota: Quota, start: Start) -> None:
        is_let_through = server.lets_through(start.at)
        answers.append((start.at, is_let_through))
        await asyncio.sleep(latency_seconds)
        if is_let_through:
            quota.answered(start)
        else:
            quota.throttled(start, lambda pauses: min(60.0, 2.0**pauses))

    async def main() -> None:
        quota = Quota(FoundRate())
        async with asyncio.timeout(90 * MINUTE), asyncio.TaskGroup() as sending:
            while True:
                sending.create_task(send(quota, await quota.acquire()))

    with pytest.raises(TimeoutError):
        run(main())

    later = [is_let_through for at, is_let_through in answers if at >= 10 * MINUTE]
    assert sum(later) > 0.95 * 80 * limit
    assert later.count(False) < 0.01 * len(later)


@in_virtual_time
async def test_429s_in_a_row_lower_the_rate_once() -> None:
    """While nothing is let through, only the first 429 tells of a rate: a storm of them does not bring it down."""
    quota = Quota(FoundRate(60))
    for _ in range(60):
        quota.answered(await quota.acquire())
        await asyncio.sleep(0.5)

    for _ in range(10):
        quota.throttled(await quota.acquire(), lambda _: 60.0)

    assert quota.per_minute >= 55
