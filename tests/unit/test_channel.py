"""One request at the moment at which it may leave, and nothing left behind where it may not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from importer.answers import Answer, Lost, NotSent, Refused, Throttled
from importer.errors import IncompleteError
from importer.health import FAILURES_OF_AN_OUTAGE
from importer.model import Attempt, Batch, Reason, Tally
from importer.rate import RateLimits
from importer.shutdown import StoppedError
from tests.unit.fakes import FakeApi, FakeJournal, Rig, all_added, batch_of, policy_of, sids_of
from tests.virtual_time import in_virtual_time

UNREACHED = NotSent(Reason.NOT_CONNECTED, "refused")
BROKEN = Lost(Reason.SERVER_ERROR, "HTTP 503", status=503)


def now() -> float:
    return asyncio.get_running_loop().time()


async def ask(rig: Rig, count: int = 1) -> tuple[int, int, Answer]:
    return await rig.channel.request(batch_of(count), sids_of(count))


async def begin_outage(rig: Rig) -> None:
    for _ in range(FAILURES_OF_AN_OUTAGE):
        rig.health.failed("no answer")


@in_virtual_time
async def test_throttled_request_is_made_again() -> None:
    """A 429 is waited for, withdrawn from the journal, and nobody hears of it."""
    rig = Rig(FakeApi(Throttled(7.0), all_added))

    intent, carried, answer = await ask(rig, 3)

    assert (intent, carried, answer) == (2, 3, all_added(sids_of(3)))
    assert rig.api.times == [0, 7]
    assert rig.journal.written == [("intend", 1), ("withdraw", 1), ("intend", 1)]
    assert (rig.tally.requests, rig.tally.throttled) == (2, 1)


@pytest.mark.parametrize("seconds", [901.0, 1e9])
@in_virtual_time
async def test_pause_beyond_the_patience_ends_the_run(seconds: float) -> None:
    """A Retry-After longer than max_elapsed_seconds is not waited for."""
    rig = Rig(FakeApi(Throttled(seconds)), policy_of(max_elapsed_seconds=900))

    with pytest.raises(StoppedError):
        await ask(rig)

    assert isinstance(rig.shutdown.cause, IncompleteError)
    assert "429" in str(rig.shutdown.cause)
    assert now() == 0
    assert rig.journal.written == [("intend", 1), ("withdraw", 1)]


@in_virtual_time
async def test_endless_429s_end_the_run() -> None:
    """Nothing but 429s for longer than max_elapsed_seconds ends it too, however short the pauses."""
    rig = Rig(FakeApi(Throttled(30.0)), policy_of(max_elapsed_seconds=600))

    with pytest.raises(StoppedError):
        await ask(rig)

    assert isinstance(rig.shutdown.cause, IncompleteError)
    assert 600 <= now() <= 660


@in_virtual_time
async def test_several_429s_of_one_moment_are_one_pause() -> None:
    """Ten requests in flight are throttled together: all ten wait once, and come back at the pace."""
    answers = iter([Throttled(20.0)] * 10)
    rig = Rig(
        FakeApi(lambda sids: next(answers, None) or all_added(sids), seconds=30),
        policy_of(),
        requests_per_minute=60,
    )

    await asyncio.gather(*(ask(rig) for _ in range(10)))

    first_try, second_try = rig.api.times[:10], rig.api.times[10:]
    assert first_try[-1] < 10
    assert second_try[0] == pytest.approx(30 + 20)
    assert min(after - before for before, after in pairwise(second_try)) >= 1


@in_virtual_time
async def test_unsent_request_says_nothing_of_the_quota() -> None:
    """A refused connection between two 429s does not end their row."""
    rig = Rig(FakeApi(Throttled(None), UNREACHED, Throttled(None), all_added))

    await ask(rig)
    await ask(rig)

    assert rig.api.times == pytest.approx([0, 2, 2, 6], abs=0.001)


@in_virtual_time
async def test_limits_of_any_answer_are_believed() -> None:
    """A refusal and a 5xx carry headers too."""
    rig = Rig(
        FakeApi(Refused(400, limits=RateLimits(50)), Lost(Reason.SERVER_ERROR, "503", limits=RateLimits(20))),
        requests_per_minute=60,
    )
    rates = []

    for _ in range(2):
        await ask(rig)
        rates.append(rig.quota.per_minute)

    assert rates == [50, 20]


@in_virtual_time
async def test_outage_that_begins_while_waiting_for_the_quota_holds_back() -> None:
    """Senders that had their turn before the outage do not make their requests in it: one probes."""
    random.seed(1)
    in_flight = most = 0

    def count(sids: Sequence[str]) -> Answer:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        asyncio.get_running_loop().call_later(1.9, leave)
        return BROKEN if now() < 200 else all_added(sids)

    def leave() -> None:
        nonlocal in_flight
        in_flight -= 1

    rig = Rig(FakeApi(count, seconds=2), requests_per_minute=30)
    waiting = [asyncio.create_task(ask(rig)) for _ in range(12)]
    await asyncio.sleep(0.1)
    await begin_outage(rig)

    await asyncio.gather(*waiting)

    assert most == 1
    assert rig.journal.written.count(("intend", 1)) == 12


@in_virtual_time
async def test_probe_under_hold_carries_one_contact() -> None:
    """Where whatever gets no answer is unknown for good, a probe risks one contact."""
    rig = Rig(FakeApi(BROKEN), policy_of(on_unknown="hold"))
    await begin_outage(rig)

    _, carried, _ = await ask(rig, 5000)

    assert carried == 1
    assert len(rig.api.requests[0].sids) == 1


@pytest.mark.parametrize("seconds", [0.1, 1.5, 2.5, 60])
@in_virtual_time
async def test_shutdown_during_a_probe_stops_everybody(seconds: float) -> None:
    """Whether in the pause before a probe, in the line, or in flight: all stop, and nothing stays locked."""
    random.seed(1)
    rig = Rig(FakeApi(BROKEN, seconds=2), grace_seconds=5)
    await begin_outage(rig)

    async def probe() -> None:
        while True:
            await ask(rig)

    waiting = [asyncio.create_task(probe()) for _ in range(8)]
    await asyncio.sleep(seconds)

    rig.shutdown.request(IncompleteError("A signal."))
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)

    assert {StoppedError} == {type(each) for each in ended}
    assert rig.tally.in_flight == 0
    rig.health.answered()
    assert await asyncio.wait_for(rig.health.wait_turn(), 1) is False


@pytest.mark.parametrize("seconds", [0.1, 1.5, 2.5, 30])
@in_virtual_time
async def test_cancelled_probe_leaves_the_turn(seconds: float) -> None:
    """A sender that is cancelled as it probes, or before, does not keep the others from it."""
    random.seed(1)
    rig = Rig(FakeApi(lambda sids: BROKEN if now() < 100 else all_added(sids), seconds=2))
    await begin_outage(rig)

    async def probe() -> None:
        while isinstance((await ask(rig))[2], Lost):
            pass

    waiting = [asyncio.create_task(probe()) for _ in range(4)]
    await asyncio.sleep(seconds)

    for task in waiting[:3]:
        task.cancel()

    await asyncio.wait_for(waiting[3], 300)
    assert 100 <= now() <= 230


@in_virtual_time
async def test_request_that_is_stopped_before_it_leaves_is_withdrawn() -> None:
    """The run ends while the intent is being written: it is taken back, and nothing is sent."""

    class SlowJournal(FakeJournal):
        async def intend(self, batch: Batch, tally: Tally) -> None:
            await super().intend(batch, tally)
            rig.shutdown.request(IncompleteError("A signal."))
            await asyncio.sleep(1)

    rig = Rig(FakeApi(all_added), journal=SlowJournal())

    with pytest.raises(StoppedError):
        await ask(rig)

    assert rig.journal.written == [("intend", 1), ("withdraw", 1)]
    assert rig.api.requests == []


@in_virtual_time
async def test_every_request_is_observed() -> None:
    """With what it waited for before it left, how long it took, and the status, if it had an answer."""
    rig = Rig(FakeApi(Throttled(7.0, http_status=429), UNREACHED))

    await ask(rig, 3)

    assert rig.attempts == [Attempt(1000.0, 0.0, 0.0, 3, 429), Attempt(1000.0, 0.0, 7.0, 3, None)]
