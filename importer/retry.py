"""What to do next: pure decisions over one answer, and the retry loop that follows them (tenacity)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal

import msgspec
import tenacity

from importer.answers import Answer, Answered, Lost, NotSent, Refused, Throttled
from importer.errors import ImporterError, RefusedError
from importer.model import Anomaly, Outcome, Reason, Verdict
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
        if asked_seconds is not None:
            return asked_seconds
        return float(min(self.initial_wait_seconds * 2 ** min(pauses, 30), self.max_wait_seconds))


class Decision(msgspec.Struct, frozen=True):
    """What follows from one answer. `verdicts` has one of each contact, or none where it is of no use.

    At most one of these: `again`, positions of the contacts to ask for once more; `split`, the request is to be
    sent in parts; `stop`, the run is over.
    """

    verdicts: Sequence[Verdict] = ()
    again: Sequence[int] = ()
    wait_seconds: float | None = None  # asked for by the server
    split: bool = False
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
                return Decision(split=True, detail=f"HTTP {status}")
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
        401: "check EXOTEL_API_KEY and EXOTEL_API_TOKEN, and api.region: a wrong region looks like this too",
        402: "the account has no credit or no such service; check it in the Exotel dashboard",
        403: "check api.account_sid and --list, and that the account allows this machine's IP address",
        404: f"check that the list {list_sid} exists in this account, and api.account_sid",
    }.get(status, "check api.base_url and api.region: this is not how the API answers this call")
    if 300 <= status < 400:
        advice = "redirects are not followed, since they would carry the credentials away; check api.base_url"
    said = ""
    if refusal.error is not None:
        words = ": ".join(word for word in (refusal.error.message, refusal.error.description) if word)
        code = f" {refusal.error.code}" if refusal.error.code is not None else ""
        said = f" (error{code}: {words[:300]})" if words else f" (error{code})" if code else ""
    return f"The API refused the request with HTTP {status}{said}: {advice}. Then run the same command again."


def attempts(
    policy: RetryPolicy,
    *,
    give_up: Callable[[int, Decision], bool],
    sleep: Callable[[float], Awaitable[None]],
    announce: Callable[[int, float, Decision], None],
) -> tenacity.AsyncRetrying:
    """Build the loop that calls an attempt until its Decision asks for no other, or `give_up` says so.

    Waits grow exponentially with full jitter, and are never shorter than the server asked for. Gives the last
    Decision; never raises on its own.
    """
    backoff = tenacity.wait_random_exponential(multiplier=policy.initial_wait_seconds, max=policy.max_wait_seconds)

    def result(state: tenacity.RetryCallState) -> Decision:
        assert state.outcome is not None  # noqa: S101  # tenacity sets it before it asks
        decision: Decision = state.outcome.result()
        return decision

    def wait(state: tenacity.RetryCallState) -> float:
        return max(backoff(state), result(state).wait_seconds or 0.0)

    def before_sleep(state: tenacity.RetryCallState) -> None:
        announce(state.attempt_number, state.upcoming_sleep, result(state))

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(lambda decision: bool(decision.again)),
        stop=lambda state: give_up(state.attempt_number, result(state)),
        wait=wait,
        sleep=sleep,
        before_sleep=before_sleep,
        retry_error_callback=result,
    )
