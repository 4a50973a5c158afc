"""One batch is taken to its result: who is asked again, what giving up means, and what ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importer.answers import Answer, Answered, Lost, NotSent, Refused, Throttled
from importer.envelope import Item
from importer.errors import IncompleteError, RefusedError
from importer.model import IN_THE_LIST, Anomaly, ApiError, Batch, BatchResult, Outcome, Reason
from importer.replay import Task
from importer.shutdown import StoppedError
from tests.unit.fakes import FakeApi, Rig, all_added, batch_of, outcomes, policy_of, sids_of
from tests.virtual_time import in_virtual_time

ADDED, FAILED, UNKNOWN, REJECTED = Outcome.ADDED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.REJECTED
NOT_SENT = NotSent(Reason.NOT_CONNECTED, "refused")
TIMED_OUT = Lost(Reason.TIMED_OUT, "no answer")
BROKEN = Lost(Reason.SERVER_ERROR, "HTTP 503", None, 503)
UNREADABLE = Lost(Reason.ANSWER_UNREADABLE, "html", None, 200)
STOP = IncompleteError("stopped by hand")


def now() -> float:
    return asyncio.get_running_loop().time()


def answer_by(code_of: Callable[[str], int | None]) -> Callable[[Sequence[str]], Answer]:
    """Make a step whose items have these codes; a contact without one is left out."""

    def answer(sids: Sequence[str]) -> Answer:
        codes = {sid: code_of(sid) for sid in sids}
        return Answered([Item((sid,), code) for sid, code in codes.items() if code is not None])

    return answer


def poisoned_by(*poison: str, status: int = 400) -> Callable[[Sequence[str]], Answer]:
    """Make a step that refuses any request that carries one of these."""

    def answer(sids: Sequence[str]) -> Answer:
        return Refused(status, ApiError(1002)) if set(poison) & set(sids) else all_added(sids)

    return answer


@in_virtual_time
async def test_batch_is_delivered_in_one_request() -> None:
    """A healthy API is asked once, and each contact has its verdict and one attempt."""
    rig = Rig(FakeApi(all_added))

    result = await rig.deliver(5)

    assert outcomes(result) == [ADDED] * 5
    assert list(result.attempts) == [1] * 5
    assert [sids_of(5)] == [request.sids for request in rig.api.requests]
    assert (rig.tally.requests, rig.tally.retries, rig.tally.throttled, rig.tally.in_flight) == (1, 0, 0, 0)


@in_virtual_time
async def test_batch_without_contacts_costs_no_request() -> None:
    """A batch of nothing but rows that are not sent is finished at once."""
    rig = Rig(FakeApi(all_added))

    result = await rig.sender.deliver(Task(Batch(1, 1, 3, [], [])))

    assert (list(result.verdicts), list(result.attempts)) == ([], [])
    assert rig.api.requests == []


@in_virtual_time
async def test_only_open_contacts_are_asked_again() -> None:
    """Throttle one item, break another, leave one out, then add all: only those three are sent again, and once."""
    sids = sids_of(6)
    codes = {sids[1]: 429, sids[3]: 503, sids[4]: None, sids[5]: 400}
    rig = Rig(FakeApi(answer_by(lambda sid: codes.get(sid, 200)), all_added))

    result = await rig.deliver(6)

    assert [sids, [sids[1], sids[3], sids[4]]] == [request.sids for request in rig.api.requests]
    assert outcomes(result) == [ADDED, ADDED, ADDED, ADDED, ADDED, REJECTED]
    assert list(result.attempts) == [1, 2, 1, 2, 2, 1]
    assert (rig.tally.requests, rig.tally.retries) == (2, 1)
    assert rig.tally.anomalies == {Anomaly.MISSING: 1}


@in_virtual_time
async def test_contacts_fewer_with_each_attempt_keep_their_own_verdicts() -> None:
    """However the open contacts dwindle, each verdict lands on its own contact."""
    sids = sids_of(9)
    attempts_needed = {sid: 1 + (number * 7) % 5 for number, sid in enumerate(sids)}
    asked: dict[str, int] = dict.fromkeys(sids, 0)

    def answer(asked_sids: Sequence[str]) -> Answer:
        for sid in asked_sids:
            asked[sid] += 1
        items = [Item((sid,), 200 if asked[sid] == attempts_needed[sid] else 503) for sid in asked_sids]
        return Answered(items[::-1])

    rig = Rig(FakeApi(answer))

    result = await rig.deliver(9)

    assert outcomes(result) == [ADDED] * 9
    assert list(attempts_needed.values()) == list(result.attempts)


@pytest.mark.parametrize(
    ("script", "outcome", "reason"),
    [
        pytest.param([answer_by(lambda _: 429)], FAILED, Reason.ITEM_THROTTLED, id="never taken"),
        pytest.param([answer_by(lambda _: 503)], UNKNOWN, Reason.SERVER_ERROR, id="always broken"),
        pytest.param([answer_by(lambda _: None)], UNKNOWN, Reason.NOT_IN_ANSWER, id="never named"),
        pytest.param(
            [answer_by(lambda _: 503), answer_by(lambda _: 429)],
            UNKNOWN,
            Reason.SERVER_ERROR,
            id="broken, then not taken",
        ),
        pytest.param(
            [answer_by(lambda _: 429), answer_by(lambda _: 503)],
            UNKNOWN,
            Reason.SERVER_ERROR,
            id="not taken, then broken",
        ),
        pytest.param([TIMED_OUT, answer_by(lambda _: 429)], UNKNOWN, Reason.TIMED_OUT, id="lost, then not taken"),
        pytest.param([UNREADABLE, answer_by(lambda _: 429)], UNKNOWN, Reason.ANSWER_UNREADABLE, id="unreadable once"),
        pytest.param(
            [NOT_SENT, answer_by(lambda _: 429)], FAILED, Reason.ITEM_THROTTLED, id="not sent, then not taken"
        ),
    ],
)
def test_giving_up_is_failed_only_if_no_attempt_can_have_added(
    script: list[Answer | Callable[[Sequence[str]], Answer]], outcome: Outcome, reason: Reason
) -> None:
    """After the last attempt a contact has failed if no attempt was processed, and is unknown otherwise."""

    @in_virtual_time
    async def scenario() -> tuple[BatchResult, int]:
        rig = Rig(FakeApi(*script), policy_of(max_attempts=4))
        return await rig.deliver(2), rig.tally.requests

    result, requests = scenario()

    assert [outcome] * 2 == outcomes(result)
    assert [reason] * 2 == [verdict.reason for verdict in result.verdicts]
    assert (list(result.attempts), requests) == ([4, 4], 4)


@pytest.mark.parametrize(
    ("failure", "outcome", "reason"),
    [
        (NOT_SENT, FAILED, Reason.NOT_CONNECTED),
        (TIMED_OUT, UNKNOWN, Reason.TIMED_OUT),
        (BROKEN, UNKNOWN, Reason.SERVER_ERROR),
        (UNREADABLE, UNKNOWN, Reason.ANSWER_UNREADABLE),
    ],
)
def test_batch_that_alone_fails_is_given_up(failure: Answer, outcome: Outcome, reason: Reason) -> None:
    """While other batches get their answers, a batch that gets none is given up after its attempts."""
    bad = sids_of(3)[2]

    @in_virtual_time
    async def scenario() -> BatchResult:
        rig = Rig(
            FakeApi(lambda sids: failure if bad in sids else all_added(sids), seconds=1), policy_of(max_attempts=4)
        )
        others = asyncio.create_task(deliver_for(rig, 500))
        result = await rig.deliver(3)
        others.cancel()
        return result

    result = scenario()

    assert [outcome] * 3 == outcomes(result)
    assert [reason] * 3 == [verdict.reason for verdict in result.verdicts]
    assert list(result.attempts) == [4] * 3


async def deliver_for(rig: Rig, seconds: float) -> list[BatchResult]:
    """Deliver small batches, one after the other."""
    results = []
    while now() < seconds:
        results.append(await rig.deliver(1))
    return results


@in_virtual_time
async def test_giving_up_comes_after_the_elapsed_time_too() -> None:
    """A batch whose items keep failing is given up when its time is over, attempts left or not."""
    rig = Rig(FakeApi(answer_by(lambda _: 503), seconds=10), policy_of(max_attempts=10**6, max_elapsed_seconds=100))

    result = await rig.deliver(1)

    assert outcomes(result) == [UNKNOWN]
    assert 100 <= now() < 100 + 60 + 10


@pytest.mark.parametrize("step", [TIMED_OUT, BROKEN, UNREADABLE, answer_by(lambda _: 503), answer_by(lambda _: None)])
def test_hold_never_resends_what_may_have_been_added(step: Answer | Callable[[Sequence[str]], Answer]) -> None:
    """Under hold, whatever may have been processed is sent once, and is unknown."""

    @in_virtual_time
    async def scenario() -> tuple[BatchResult, int]:
        rig = Rig(FakeApi(step), policy_of(on_unknown="hold"))
        return await rig.deliver(3), rig.tally.requests

    result, requests = scenario()

    assert outcomes(result) == [UNKNOWN] * 3
    assert (list(result.attempts), requests) == ([1, 1, 1], 1)


@in_virtual_time
async def test_hold_resends_what_was_not_processed() -> None:
    """Under hold: not sent, then one item throttled and one broken, then all added: the broken one is left alone."""
    sids = sids_of(3)
    codes = {sids[0]: 429, sids[1]: 503}
    rig = Rig(FakeApi(NOT_SENT, answer_by(lambda sid: codes.get(sid, 200)), all_added), policy_of(on_unknown="hold"))

    result = await rig.deliver(3)

    assert [sids, sids, [sids[0]]] == [request.sids for request in rig.api.requests]
    assert outcomes(result) == [ADDED, UNKNOWN, ADDED]
    assert list(result.attempts) == [3, 2, 2]


@in_virtual_time
async def test_refused_whole_under_hold_is_split() -> None:
    """A refused request was not processed, so that hold allows its parts."""
    sids = sids_of(4)
    rig = Rig(FakeApi(poisoned_by(sids[3])), policy_of(on_unknown="hold"))

    result = await rig.deliver(4)

    assert outcomes(result) == [ADDED, ADDED, ADDED, REJECTED]


@pytest.mark.parametrize("place", [0, 1, 2499, 2500, 4321, 4999])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_poisoned_contact_is_found(place: int, status: int) -> None:
    """One contact in 5,000 that sinks every request is rejected for about 25 requests, and 4,999 get in."""
    sids = sids_of(5000)

    @in_virtual_time
    async def scenario() -> tuple[BatchResult, int]:
        rig = Rig(FakeApi(poisoned_by(sids[place], status=status)))
        return await rig.deliver(5000), rig.tally.requests

    result, requests = scenario()

    assert [place] == [number for number, outcome in enumerate(outcomes(result)) if outcome is REJECTED]
    assert outcomes(result).count(ADDED) == 4999
    assert (status, ApiError(1002)) == (result.verdicts[place].code, result.verdicts[place].error)
    assert 24 <= requests <= 27


@pytest.mark.parametrize("status", [400, 413])
def test_split_stays_within_its_budget(status: int) -> None:
    """A batch that is refused in every part costs a bounded number of requests; what is left then has failed."""

    @in_virtual_time
    async def scenario() -> tuple[BatchResult, int]:
        rig = Rig(FakeApi(Refused(status)))
        return await rig.deliver(5000), rig.tally.requests

    result, requests = scenario()

    assert requests == 64
    assert {FAILED} == set(outcomes(result))
    assert {Reason.REQUEST_REFUSED} == {each.reason for each in result.verdicts}
    assert min(result.attempts) >= 2


@in_virtual_time
async def test_request_too_large_is_split_to_size() -> None:
    """Where the API takes at most 700 contacts, 5,000 are delivered in smaller requests, in their order."""
    rig = Rig(FakeApi(lambda sids: Refused(413) if len(sids) > 700 else all_added(sids)))

    result = await rig.deliver(5000)

    assert outcomes(result) == [ADDED] * 5000
    delivered = [sid for request in rig.api.requests if len(request.sids) <= 700 for sid in request.sids]
    assert sids_of(5000) == delivered
    assert set(result.attempts) == {3, 4}


@in_virtual_time
async def test_split_after_a_partial_answer_sends_only_the_open() -> None:
    """Answer half, then refuse the rest as a whole: the parts hold only the rest."""
    sids = sids_of(8)
    half = set(sids[::2])
    rig = Rig(FakeApi(answer_by(lambda sid: 200 if sid in half else 503), poisoned_by(sids[5])))

    result = await rig.deliver(8)

    sent = [request.sids for request in rig.api.requests]
    assert [sids, [sids[1], sids[3], sids[5], sids[7]]] == sent[:2]
    assert not half & {sid for request in sent[1:] for sid in request}
    assert [number for number, outcome in enumerate(outcomes(result)) if outcome is REJECTED] == [5]
    assert outcomes(result).count(ADDED) == 7
    assert list(result.attempts) == [1, 3, 1, 3, 1, 4, 1, 4]


@in_virtual_time
async def test_refusal_of_the_rest_leaves_the_lost_unknown() -> None:
    """Time out, then refuse in every part: a contact beyond the budget may still have been added."""
    rig = Rig(FakeApi(TIMED_OUT, Refused(400)))

    result = await rig.deliver(5000)

    assert {UNKNOWN} == set(outcomes(result))
    assert {Reason.TIMED_OUT} == {each.reason for each in result.verdicts}


@in_virtual_time
async def test_part_of_a_split_is_retried_by_itself() -> None:
    """Refuse the whole, then break the first half once: only that half is sent again."""
    sids = sids_of(4)
    rig = Rig(FakeApi(Refused(400), BROKEN, all_added))

    result = await rig.deliver(4)

    assert [sids, sids[:2], sids[:2], sids[2:]] == [request.sids for request in rig.api.requests]
    assert outcomes(result) == [ADDED] * 4
    assert list(result.attempts) == [3, 3, 2, 2]


@pytest.mark.parametrize("refusal", [Refused(401), Refused(402), Refused(403), Refused(404), Refused(302)])
def test_refusal_stops_the_run(refusal: Refused) -> None:
    """A refusal of credentials, address or list ends the run with exit code 4, with no verdict and no other request."""

    @in_virtual_time
    async def scenario() -> tuple[Rig, list[BaseException | BatchResult]]:
        rig = Rig(FakeApi(refusal))
        ends = await asyncio.gather(rig.deliver(2), rig.deliver(2), return_exceptions=True)
        return rig, list(ends)

    rig, ends = scenario()

    assert [StoppedError, StoppedError] == [type(end) for end in ends]
    assert isinstance(rig.shutdown.cause, RefusedError)
    assert rig.shutdown.cause.exit_code == 4
    assert len(rig.api.requests) <= 2


@in_virtual_time
async def test_refusal_in_the_middle_of_a_split_stops_the_run() -> None:
    """Refuse the whole batch, then the credentials: the run ends."""
    rig = Rig(FakeApi(Refused(400), Refused(401)))

    with pytest.raises(StoppedError):
        await rig.deliver(4)

    assert isinstance(rig.shutdown.cause, RefusedError)
    assert len(rig.api.requests) == 2


@pytest.mark.parametrize("failure", [NOT_SENT, TIMED_OUT, BROKEN, UNREADABLE])
def test_outage_stops_the_run_without_a_verdict(failure: Answer) -> None:
    """When every request fails for longer than patience, the run ends with exit code 5 and no row has failed."""

    @in_virtual_time
    async def scenario() -> tuple[Rig, list[BaseException | BatchResult], float]:
        rig = Rig(FakeApi(failure, seconds=5))
        ends = await asyncio.gather(*(rig.deliver(2) for _ in range(4)), return_exceptions=True)
        return rig, list(ends), now()

    rig, ends, ended = scenario()

    assert [StoppedError] * 4 == [type(end) for end in ends]
    assert isinstance(rig.shutdown.cause, IncompleteError)
    assert rig.shutdown.cause.exit_code == 5
    assert 900 <= ended <= 5 + 900 + 60 + 5  # the first failure, patience, a pause, the last one


@pytest.mark.parametrize("failure", [NOT_SENT, TIMED_OUT, BROKEN])
@pytest.mark.parametrize("outage_seconds", [30, 300, 800])
def test_outage_that_ends_costs_no_row(failure: Answer, outage_seconds: float) -> None:
    """An outage that begins while batches are under way, and ends in time, turns none of them into failures."""

    @in_virtual_time
    async def scenario() -> list[list[BatchResult]]:
        def answer(sids: Sequence[str]) -> Answer:
            return failure if 100 <= now() < 100 + outage_seconds else all_added(sids)

        rig = Rig(FakeApi(answer, seconds=0.7), requests_per_minute=30)
        return await asyncio.gather(*(deliver_for(rig, 1000) for _ in range(4)))

    results = [result for sender in scenario() for result in sender]

    assert {ADDED} == {outcome for result in results for outcome in outcomes(result)}


@in_virtual_time
async def test_one_failure_after_idling_is_no_outage() -> None:
    """An input that was silent for an hour, and then one failed request, do not end the run."""
    rig = Rig(FakeApi(all_added, BROKEN, Throttled(1.0), all_added))
    await rig.deliver(1)
    await asyncio.sleep(3600)

    result = await rig.deliver(1, number=2)

    assert outcomes(result) == [ADDED]
    assert rig.shutdown.cause is None


@in_virtual_time
async def test_throttled_request_after_idling_is_no_outage() -> None:
    """An input that was silent for an hour, and then one 429, do not end the run."""
    rig = Rig(FakeApi(all_added, Throttled(1.0), all_added))
    await rig.deliver(1)
    await asyncio.sleep(3600)

    result = await rig.deliver(1, number=2)

    assert outcomes(result) == [ADDED]
    assert rig.shutdown.cause is None


@in_virtual_time
async def test_throttled_request_costs_no_attempt() -> None:
    """Twenty times 429, then success: one attempt, though each request was counted."""
    rig = Rig(FakeApi(*[Throttled(5.0)] * 20, all_added), policy_of(max_attempts=1))

    result = await rig.deliver(2)

    assert outcomes(result) == [ADDED] * 2
    assert list(result.attempts) == [1, 1]
    assert (rig.tally.requests, rig.tally.throttled, rig.tally.retries) == (21, 20, 0)
    assert now() == pytest.approx(100)


@in_virtual_time
async def test_throttled_request_pauses_all_senders() -> None:
    """After a 429 nobody starts until the time that the server asked for; those in flight do not prolong it."""
    answers = iter([Throttled(40.0), Throttled(40.0), Throttled(40.0)])
    rig = Rig(FakeApi(lambda sids: next(answers, None) or all_added(sids), seconds=3), requests_per_minute=60)

    results = await asyncio.gather(*(rig.deliver(1) for _ in range(6)))

    assert [outcomes(result) for result in results] == [[ADDED]] * 6
    assert [pytest.approx(1.005 * number) for number in range(3)] == rig.api.times[:3]
    assert [pytest.approx(43 + 1.005 * number) for number in range(6)] == rig.api.times[3:]
    assert rig.tally.throttled == 3


@in_virtual_time
async def test_pauses_double_where_the_server_does_not_say() -> None:
    """Without Retry-After, pauses in a row grow up to the longest wait."""
    rig = Rig(FakeApi(*[Throttled(None)] * 7, all_added))

    await rig.deliver(1)

    gaps = [after - before for before, after in zip(rig.api.times, rig.api.times[1:], strict=False)]
    assert [pytest.approx(gap, abs=0.01) for gap in (2, 4, 8, 16, 32, 60, 60)] == gaps


@in_virtual_time
async def test_answer_ends_the_growth_of_pauses() -> None:
    """After an answer, the next pause is as short as the first."""
    rig = Rig(FakeApi(Throttled(None), Throttled(None), all_added, Throttled(None), all_added))

    await rig.deliver(1)
    await rig.deliver(1)

    assert rig.api.times == [pytest.approx(at, abs=0.01) for at in (0, 2, 6, 6, 8)]


@pytest.mark.parametrize("seconds", [901.0, 86_400.0, float("inf")])
def test_pause_beyond_patience_stops_the_run(seconds: float) -> None:
    """A server that asks to wait longer than patience ends the run at once, resumable."""

    @in_virtual_time
    async def scenario() -> tuple[Rig, float]:
        rig = Rig(FakeApi(Throttled(seconds)))
        with pytest.raises(StoppedError):
            await rig.deliver(1)
        return rig, now()

    rig, ended = scenario()

    assert isinstance(rig.shutdown.cause, IncompleteError)
    assert (len(rig.api.requests), ended) == (1, 0.0)


@in_virtual_time
async def test_throttling_without_end_stops_the_run() -> None:
    """An API that answers nothing but 429 for longer than patience ends the run, resumable."""
    rig = Rig(FakeApi(Throttled(30.0)))

    with pytest.raises(StoppedError):
        await rig.deliver(1)

    assert isinstance(rig.shutdown.cause, IncompleteError)
    assert 900 < now() < 1000


@in_virtual_time
async def test_every_request_waits_for_the_quota() -> None:
    """Retries and parts of splits keep the pace like first requests."""
    sids = sids_of(16)
    broken = iter([BROKEN, BROKEN])
    poison = poisoned_by(sids[5])
    rig = Rig(
        FakeApi(lambda asked: next(broken, None) or poison(asked)),
        policy_of(initial_wait_seconds=0.001, max_wait_seconds=0.001),
        requests_per_minute=30,
    )

    await asyncio.gather(*(rig.deliver(16) for _ in range(3)))

    gaps = [after - before for before, after in zip(rig.api.times, rig.api.times[1:], strict=False)]
    assert min(gaps) > 2
    assert len(gaps) > 25


@in_virtual_time
async def test_retry_after_of_a_failure_is_honoured() -> None:
    """Neither a broken request nor throttled items are asked for again sooner than the server said."""
    items = Answered([Item((sids_of(1)[0],), 429)], retry_after_seconds=200.0)
    rig = Rig(FakeApi(Lost(Reason.SERVER_ERROR, "HTTP 503", 100.0, 503), items, all_added))

    await rig.deliver(1)

    assert [pytest.approx(at, abs=0.01) for at in (0, 100, 300)] == rig.api.times


@in_virtual_time
async def test_stop_interrupts_a_wait_for_the_next_attempt() -> None:
    """A batch that waits for its next attempt ends the moment that the run is to end."""
    rig = Rig(FakeApi(Lost(Reason.SERVER_ERROR, "HTTP 503", 500.0, 503)))
    delivery = asyncio.create_task(rig.deliver(1))
    await asyncio.sleep(60)

    rig.shutdown.request(STOP)

    with pytest.raises(StoppedError):
        await delivery
    assert (now(), len(rig.api.requests)) == (60, 1)


@in_virtual_time
async def test_stop_interrupts_a_wait_for_the_quota() -> None:
    """Batches that wait for their turn end at once, and are never sent."""
    rig = Rig(FakeApi(all_added), requests_per_minute=1)
    deliveries = [asyncio.create_task(rig.deliver(1)) for _ in range(4)]
    await asyncio.sleep(30)

    rig.shutdown.request(STOP)

    ends = await asyncio.gather(*deliveries, return_exceptions=True)
    assert [BatchResult, StoppedError, StoppedError, StoppedError] == [type(end) for end in ends]
    assert (now(), len(rig.api.requests)) == (30, 1)


@in_virtual_time
async def test_stop_interrupts_a_pause() -> None:
    """A pause for a 429 does not hold up the end."""
    rig = Rig(FakeApi(Throttled(600.0)))
    delivery = asyncio.create_task(rig.deliver(1))
    await asyncio.sleep(30)

    rig.shutdown.request(STOP)

    with pytest.raises(StoppedError):
        await delivery
    assert now() == 30


@in_virtual_time
async def test_requests_in_flight_finish_within_the_grace() -> None:
    """An answer that comes within the grace counts; a slower request is cut off, and its batch has no result."""
    seconds = iter([20.0, 40.0, 1000.0])
    rig = Rig(FakeApi(all_added), grace_seconds=25)

    async def slow(sids: Sequence[str]) -> Answer:
        await asyncio.sleep(next(seconds))
        return all_added(sids)

    rig.api.add_contacts = slow  # type: ignore[method-assign]  # each request takes its own time
    deliveries = [asyncio.create_task(rig.deliver(1)) for _ in range(3)]
    await asyncio.sleep(18)

    rig.shutdown.request(STOP)

    ends = await asyncio.gather(*deliveries, return_exceptions=True)
    assert [BatchResult, BatchResult, StoppedError] == [type(end) for end in ends]
    assert (now(), rig.tally.in_flight) == (43, 0)


@in_virtual_time
async def test_stop_sends_no_open_contact_again() -> None:
    """A partial answer that comes within the grace is followed by no other request."""
    rig = Rig(FakeApi(answer_by(lambda _: 503), seconds=10))
    delivery = asyncio.create_task(rig.deliver(2))
    await asyncio.sleep(5)

    rig.shutdown.request(STOP)

    with pytest.raises(StoppedError):
        await delivery
    assert (now(), len(rig.api.requests)) == (10, 1)


@pytest.mark.parametrize("moment", [0.5, 2.5, 4.0, 7.0, 20.0, 100.0])
def test_cancelled_delivery_leaves_the_others_alone(moment: float) -> None:
    """Wherever a delivery is cancelled, the quota stays usable and no request is counted as in flight."""

    @in_virtual_time
    async def scenario() -> tuple[bool, BatchResult, int]:
        rig = Rig(FakeApi(BROKEN, Throttled(5.0), BROKEN, all_added, seconds=2), requests_per_minute=20)
        first = asyncio.create_task(rig.deliver(2))
        others = asyncio.create_task(rig.deliver(2))
        await asyncio.sleep(moment)
        first.cancel()
        await asyncio.wait([first])
        result = await others
        return first.cancelled() or first.done(), result, rig.tally.in_flight

    ended, result, in_flight = scenario()

    assert ended
    assert (outcomes(result), in_flight) == ([ADDED, ADDED], 0)


@in_virtual_time
async def test_error_of_our_own_is_not_swallowed() -> None:
    """What no answer can stand for is raised, and ends the delivery."""

    def fail(_: Sequence[str]) -> Answer:
        raise ZeroDivisionError

    rig = Rig(FakeApi(fail))

    with pytest.raises(ZeroDivisionError):
        await rig.deliver(1)

    assert rig.tally.in_flight == 0


@in_virtual_time
async def test_batches_do_not_mix() -> None:
    """Many batches at a time, answered in any order, each get their own verdicts."""
    batches = [
        Batch(number, 1, 3, range(1, 4), [f"{number:016x}{row:016x}" for row in range(3)]) for number in range(40)
    ]
    asked: dict[str, int] = {}

    def answer(sids: Sequence[str]) -> Answer:
        for sid in sids:
            asked[sid] = asked.get(sid, 0) + 1
        codes = {0: 200, 1: 400, 2: 503}
        return Answered([Item((sid,), 200 if asked[sid] > 2 else codes[int(sid[16:], 16)]) for sid in sids])

    rig = Rig(FakeApi(answer, seconds=1))

    results = await asyncio.gather(*(rig.sender.deliver(Task(batch)) for batch in batches))

    assert [outcomes(result) for result in results] == [[ADDED, REJECTED, ADDED]] * 40
    assert [list(result.attempts) for result in results] == [[1, 1, 3]] * 40
    assert batches == [result.batch for result in results]
    assert batch_of(3).sids != results[0].batch.sids


@pytest.mark.parametrize(
    ("script", "written"),
    [
        pytest.param([all_added], ["intend"], id="added: the batch is about to be done"),
        pytest.param([NOT_SENT, all_added], ["intend", "withdraw", "intend"], id="not sent"),
        pytest.param([Throttled(1.0), all_added], ["intend", "withdraw", "intend"], id="throttled"),
        pytest.param([BROKEN, all_added], ["intend", "intend"], id="broken: it may have been processed"),
        pytest.param(
            [answer_by(lambda _: 503), all_added], ["intend", "note", "intend"], id="answered, and not settled"
        ),
        pytest.param(
            [Refused(400), all_added, all_added], ["intend", "withdraw", "intend", "note", "intend"], id="split"
        ),
    ],
)
def test_journal_knows_of_every_request_before_it_leaves(
    script: list[Answer | Callable[[Sequence[str]], Answer]], written: list[str]
) -> None:
    """Each request is intended first; the intent is withdrawn only where nothing can have been processed."""

    @in_virtual_time
    async def scenario() -> Rig:
        rig = Rig(FakeApi(*script))
        await rig.deliver(2)
        return rig

    rig = scenario()

    assert written == [deed for deed, _ in rig.journal.written]
    assert len(rig.api.requests) == written.count("intend")


@pytest.mark.parametrize("status", [401, 404])
def test_refused_run_leaves_no_batch_in_doubt(status: int) -> None:
    """The request that the API refused for good is taken back before the run ends."""

    @in_virtual_time
    async def scenario() -> Rig:
        rig = Rig(FakeApi(Refused(status)))
        with pytest.raises(StoppedError):
            await rig.deliver(2)
        return rig

    assert [deed for deed, _ in scenario().journal.written] == ["intend", "withdraw"]


@in_virtual_time
async def test_batch_in_doubt_is_sent_again_under_resend() -> None:
    """A batch of which nobody knows whether it arrived is sent again, and its contacts are counted."""
    rig = Rig(FakeApi(all_added))

    result = await rig.sender.deliver(Task(batch_of(3), in_doubt=True))

    assert outcomes(result) == [ADDED] * 3
    assert list(result.attempts) == [2] * 3
    assert rig.tally.resent_contacts == 3


@in_virtual_time
async def test_batch_in_doubt_is_left_alone_under_hold() -> None:
    """A batch of which nobody knows whether it arrived is unknown under hold, and never sent."""
    rig = Rig(FakeApi(all_added), policy_of(on_unknown="hold"))

    result = await rig.sender.deliver(Task(batch_of(3), in_doubt=True))

    assert outcomes(result) == [UNKNOWN] * 3
    assert {Reason.IN_DOUBT} == {verdict.reason for verdict in result.verdicts}
    assert rig.api.requests == []


class Fickle:
    """A server with a list of its own, that fails in every known way but never lies about a contact it answers for."""

    def __init__(self, seed: int, sids: Sequence[str]) -> None:
        self.members: set[str] = set()
        self.times_sent: dict[str, int] = dict.fromkeys(sids, 0)
        self.settled_or_doubtful: set[str] = set()  # contacts that may be in the list, as far as a client can tell
        self.sent_again_though_doubtful: set[str] = set()
        self._random = Random(seed)
        self._poison = {sid for sid in sids if self._random.random() < 0.05}
        self._malformed = {sid for sid in sids if self._random.random() < 0.1}
        self._health = self._random.choice([0.2, 0.5, 0.9])

    def __call__(self, sids: Sequence[str]) -> Answer:
        fate = self._random.random()
        if fate < 0.15:
            return Throttled(self._random.choice([None, 0.5, 20.0]))
        self.sent_again_though_doubtful |= self.settled_or_doubtful & set(sids)
        for sid in sids:
            self.times_sent[sid] += 1
        if fate < 0.3:
            return NOT_SENT
        if fate < 0.45:
            self.settled_or_doubtful |= set(sids)
            if self._random.random() < 0.5 and not self._poison & set(sids):
                self.members |= {sid for sid in sids if sid not in self._malformed}
            return self._random.choice([TIMED_OUT, BROKEN, UNREADABLE])
        if self._poison & set(sids):
            return Refused(400)
        items = [item for sid in sids for item in self._items_for(sid)]
        self._random.shuffle(items)
        return Answered(items)

    def _items_for(self, sid: str) -> list[Item]:
        if sid in self._malformed:
            self.settled_or_doubtful.add(sid)
            return [Item((sid,), 400, "failure")]
        if self._random.random() < 0.3 * (1 - self._health):
            return [Item((sid,), 429, "failure")]
        self.settled_or_doubtful.add(sid)
        if self._random.random() < self._health:
            known = sid in self.members
            self.members.add(sid)
            return [Item((sid,), 409, "failure") if known else Item((sid,), 200, "success")]
        if self._random.random() < 0.5:
            self.members.add(sid)
        doubtful = [
            [],
            [Item((sid,), 503, "failure")],
            [Item((sid,), 200, "failure")],
            [Item((sid,), 200, "success"), Item((sid,), 400, "failure")],
        ]
        return self._random.choice(doubtful)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["resend", "hold"]), st.integers(1, 40))
def test_verdicts_agree_with_the_list(seed: int, on_unknown: Literal["resend", "hold"], count: int) -> None:
    """Whatever goes wrong: what is reported in the list is in it, what has failed is not, and hold asks but once."""
    fickle = Fickle(seed, sids_of(count))

    @in_virtual_time
    async def scenario() -> tuple[BatchResult, int]:
        rig = Rig(FakeApi(fickle, seconds=0.3), policy_of(max_attempts=4, on_unknown=on_unknown))
        return await rig.deliver(count), rig.tally.requests - rig.tally.throttled

    result, requests = scenario()

    present = {sid for sid, outcome in zip(sids_of(count), outcomes(result), strict=True) if outcome in IN_THE_LIST}
    absent = {
        sid for sid, outcome in zip(sids_of(count), outcomes(result), strict=True) if outcome in {FAILED, REJECTED}
    }
    assert present <= fickle.members
    assert not absent & fickle.members
    assert list(fickle.times_sent.values()) == list(result.attempts)
    assert max(result.attempts) <= requests
    assert on_unknown == "resend" or not fickle.sent_again_though_doubtful
