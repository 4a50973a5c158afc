"""What to do next: pure decisions over one answer, and the retry loop that follows them (tenacity)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import msgspec
import tenacity

from importer.answers import Answer, Answered, Lost, NotSent, Refused, Throttled
from importer.errors import ImporterError, RefusedError
from importer.model import Anomaly, ApiError, Outcome, Reason, Verdict
from importer.reconcile import reconcile

SPLITTABLE = frozenset({400, 409, 413, 422})
"""Refusals of a whole request that may be due to some of its contacts, or to its size."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How long to insist."""

    max_attempts: int
    max_elapsed_seconds: float
    initial_wait_seconds: float
    max_wait_seconds: float
    on_unknown: Literal["resend", "hold"]

    def throttle_wait_seconds(self, asked_seconds: float | None, pauses: int) -> float:
        """Length of a pause after a 429; `pauses` counts those in a row, from 1."""
        grown = float(min(self.initial_wait_seconds * 2 ** min(pauses, 30), self.max_wait_seconds))
        if asked_seconds is None:
            return grown
        # Come at once, as asked, and throttled again: then it asks for nothing sensible.
        return grown if pauses > 1 and asked_seconds < self.initial_wait_seconds else asked_seconds


class Decision(msgspec.Struct, frozen=True):
    """What follows from one answer. `verdicts` has one of each contact, or none where it is of no use.

    At most one of these: `again`, positions of the contacts to ask for once more; `split`, the request is to be
    sent in parts; `stop`, the run is over.
    """

    verdicts: Sequence[Verdict] = ()
    again: Sequence[int] = ()
    wait_seconds: float | None = None  # asked for by the server
    split: bool = False
    too_large: bool = False  # the split is due to the request's size
    error: ApiError | None = None  # of a request that is to be split
    stop: ImporterError | None = None
    anomalies: Mapping[Anomaly, int] = {}
    answered: bool = True  # False where the request failed as a whole, as in an outage
    in_doubt: bool = False  # whether the request may have been processed, and nothing tells
    detail: str = ""


def decide(answer: Answer, sids: Sequence[str], list_sid: str, policy: RetryPolicy) -> Decision:
    """Tell what follows from the answer to a request for `sids`."""
    match answer:
        case NotSent(reason, detail):
            verdict = Verdict(Outcome.FAILED, reason=reason, ask_again=True)
            return _ask_again([verdict] * len(sids), policy, answered=False, detail=detail)
        case Lost(reason, detail, wait_seconds, status):
            verdict = Verdict(Outcome.UNKNOWN, code=status, reason=reason, ask_again=True)
            unreadable = {Anomaly.UNREADABLE_ANSWER: 1} if reason is Reason.ANSWER_UNREADABLE else {}
            return _ask_again(
                [verdict] * len(sids),
                policy,
                unreadable,
                wait_seconds=wait_seconds,
                answered=False,
                in_doubt=True,
                detail=detail,
            )
        case Refused(status, error) if status in SPLITTABLE:
            if len(sids) > 1:
                return Decision(split=True, too_large=status == 413, error=error, detail=describe(status, error))
            outcome = Outcome.ALREADY_PRESENT if status == 409 else Outcome.REJECTED
            return Decision([Verdict(outcome, status, error)], detail=f"HTTP {status}")
        case Refused():
            return Decision(stop=RefusedError(explain_refusal(answer, list_sid)))
        case Answered():
            found = reconcile(sids, answer, list_sid)
            return _ask_again(found.verdicts, policy, found.anomalies, wait_seconds=answer.retry_after_seconds)
        case Throttled():
            raise AssertionError("a throttled request is waited for, not decided on")


def _ask_again(
    verdicts: Sequence[Verdict],
    policy: RetryPolicy,
    anomalies: Mapping[Anomaly, int] | None = None,
    *,
    wait_seconds: float | None = None,
    answered: bool = True,
    in_doubt: bool = False,
    detail: str = "",
) -> Decision:
    if policy.on_unknown == "hold":
        # A contact that may have been added is never sent again, not by a later process either.
        verdicts = [
            msgspec.structs.replace(verdict, ask_again=False) if verdict.outcome is Outcome.UNKNOWN else verdict
            for verdict in verdicts
        ]
    again = [position for position, verdict in enumerate(verdicts) if verdict.ask_again]
    return Decision(
        verdicts,
        again,
        wait_seconds,
        anomalies=anomalies or {},
        answered=answered,
        in_doubt=in_doubt,
        detail=detail,
    )


def supersede(old: Verdict | None, new: Verdict) -> Verdict:
    """Give the verdict that stands after a further answer about the same contact.

    A contact that may have been added stays unknown until an answer says otherwise: that a later request never
    reached the API is no such answer.
    """
    if old is not None and old.outcome is Outcome.UNKNOWN and new.outcome is Outcome.FAILED:
        return old
    return new


def explain_refusal(refusal: Refused, list_sid: str) -> str:
    """Say for people what a refusal of the whole run means, and what to check."""
    status = refusal.status
    advice = {
        401: "check EXOTEL_API_KEY, EXOTEL_API_TOKEN and EXOTEL_ACCOUNT_SID, and api.region: a wrong region looks like "
        "this too",
        402: "the account has no credit or no such service; check it in the Exotel dashboard",
        403: "check api.account_sid and --list, and that the account allows this machine's IP address",
        404: f"check that the list {list_sid} exists in this account, and api.account_sid",
    }.get(status, "check api.base_url and api.region: this is not how the API answers this call")
    if 300 <= status < 400:
        advice = "redirects are not followed, since they would carry the credentials away; check api.base_url"
    said = describe(status, refusal.error)
    return f"The API refused the request with {said}: {advice}. Then run the same command again."


def describe(status: int | None, error: ApiError | None) -> str:
    """Say a refusal in the API's own words."""
    said = f"HTTP {status}" if status is not None else "a failure"
    if error is None:
        return said
    words = ": ".join(word for word in (error.message, error.description) if word)[:300]
    code = f" {error.code}" if error.code is not None else ""
    return f"{said} (error{code}: {words})" if words else f"{said} (error{code})" if code else said


def attempts(
    policy: RetryPolicy,
    *,
    give_up: Callable[[], bool],
    least_wait: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    announce: Callable[[int, float, Decision], None],
) -> tenacity.AsyncRetrying:
    """Build the loop that calls an attempt until its Decision asks for no other, or `give_up` says so.

    Waits grow exponentially with full jitter, and are never shorter than the server or `least_wait` asks for. Gives
    the last Decision; never raises on its own.
    """
    backoff = tenacity.wait_random_exponential(multiplier=policy.initial_wait_seconds, max=policy.max_wait_seconds)

    def result(state: tenacity.RetryCallState) -> Decision:
        assert state.outcome is not None  # noqa: S101  # tenacity sets it before it asks
        decision: Decision = state.outcome.result()
        return decision

    def wait(state: tenacity.RetryCallState) -> float:
        return max(backoff(state), result(state).wait_seconds or 0.0, least_wait())

    def before_sleep(state: tenacity.RetryCallState) -> None:
        announce(state.attempt_number, state.upcoming_sleep, result(state))

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda decision: bool(decision.again)),
        stop=lambda _: give_up(),
        wait=wait,
        sleep=sleep,
        before_sleep=before_sleep,
        retry_error_callback=result,
    )
