"""In an outage one request probes, and everybody else waits for it."""

from __future__ import annotations

import asyncio
import random

import pytest

from importer.health import FAILURES_OF_AN_OUTAGE, Health, RetryBudget
from importer.model import Tally, Wait
from tests.virtual_time import in_virtual_time


def health_of(*, in_outage: bool = False, longest: float = 60.0) -> Health:
    random.seed(1)
    health = Health(Tally(), initial_wait_seconds=1.0, max_wait_seconds=longest)
    for _ in range(FAILURES_OF_AN_OUTAGE if in_outage else 0):
        health.failed("no answer")
    return health


@in_virtual_time
async def test_single_failures_are_no_outage() -> None:
    """Failures with answers between them hold nobody back."""
    health = health_of()

    for _ in range(10):
        for _ in range(FAILURES_OF_AN_OUTAGE - 1):
            health.failed("503")
        health.answered()

    assert not health.in_outage()
    assert await health.wait_turn() is False


@in_virtual_time
async def test_one_probe_at_a_time() -> None:
    """Ten senders wait; one probes, and the next only when the probe has ended."""
    health = health_of(in_outage=True)
    probing = most = probes = 0

    async def send() -> None:
        nonlocal probing, most, probes
        assert await health.wait_turn() is True
        probing += 1
        probes += 1
        most = max(most, probing)
        await asyncio.sleep(5)
        probing -= 1
        health.failed("no answer")
        health.end_probe()

    await asyncio.gather(*(send() for _ in range(10)))

    assert (probes, most) == (10, 1)


@in_virtual_time
async def test_pauses_grow_up_to_the_longest() -> None:
    """Each pause before a probe is longer, half of it by chance, up to the longest; after an answer they begin anew."""
    health = health_of(in_outage=True, longest=20.0)
    pauses = []
    loop = asyncio.get_running_loop()

    for _ in range(30):
        before = loop.time()
        await health.wait_turn()
        pauses.append(loop.time() - before)
        health.failed("no answer")
        health.end_probe()
    health.answered()

    assert 0.5 <= pauses[0] <= 1.0
    assert all(10 <= pause <= 20 for pause in pauses[10:])
    assert health.probe_wait_seconds() <= 1.0


@in_virtual_time
async def test_answer_lets_everybody_go() -> None:
    """Once a probe is answered, those who waited for their turn go on at once, and none of them as a probe."""
    health = health_of(in_outage=True)
    loop = asyncio.get_running_loop()
    assert await health.wait_turn() is True
    waiting = [asyncio.create_task(health.wait_turn()) for _ in range(5)]
    await asyncio.sleep(3)
    answered_at = loop.time()

    health.answered()
    health.end_probe()

    assert await asyncio.gather(*waiting) == [False] * 5
    assert loop.time() == answered_at


@in_virtual_time
async def test_answer_during_the_pause_makes_the_probe_needless() -> None:
    """A late answer to a request from before the outage ends it; the one who paused is then no probe."""
    health = health_of(in_outage=True)
    waiting = asyncio.create_task(health.wait_turn())
    await asyncio.sleep(0)

    health.answered()

    assert await waiting is False
    assert await asyncio.wait_for(health.wait_turn(), 1) is False


@pytest.mark.parametrize("number", [0, 1, 2])
@in_virtual_time
async def test_cancelled_wait_leaves_the_turn_to_the_next(number: int) -> None:
    """Whoever stops waiting, in the pause or in the line, keeps no turn."""
    health = health_of(in_outage=True)
    waiting = [asyncio.create_task(health.wait_turn()) for _ in range(3)]
    await asyncio.sleep(0.1)

    waiting[number].cancel()
    for task in waiting:
        if task is not waiting[number]:
            assert await asyncio.wait_for(task, 120) is True
            health.end_probe()

    assert waiting[number].cancelled()


@in_virtual_time
async def test_silence_is_counted_from_the_first_failure() -> None:
    """Whether failures or 429s: the silence begins with the first, and ends with an answer."""
    health = health_of()
    await asyncio.sleep(100)
    silent = [health.silent_seconds]

    health.throttled()
    await asyncio.sleep(10)
    health.failed("no answer")
    await asyncio.sleep(10)
    silent.append(health.silent_seconds)
    health.answered()
    silent.append(health.silent_seconds)

    assert silent == [0, 20, 0]


@in_virtual_time
async def test_outage_is_shown_until_it_ends() -> None:
    """What people see of an outage is there while it lasts."""
    tally = Tally()
    health = Health(tally, initial_wait_seconds=1.0, max_wait_seconds=60.0)
    for _ in range(FAILURES_OF_AN_OUTAGE):
        health.failed("no answer")

    await health.wait_turn()
    shown = Wait.OUTAGE in tally.waits
    health.answered()

    assert shown
    assert Wait.OUTAGE not in tally.waits


def test_retries_are_in_proportion_to_answers() -> None:
    """At first a few retries are free; then every second answer pays for one."""
    budget = RetryBudget(capacity=3, share=0.5)
    first = [budget.withdraw() for _ in range(4)]

    for _ in range(4):
        budget.deposit()
    later = [budget.withdraw() for _ in range(3)]

    assert first == [True, True, True, False]
    assert later == [True, True, False]


def test_retry_budget_is_bounded() -> None:
    """A long good time does not pay for a storm of retries."""
    budget = RetryBudget(capacity=3, share=0.5)

    for _ in range(1000):
        budget.deposit()

    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]
