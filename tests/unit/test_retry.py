"""What follows from each answer, and how the retry loop follows it."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from importer.answers import Answer, Answered, Lost, NotSent, Refused, Throttled
from importer.envelope import Item
from importer.errors import RefusedError
from importer.model import Anomaly, ApiError, ExitCode, Outcome, Reason, Verdict
from importer.retry import Decision, RetryPolicy, attempts, decide, explain_refusal, supersede
from tests.unit.fakes import LIST, policy_of
from tests.virtual_time import in_virtual_time

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
BAD = ApiError(1002, "Invalid parameter", "so it is")
HOLD = policy_of(on_unknown="hold")
RESEND = policy_of(on_unknown="resend")

NOT_SENT = NotSent(Reason.NOT_CONNECTED, "refused")
TIMED_OUT = Lost(Reason.TIMED_OUT, "no answer")
RESET = Lost(Reason.CONNECTION_LOST, "reset")
BROKEN = Lost(Reason.SERVER_ERROR, "HTTP 503", 7.0, 503)
CONFLICT = Lost(Reason.CONFLICT, "HTTP 409", None, 409)
UNREADABLE = Lost(Reason.ANSWER_UNREADABLE, "no envelope", None, 200)
PARTIAL = Answered(
    [Item((A,), 200, "success"), Item((B,), 429, "failure"), Item((C,), 503, "failure")], retry_after_seconds=9.0
)
SHORT = Answered([Item((A,), 200, "success")])
MIXED = Answered(
    [Item((A,), 409, "failure"), Item((B,), 400, "failure", BAD), Item((C,), 200, "failure")],
)


F, U, ADDED, PRESENT, REJECTED = (
    Outcome.FAILED,
    Outcome.UNKNOWN,
    Outcome.ADDED,
    Outcome.ALREADY_PRESENT,
    Outcome.REJECTED,
)


@pytest.mark.parametrize(
    ("answer", "on_unknown", "outcomes", "again", "answered", "wait_seconds"),
    [
        pytest.param(NOT_SENT, "resend", [F, F, F], [0, 1, 2], False, None, id="not sent"),
        pytest.param(NOT_SENT, "hold", [F, F, F], [0, 1, 2], False, None, id="not sent, hold"),
        pytest.param(TIMED_OUT, "resend", [U, U, U], [0, 1, 2], False, None, id="timed out"),
        pytest.param(TIMED_OUT, "hold", [U, U, U], [], False, None, id="timed out, hold"),
        pytest.param(RESET, "resend", [U, U, U], [0, 1, 2], False, None, id="reset"),
        pytest.param(RESET, "hold", [U, U, U], [], False, None, id="reset, hold"),
        pytest.param(BROKEN, "resend", [U, U, U], [0, 1, 2], False, 7.0, id="5xx"),
        pytest.param(BROKEN, "hold", [U, U, U], [], False, 7.0, id="5xx, hold"),
        pytest.param(CONFLICT, "resend", [U, U, U], [0, 1, 2], False, None, id="conflict"),
        pytest.param(CONFLICT, "hold", [U, U, U], [], False, None, id="conflict, hold"),
        pytest.param(UNREADABLE, "resend", [U, U, U], [0, 1, 2], False, None, id="unreadable"),
        pytest.param(UNREADABLE, "hold", [U, U, U], [], False, None, id="unreadable, hold"),
        pytest.param(PARTIAL, "resend", [ADDED, F, U], [1, 2], True, 9.0, id="items that ask for another try"),
        pytest.param(PARTIAL, "hold", [ADDED, F, U], [1], True, 9.0, id="items that ask for another try, hold"),
        pytest.param(SHORT, "resend", [ADDED, U, U], [1, 2], True, None, id="items missing"),
        pytest.param(SHORT, "hold", [ADDED, U, U], [], True, None, id="items missing, hold"),
        pytest.param(MIXED, "resend", [PRESENT, REJECTED, U], [2], True, None, id="items that say no"),
        pytest.param(MIXED, "hold", [PRESENT, REJECTED, U], [], True, None, id="items that say no, hold"),
    ],
)
def test_who_is_asked_for_again(
    answer: Answer,
    on_unknown: Literal["resend", "hold"],
    outcomes: list[Outcome],
    again: list[int],
    answered: bool,
    wait_seconds: float | None,
) -> None:
    """The decision table: what each contact has now, whom to ask for again, and whether the API is there at all."""
    decision = decide(answer, [A, B, C], LIST, policy_of(on_unknown=on_unknown))

    assert outcomes == [verdict.outcome for verdict in decision.verdicts]
    assert again == list(decision.again)
    assert answered is decision.answered
    assert wait_seconds == decision.wait_seconds
    assert not decision.split
    assert decision.stop is None


@pytest.mark.parametrize("status", [400, 409, 413, 422])
@pytest.mark.parametrize("policy", [HOLD, RESEND])
def test_refused_request_is_split(status: int, policy: RetryPolicy) -> None:
    """A whole request refused for what may be some of its contacts is sent in parts, under either policy."""
    decision = decide(Refused(status, BAD), [A, B], LIST, policy)

    assert (decision.split, decision.verdicts, decision.again, decision.stop) == (True, (), (), None)
    assert decision.error == BAD
    assert f"HTTP {status}" in decision.detail
    assert (status == 413) == decision.too_large


@pytest.mark.parametrize(("status", "outcome"), [(400, REJECTED), (413, REJECTED), (422, REJECTED), (409, PRESENT)])
def test_lone_contact_refused_has_its_verdict(status: int, outcome: Outcome) -> None:
    """A request for one contact that is refused is that contact's verdict, in the API's words."""
    decision = decide(Refused(status, BAD), [A], LIST, RESEND)

    assert [Verdict(outcome, status, BAD)] == list(decision.verdicts)
    assert (decision.split, decision.stop, decision.again) == (False, None, ())


@pytest.mark.parametrize("status", [401, 402, 403, 404, 301, 302, 307, 308, 405, 415])
@pytest.mark.parametrize("count", [1, 2])
def test_refusal_of_the_whole_run_stops_it(status: int, count: int) -> None:
    """A refusal that no other request would escape ends the run with exit code 4, and gives no contact a verdict."""
    decision = decide(Refused(status), [A, B][:count], LIST, RESEND)

    assert isinstance(decision.stop, RefusedError)
    assert decision.stop.exit_code == ExitCode.REFUSED
    assert (decision.stop.exit_code, decision.verdicts) == (4, ())
    assert f"HTTP {status}" in str(decision.stop)


@pytest.mark.parametrize(
    ("status", "hints"),
    [
        (401, ["EXOTEL_API_KEY", "EXOTEL_API_TOKEN", "region"]),
        (402, ["credit"]),
        (403, ["account_sid", "--list", "IP address"]),
        (404, [LIST, "account_sid"]),
        (302, ["redirect", "base_url"]),
        (418, ["base_url", "region"]),
    ],
)
def test_refusal_says_what_to_check(status: int, hints: list[str]) -> None:
    """The sentence for people names what to check."""
    sentence = explain_refusal(Refused(status), LIST)

    assert [hint for hint in hints if hint not in sentence] == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "HTTP 404: "),
        (ApiError(), "HTTP 404: "),
        (ApiError(1000), "HTTP 404 (error 1000): "),
        (ApiError(1000, "Not found"), "HTTP 404 (error 1000: Not found): "),
        (ApiError(None, "Not found", "no list"), "HTTP 404 (error: Not found: no list): "),
        (ApiError(1000, "x" * 9999), f"HTTP 404 (error 1000: {'x' * 300}): "),
    ],
)
def test_refusal_repeats_the_words_of_the_api(error: ApiError | None, said: str) -> None:
    """The sentence holds what the API said, within bounds."""
    assert said in explain_refusal(Refused(404, error), LIST)


def test_unreadable_answer_is_an_anomaly() -> None:
    """An answer that cannot be read is counted; a lost one is not."""
    assert decide(UNREADABLE, [A], LIST, RESEND).anomalies == {Anomaly.UNREADABLE_ANSWER: 1}
    assert decide(TIMED_OUT, [A], LIST, RESEND).anomalies == {}
    assert decide(SHORT, [A, B], LIST, RESEND).anomalies == {Anomaly.MISSING: 1}


def test_throttled_request_is_not_decided_on() -> None:
    """A 429 says nothing of any contact: it never comes to a decision."""
    with pytest.raises(AssertionError):
        decide(Throttled(None), [A], LIST, RESEND)


LOST = Verdict(Outcome.UNKNOWN, reason=Reason.TIMED_OUT, ask_again=True)
UNSENT = Verdict(Outcome.FAILED, reason=Reason.NOT_CONNECTED, ask_again=True)
YES = Verdict(Outcome.ADDED, 200)
NO = Verdict(Outcome.REJECTED, 400)


@pytest.mark.parametrize(
    ("old", "new", "stands"),
    [
        (None, UNSENT, UNSENT),
        (None, LOST, LOST),
        (UNSENT, LOST, LOST),
        (UNSENT, UNSENT, UNSENT),
        (UNSENT, YES, YES),
        (LOST, UNSENT, LOST),
        (LOST, YES, YES),
        (LOST, NO, NO),
        (LOST, Verdict(Outcome.FAILED, reason=Reason.REQUEST_REFUSED), LOST),
    ],
)
def test_what_may_have_been_added_stays_unknown(old: Verdict | None, new: Verdict, stands: Verdict) -> None:
    """Only an answer about the contact settles what an earlier request may have done."""
    assert stands == supersede(old, new)


@pytest.mark.parametrize(
    ("asked", "pauses", "seconds"),
    [
        (5.0, 1, 5.0),
        (5.0, 3, 5.0),
        (0.0, 1, 0.0),
        (0.0, 3, 8.0),
        (None, 1, 2.0),
        (None, 2, 4.0),
        (None, 5, 32.0),
        (None, 6, 60.0),
        (None, 10**6, 60.0),
    ],
)
def test_pause_is_the_servers_or_grows(asked: float | None, pauses: int, seconds: float) -> None:
    """A pause is as long as the server asked, and else, or if that was of no use, doubles up to the longest wait."""
    assert seconds == policy_of().throttle_wait_seconds(asked, pauses)


class Loop:
    """The retry loop around scripted decisions; it notes every wait."""

    def __init__(self, *script: Decision, max_attempts: int = 1000, least_wait: float = 0.0) -> None:
        self.least_wait = least_wait
        self.script = list(script)
        self.waits: list[float] = []
        self.announced: list[tuple[int, float]] = []
        self.calls = 0
        self.max_attempts = max_attempts

    async def attempt(self) -> Decision:
        self.calls += 1
        return self.script[min(self.calls, len(self.script)) - 1]

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def run(self) -> Decision:
        loop = attempts(
            policy_of(),
            give_up=lambda: self.calls >= self.max_attempts,
            least_wait=lambda: self.least_wait,
            sleep=self.sleep,
            announce=lambda number, seconds, _: self.announced.append((number, seconds)),
        )
        decision: Decision = await loop(self.attempt)
        return decision


AGAIN = Decision([LOST], [0])
DONE = Decision([YES])


@in_virtual_time
async def test_loop_ends_with_the_first_decision_that_asks_for_nothing() -> None:
    """Fail twice, then succeed: three attempts and two waits."""
    loop = Loop(AGAIN, AGAIN, DONE)

    decision = await loop.run()

    assert decision is DONE
    assert (loop.calls, len(loop.waits)) == (3, 2)


@in_virtual_time
async def test_loop_gives_the_last_decision_when_it_gives_up() -> None:
    """Giving up is no exception."""
    loop = Loop(AGAIN, max_attempts=4)

    decision = await loop.run()

    assert decision is AGAIN
    assert (loop.calls, len(loop.waits)) == (4, 3)


@pytest.mark.parametrize("decision", [Decision(split=True), DONE])
def test_loop_does_not_repeat_what_is_decided(decision: Decision) -> None:
    """A split or a settled request is not sent again."""
    loop = Loop(decision)

    assert decision is asyncio.run(loop.run())
    assert (loop.calls, loop.waits) == (1, [])


@in_virtual_time
async def test_waits_have_full_jitter_below_a_doubling_bound() -> None:
    """The n-th wait lies anywhere between nothing and the initial wait doubled n times, and within the longest."""
    loops = [Loop(AGAIN, max_attempts=10) for _ in range(200)]

    for loop in loops:
        await loop.run()

    for number in range(9):
        waits = [loop.waits[number] for loop in loops]
        bound = min(60, 2**number)
        assert 0 <= min(waits) < 0.2 * bound
        assert 0.8 * bound < max(waits) <= bound


@in_virtual_time
async def test_no_wait_is_shorter_than_the_server_asked() -> None:
    """Retry-After is a floor under the jitter, and what is announced is what is waited."""
    loop = Loop(Decision([LOST], [0], wait_seconds=33.0), max_attempts=6)

    await loop.run()

    assert loop.waits == [33.0] * 5
    assert [(number, 33.0) for number in range(1, 6)] == loop.announced


@in_virtual_time
async def test_no_wait_is_shorter_than_it_must_be() -> None:
    """What the caller asks for is a floor under the jitter too."""
    loop = Loop(AGAIN, max_attempts=4, least_wait=60.0)

    await loop.run()

    assert loop.waits == [60.0] * 3


@in_virtual_time
async def test_exceptions_pass_through_the_loop() -> None:
    """What an attempt raises ends the loop at once."""
    loop = Loop()

    with pytest.raises(IndexError):
        await loop.run()

    assert loop.calls == 1
