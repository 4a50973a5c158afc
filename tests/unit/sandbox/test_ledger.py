"""The ledger tells the truth."""

from typing import Any

import pytest

from importer.sandbox import DEFAULT_LIST, digest_of
from tests.unit.sandbox.support import Rig, some_sids


def test_digest_and_count_are_those_of_what_was_added() -> None:
    """Whatever the mixture, count and digest are those of the contacts that were added."""
    rig = Rig("population: {member: 0.1, unknown: 0.1, refused: 0.1}")
    sids = some_sids(300)
    for start in range(0, 300, 100):
        rig.post([*sids[start : start + 100], "malformed", sids[start].upper()])

    added = [sid for sid in sids if rig.scenario.population.standing(sid).value == "addable"]

    book = rig.engine.ledger.book(DEFAULT_LIST)
    assert book is not None
    assert sorted(book.added_sids()) == sorted(added)
    assert (rig.list_figures()["added"], rig.list_figures()["digest"]) == (len(added), digest_of(added))


def test_contacts_sent_again_are_counted_once_each() -> None:
    """A contact in two bodies counts, in three bodies it counts no more, and being sent is not being processed."""
    rig = Rig("{population: {unknown: 0.3, member: 0.2}, faults: [{requests: 2, status: 503}]}")
    sids = some_sids(40)

    rig.post([*sids[:20], "odd"])
    rig.post(sids[10:30])
    after_refusal = rig.list_figures()
    rig.post([*sids[10:40], "odd"])
    rig.post(sids[30:])

    assert (after_refusal["contacts_sent_more_than_once"], after_refusal["contacts_processed_more_than_once"]) == (
        10,
        0,
    )
    figures = rig.list_figures()
    assert figures["contacts_sent"] == 21 + 20 + 31 + 10
    # 10..19 in three bodies, 20..29 in two of which one was refused, 30..39 in two, and the odd one.
    assert figures["contacts_sent_more_than_once"] == 31
    assert figures["contacts_processed_more_than_once"] == 21


def test_items_that_were_not_processed_are_not_processed_twice() -> None:
    """A contact whose item was a scripted 429 and which is sent again was sent twice and processed once."""
    rig = Rig("faults: [{requests: 1, item_code: 429, count: 3}, {requests: 3, item_code: 500, processed: true}]")
    sids, others = some_sids(10), some_sids(2, seed=2)

    rig.post(sids)
    rig.post([sid for sid in sids if not rig.engine.ledger.was_added(sid)])
    rig.post(others)
    rig.post(others)

    assert rig.list_figures()["added"] == 12
    assert rig.list_figures()["contacts_sent_more_than_once"] == 5
    assert rig.list_figures()["contacts_processed_more_than_once"] == 2


def test_only_bodies_for_a_list_of_the_account_are_entered() -> None:
    """A body that is malformed, or for a list or account that is not ours, was sent to no list."""
    rig = Rig()

    rig.post(b"{")
    rig.post(some_sids(1), list_sid="another")
    rig.post(some_sids(1), account="another")
    rig.post(some_sids(1), authorization="wrong")

    snapshot = rig.engine.snapshot()
    assert (snapshot["requests"], snapshot["contacts_sent"]) == (4, 1)
    assert snapshot["by_status"] == {"400": 1, "401": 2, "404": 1}


def test_members_before_are_counted_once_each() -> None:
    """A contact that was a member from the beginning counts once, however often it is sent."""
    rig = Rig("population: {member: 1}")

    for _ in range(3):
        rig.post(some_sids(5))

    assert rig.list_figures()["members_before"] == 5
    assert rig.list_figures()["added"] == 0


def test_most_requests_in_any_minute() -> None:
    """The busiest window of a minute is found wherever it lies; requests a minute apart do not share one."""
    rig = Rig()
    for pause in (0, 60, 59.9, 30, 29.9, 0.1, 500):
        rig.now += pause
        rig.post(b"")

    assert rig.engine.ledger.most_requests_in_60_seconds == 3


def test_without_memory_counts_and_digest_remain() -> None:
    """With `remember_contacts: false`, everything sent counts as new, and what needs memory is null."""
    rig = Rig("ledger: {remember_contacts: false}")
    sids = some_sids(10)
    rig.post(sids)
    rig.post(sids)

    figures: dict[str, Any] = rig.list_figures()

    assert (figures["added"], figures["digest"]) == (20, digest_of(sids + sids))
    assert figures["contacts_sent_more_than_once"] is None
    assert rig.engine.snapshot()["contacts_sent_more_than_once"] is None
    assert not rig.engine.ledger.was_added(sids[0])


@pytest.mark.parametrize("list_sid", [None, DEFAULT_LIST])
def test_a_contact_can_be_looked_up(list_sid: str | None) -> None:
    """Whether a contact was added is known for one list or any, in either case of its digits."""
    rig = Rig()
    added, other = some_sids(2)
    rig.post([added])

    assert rig.engine.ledger.was_added(added.upper(), list_sid)
    assert not rig.engine.ledger.was_added(other, list_sid)
