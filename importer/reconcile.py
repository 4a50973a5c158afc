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
from importer.envelope import Item, Items, Metadata
from importer.model import Anomaly, Outcome, Reason, Verdict

_SUCCESS = {"success", "ok"}
_FAILURE = {"failure", "failed", "fail", "error"}

PLAIN_YES = Verdict(Outcome.ADDED, 200)
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
    items = answer.items
    odd: Sequence[int] = range(len(items))
    if isinstance(items, Items) and len(items) == len(sids):
        odd = items.odd_positions(sids)  # few: most contacts are told a plain yes, each at its own position
    judged = [PLAIN_YES] * len(items)
    for position in odd:
        judged[position] = _judge(items[position], list_sid)
    anomalies: Counter[Anomaly] = Counter()
    anomalies[Anomaly.UNREADABLE_ITEM] += answer.unreadable_items
    anomalies[Anomaly.CONTRADICTORY] += sum(judged[position] is CONTRADICTED for position in odd)
    if answer.metadata and not _counts_fit(answer.metadata, judged, odd):
        anomalies[Anomaly.METADATA] += 1
    if _positions_are_proven(sids, items, odd):
        return Reconciliation(judged, +anomalies)
    verdicts = _by_sid([sid.lower() for sid in sids], items, judged, anomalies)
    return Reconciliation(verdicts, +anomalies)


def _positions_are_proven(sids: Sequence[str], items: Sequence[Item], odd: Sequence[int]) -> bool:
    """Whether each item stands at its contact's position, given those that do not do so plainly."""
    return len(items) == len(sids) and all(
        not named or named == (sids[position].lower(),) for position in odd for named in [items[position].sids]
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


def _counts_fit(metadata: Metadata, judged: Sequence[Verdict], odd: Sequence[int]) -> bool:
    """Whether the answer's own counts agree with its items. What they do not say, they do not contradict."""
    outcomes = Counter(judged[position].outcome for position in odd)
    added = len(judged) - len(odd) + outcomes[Outcome.ADDED]
    successes = {added, added + outcomes[Outcome.ALREADY_PRESENT]}  # what the list has may count as either
    failures = {len(judged) - count for count in successes}
    return (
        metadata.total in {None, len(judged)}
        and (metadata.success is None or metadata.success in successes)
        and (metadata.failed is None or metadata.failed in failures)
    )
