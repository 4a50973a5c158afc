"""A request and its answer → one verdict for each contact, and what was odd. Pure.

Closed-world: a contact has the verdict that the answer gives *it*. An item is tied to a contact by the sid that
it names; by its position only where that is proven: as many items as contacts, and every item that names a sid
stands at that sid's own position. Whatever cannot be tied proves nothing, and is counted as an anomaly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from importer.answers import DUPLICATE_RESOURCE, Answered
from importer.envelope import Item, Metadata
from importer.model import Anomaly, Outcome, Reason, Verdict

_SUCCESS = {"success", "ok"}
_FAILURE = {"failure", "failed", "fail", "error"}

NOT_IN_ANSWER = Verdict(Outcome.UNKNOWN, reason=Reason.NOT_IN_ANSWER, ask_again=True)
CONTRADICTED = Verdict(Outcome.UNKNOWN, reason=Reason.CONTRADICTED, ask_again=True)
VERDICT_UNREADABLE = Verdict(Outcome.UNKNOWN, reason=Reason.VERDICT_UNREADABLE, ask_again=True)


class Reconciliation(msgspec.Struct, frozen=True):
    """`verdicts[i]` is of the i-th contact of the request."""

    verdicts: Sequence[Verdict]
    anomalies: Mapping[Anomaly, int]


def reconcile(sids: Sequence[str], answer: Answered, list_sid: str) -> Reconciliation:
    """Tie every contact of a request to its verdict.

    `sids` has no sid twice, in whatever case it is written; sids are compared without regard to case.
    """
    anomalies: Counter[Anomaly] = Counter()
    keys = [sid.lower() for sid in sids]
    items = answer.items
    judged = [_judge(item, list_sid) for item in items]
    anomalies[Anomaly.UNREADABLE_ITEM] += answer.unreadable_items
    anomalies[Anomaly.CONTRADICTORY] += sum(verdict is CONTRADICTED for verdict in judged)
    proven = _positions_are_proven(keys, items)
    verdicts = judged if proven else _by_sid(keys, items, judged, anomalies)
    if answer.metadata and not _counts_fit(answer.metadata, items, judged):
        anomalies[Anomaly.METADATA] += 1
    return Reconciliation(verdicts, +anomalies)


def _positions_are_proven(keys: Sequence[str], items: Sequence[Item]) -> bool:
    return len(items) == len(keys) and all(
        not item.sids or item.sids == (key,) for item, key in zip(items, keys, strict=True)
    )


def _by_sid(
    keys: Sequence[str], items: Sequence[Item], judged: Sequence[Verdict], anomalies: Counter[Anomaly]
) -> list[Verdict]:
    verdicts: dict[str, Verdict] = {}
    sent = set(keys)
    for item, verdict in zip(items, judged, strict=True):
        if not item.sids:
            anomalies[Anomaly.SURPLUS] += 1
            continue
        known = [sid for sid in item.sids if sid in sent]
        anomalies[Anomaly.FOREIGN] += len(item.sids) - len(known)
        for sid in known:  # more than one only in an item that contradicts itself
            if sid not in verdicts:
                verdicts[sid] = verdict
                continue
            anomalies[Anomaly.REPEATED] += 1
            if verdicts[sid].outcome != verdict.outcome or verdicts[sid].ask_again != verdict.ask_again:
                anomalies[Anomaly.CONTRADICTORY] += 1
                verdicts[sid] = CONTRADICTED
    anomalies[Anomaly.MISSING] += sum(key not in verdicts for key in keys)
    return [verdicts.get(key, NOT_IN_ANSWER) for key in keys]


def _judge(item: Item, list_sid: str) -> Verdict:
    """What an item says of its contact, whichever that is.

    Cases: the item contradicts itself; it says yes; it says that the list has the contact already; it asks for
    another try (429, 5xx); it says no (other 4xx, or a failure without a code); it says nothing.
    """
    code, error = item.code, item.error
    status = item.status.strip().lower() if item.status else None
    error_code = error.code if error else None
    complains = error is not None and (error_code is not None or bool(error.message or error.description))
    accepted = code is not None and 200 <= code < 300
    if (
        len(item.sids) > 1
        or (accepted and (status in _FAILURE or complains))
        or (code is not None and code >= 400 and status in _SUCCESS)
        or (code is None and status in _SUCCESS and complains)
    ):
        return CONTRADICTED
    if accepted or (code is None and status in _SUCCESS):
        return Verdict(Outcome.ADDED, code)
    if code == 409 or error_code == DUPLICATE_RESOURCE:
        return Verdict(Outcome.ALREADY_PRESENT, code, error)
    if code == 429:
        return Verdict(Outcome.FAILED, code, error, Reason.ITEM_THROTTLED, ask_again=True)
    if code is not None and 500 <= code < 600:
        return Verdict(Outcome.UNKNOWN, code, error, Reason.SERVER_ERROR, ask_again=True)
    if (code is not None and 400 <= code < 500) or (code is None and status in _FAILURE):
        return Verdict(Outcome.REJECTED, code, error)
    if code is None and status is None and error is None and item.sids and _names(item, list_sid):
        return Verdict(Outcome.ADDED)  # the bare record of a membership, as in the vendor's own sample
    return VERDICT_UNREADABLE


def _names(item: Item, list_sid: str) -> bool:
    return item.list_sid is not None and item.list_sid.lower() == list_sid.lower()


def _counts_fit(metadata: Metadata, items: Sequence[Item], judged: Sequence[Verdict]) -> bool:
    """Whether the answer's own counts agree with its items. What they do not say, they do not contradict."""
    added = sum(verdict.outcome is Outcome.ADDED for verdict in judged)
    present = sum(verdict.outcome is Outcome.ALREADY_PRESENT for verdict in judged)
    successes = {added, added + present}  # a contact that the list has may count as either
    failures = {len(items) - count for count in successes}
    return (
        metadata.total in {None, len(items)}
        and (metadata.success is None or metadata.success in successes)
        and (metadata.failed is None or metadata.failed in failures)
    )
