"""Every contact gets exactly one verdict, and none that the answer does not give it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from importer.answers import Answered, interpret
from importer.envelope import Item, Metadata
from importer.model import Anomaly, ApiError, Outcome, Reason, Verdict
from importer.reconcile import CONTRADICTED, NOT_IN_ANSWER, VERDICT_UNREADABLE, Reconciliation, reconcile
from tests.unit.fakes import LIST, encode, failure, sids_of, success

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
YES = Verdict(Outcome.ADDED, 200)
BAD = ApiError(1002, "Invalid parameter", "so it is")
NO = Verdict(Outcome.REJECTED, 400, BAD)
DUPLICATE = ApiError(1008, "Duplicate resource")


def added(sid: str) -> Item:
    return Item((sid,), 200, "success")


def refused(*sids: str) -> Item:
    return Item(sids, 400, "failure", BAD)


def reconciled(sids: Sequence[str], *items: Item, metadata: Metadata | None = None) -> Reconciliation:
    return reconcile(sids, Answered(list(items), metadata), LIST)


@pytest.mark.parametrize(
    ("items", "verdicts", "anomalies"),
    [
        pytest.param([added(A), added(B), added(C)], [YES] * 3, {}, id="in order"),
        pytest.param([added(C), added(A), added(B)], [YES] * 3, {}, id="shuffled"),
        pytest.param([refused(C), added(A), added(B)], [YES, YES, NO], {}, id="shuffled, judged by sid"),
        pytest.param([added(A), refused(), added(C)], [YES, NO, YES], {}, id="nameless at a proven position"),
        pytest.param([refused(), refused(), refused()], [NO] * 3, {}, id="all nameless, as many as contacts"),
        pytest.param(
            [added(A), refused()],
            [YES, NOT_IN_ANSWER, NOT_IN_ANSWER],
            {Anomaly.SURPLUS: 1, Anomaly.MISSING: 2},
            id="nameless in a short answer",
        ),
        pytest.param(
            [refused(), added(C), added(B)],
            [NOT_IN_ANSWER, YES, YES],
            {Anomaly.SURPLUS: 1, Anomaly.MISSING: 1},
            id="nameless beside a displaced one",
        ),
        pytest.param(
            [added(A), refused(), added("ffff")],
            [YES, NOT_IN_ANSWER, NOT_IN_ANSWER],
            {Anomaly.SURPLUS: 1, Anomaly.FOREIGN: 1, Anomaly.MISSING: 2},
            id="nameless beside a foreign one",
        ),
        pytest.param(
            [added(A), refused(), added(A)],
            [YES, NOT_IN_ANSWER, NOT_IN_ANSWER],
            {Anomaly.SURPLUS: 1, Anomaly.REPEATED: 1, Anomaly.MISSING: 2},
            id="nameless beside a repeated one",
        ),
        pytest.param([], [NOT_IN_ANSWER] * 3, {Anomaly.MISSING: 3}, id="empty"),
        pytest.param([added(A), added(B)], [YES, YES, NOT_IN_ANSWER], {Anomaly.MISSING: 1}, id="short"),
        pytest.param([added(A), added(B), added(C), refused()], [YES] * 3, {Anomaly.SURPLUS: 1}, id="one too many"),
        pytest.param(
            [added(A), added(B), added(C), added("ffff")], [YES] * 3, {Anomaly.FOREIGN: 1}, id="a foreign one too many"
        ),
        pytest.param([added(A), added(B), added(C), added(A)], [YES] * 3, {Anomaly.REPEATED: 1}, id="repeated alike"),
        pytest.param(
            [added(A), added(B), added(C), refused(A)],
            [CONTRADICTED, YES, YES],
            {Anomaly.REPEATED: 1, Anomaly.CONTRADICTORY: 1},
            id="repeated otherwise",
        ),
        pytest.param(
            [added(A), refused(A), added(A), added(B), added(C)],
            [CONTRADICTED, YES, YES],
            {Anomaly.REPEATED: 2, Anomaly.CONTRADICTORY: 2},
            id="a majority proves nothing",
        ),
        pytest.param(
            [Item((A, B), 200, "success"), added(C)],
            [CONTRADICTED, CONTRADICTED, YES],
            {Anomaly.CONTRADICTORY: 1},
            id="one item of two contacts",
        ),
        pytest.param(
            [Item((A, B), 200, "success"), added(B), added(C)],
            [CONTRADICTED, CONTRADICTED, YES],
            {Anomaly.CONTRADICTORY: 2, Anomaly.REPEATED: 1},
            id="one item of two contacts, and another of one of them",
        ),
        pytest.param(
            [added(f"{A}0"), added(B), added(C)],
            [NOT_IN_ANSWER, YES, YES],
            {Anomaly.FOREIGN: 1, Anomaly.MISSING: 1},
            id="almost the same sid",
        ),
        pytest.param(
            [added(A[:-1]), added(B), added(C)],
            [NOT_IN_ANSWER, YES, YES],
            {Anomaly.FOREIGN: 1, Anomaly.MISSING: 1},
            id="a sid cut short",
        ),
    ],
)
def test_items_are_tied_to_contacts(items: list[Item], verdicts: list[Verdict], anomalies: dict[Anomaly, int]) -> None:
    """An item is tied to a contact by its sid, or by its position where that is proven, or not at all."""
    found = reconciled([A, B, C], *items)

    assert verdicts == list(found.verdicts)
    assert anomalies == found.anomalies


@pytest.mark.parametrize(
    ("item", "verdict"),
    [
        (Item((A,), 200, "success"), Verdict(Outcome.ADDED, 200)),
        (Item((A,), 201, " Success "), Verdict(Outcome.ADDED, 201)),
        (Item((A,), 202), Verdict(Outcome.ADDED, 202)),
        (Item((A,), 299), Verdict(Outcome.ADDED, 299)),
        (Item((), 200), Verdict(Outcome.ADDED, 200)),
        (Item((A,), None, "success"), Verdict(Outcome.ADDED)),
        (Item((A,), 200, "success", ApiError()), Verdict(Outcome.ADDED, 200)),
        (Item((A,), 200, "success", ApiError(None, "", "")), Verdict(Outcome.ADDED, 200)),
        (Item((A,), None, None, None, LIST), Verdict(Outcome.ADDED)),
        (Item((A,), None, None, None, LIST.upper()), Verdict(Outcome.ADDED)),
        (Item((A,), None, None, None, "another"), VERDICT_UNREADABLE),
        (Item((A,)), VERDICT_UNREADABLE),
        (Item(()), VERDICT_UNREADABLE),
        (Item((), None, None, None, LIST), VERDICT_UNREADABLE),
        (Item((A,), None, "pending"), VERDICT_UNREADABLE),
        (Item((A,), 0, "success"), VERDICT_UNREADABLE),
        (Item((A,), 100), VERDICT_UNREADABLE),
        (Item((A,), 302, "success"), VERDICT_UNREADABLE),
        (Item((A,), 700), VERDICT_UNREADABLE),
        (Item((A,), 409, "failure"), Verdict(Outcome.ALREADY_PRESENT, 409)),
        (Item((A,), 409, "failure", DUPLICATE), Verdict(Outcome.ALREADY_PRESENT, 409, DUPLICATE)),
        (Item((A,), 400, "failure", DUPLICATE), Verdict(Outcome.ALREADY_PRESENT, 400, DUPLICATE)),
        (Item((A,), None, "failure", DUPLICATE), Verdict(Outcome.ALREADY_PRESENT, None, DUPLICATE)),
        (Item((A,), 400, "failure", BAD), Verdict(Outcome.REJECTED, 400, BAD)),
        (Item((A,), 404), Verdict(Outcome.REJECTED, 404)),
        (Item((A,), 401, "failure"), Verdict(Outcome.REJECTED, 401)),
        (Item((A,), None, "failure"), Verdict(Outcome.REJECTED)),
        (Item((A,), 429, "failure"), Verdict(Outcome.FAILED, 429, None, Reason.ITEM_THROTTLED, ask_again=True)),
        (Item((A,), 500, "failure"), Verdict(Outcome.UNKNOWN, 500, None, Reason.SERVER_ERROR, ask_again=True)),
        (Item((A,), 599), Verdict(Outcome.UNKNOWN, 599, None, Reason.SERVER_ERROR, ask_again=True)),
        (Item((A,), 200, "failure"), CONTRADICTED),
        (Item((A,), 200, "success", BAD), CONTRADICTED),
        (Item((A,), 200, "success", ApiError(message="Invalid parameter")), CONTRADICTED),
        (Item((A,), 200, None, ApiError(description="no such contact")), CONTRADICTED),
        (Item((A,), None, "success", BAD), CONTRADICTED),
        (Item((A,), 400, "success"), CONTRADICTED),
        (Item((A,), 500, "success"), CONTRADICTED),
        (Item((A, B), 400, "failure"), CONTRADICTED),
    ],
)
def test_item_is_judged_by_what_it_says(item: Item, verdict: Verdict) -> None:
    """An item means what its code, status and error say together; where they disagree, nothing."""
    found = reconciled([A], item)

    assert [verdict] == list(found.verdicts)


@pytest.mark.parametrize("verdict", [NOT_IN_ANSWER, CONTRADICTED, VERDICT_UNREADABLE])
def test_what_proves_nothing_is_asked_again(verdict: Verdict) -> None:
    """A contact of which nothing is proven is unknown, and worth another request."""
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.ask_again


@pytest.mark.parametrize(
    ("metadata", "mismatches"),
    [
        (Metadata(3, 1, 2), 0),
        (Metadata(3, 2, 1), 0),
        (Metadata(), 0),
        (Metadata(total=3), 0),
        (Metadata(success=2), 0),
        (Metadata(total=2), 1),
        (Metadata(total=3, success=3), 1),
        (Metadata(failed=0), 1),
        (Metadata(total=3, success=0, failed=3), 1),
        (Metadata(total=-1), 1),
    ],
)
def test_counts_that_contradict_the_items_are_an_anomaly(metadata: Metadata, mismatches: int) -> None:
    """Metadata that contradicts the items is counted, and the items rule."""
    items = [added(A), Item((B,), 409, "failure"), refused(C)]

    found = reconciled([A, B, C], *items, metadata=metadata)

    assert [each.outcome for each in found.verdicts] == [Outcome.ADDED, Outcome.ALREADY_PRESENT, Outcome.REJECTED]
    assert mismatches == found.anomalies.get(Anomaly.METADATA, 0)


def test_vendor_sample_is_told_by_its_items() -> None:
    """The vendor's own sample adds both of its contacts, and its total of one is an anomaly."""
    body = encode([success(A), {"Sid": B, "list_id": LIST}], metadata={"total": 1, "success": 1, "failed": 0})

    found = reconcile([A, B], answered(body, 2), LIST)

    assert [each.outcome for each in found.verdicts] == [Outcome.ADDED, Outcome.ADDED]
    assert found.anomalies == {Anomaly.METADATA: 1}


def test_unreadable_item_keeps_the_positions_of_the_others() -> None:
    """An item that is none at all is an anomaly, and its contact is asked for again."""
    found = reconcile([A, B], answered(encode([None, failure(400)]), 2), LIST)

    assert list(found.verdicts) == [VERDICT_UNREADABLE, NO]
    assert found.anomalies == {Anomaly.UNREADABLE_ITEM: 1}


@pytest.mark.parametrize("spoiler", [{"sid": 17}, {"sid": ["x"]}, {"sid": "ffff"}])
def test_sid_of_an_odd_type_is_no_missing_sid(spoiler: dict[str, Any]) -> None:
    """An item that names something else than the contact at its position proves no position."""
    body = encode([{"code": 200, "status": "success", "data": spoiler}, failure(400)])

    found = reconcile([A, B], answered(body, 2), LIST)

    assert list(found.verdicts) == [NOT_IN_ANSWER, NOT_IN_ANSWER]
    assert found.anomalies == {Anomaly.FOREIGN: 1, Anomaly.SURPLUS: 1, Anomaly.MISSING: 2}


def answered(body: bytes, contacts: int) -> Answered:
    answer = interpret(207, None, body, contacts)
    assert isinstance(answer, Answered)
    return answer


# --- Properties. First the truth (which statements the answer makes of which contact), then the answer made of it.


class Statement(msgspec.Struct, frozen=True):
    """One item to be: of whom it speaks (a number that is no contact's is a foreigner), and what it says."""

    owner: int
    says: str
    named: bool = True
    shouted: bool = False


SAYINGS: dict[str, tuple[dict[str, Any], Verdict]] = {
    "added": ({"code": 200, "status": "success"}, Verdict(Outcome.ADDED, 200)),
    "accepted": ({"code": "202"}, Verdict(Outcome.ADDED, 202)),
    "present": ({"code": 409, "status": "failure"}, Verdict(Outcome.ALREADY_PRESENT, 409)),
    "rejected": ({"code": 400, "status": "failure"}, Verdict(Outcome.REJECTED, 400)),
    "throttled": (
        {"code": 429, "status": "failure"},
        Verdict(Outcome.FAILED, 429, reason=Reason.ITEM_THROTTLED, ask_again=True),
    ),
    "broken": (
        {"code": 503, "status": "failure"},
        Verdict(Outcome.UNKNOWN, 503, reason=Reason.SERVER_ERROR, ask_again=True),
    ),
    "contradictory": ({"code": 200, "status": "failure"}, CONTRADICTED),
}
CONTACTS = 8
FOREIGNERS = range(CONTACTS, CONTACTS + 3)
SIDS = sids_of(CONTACTS)
ALL_SIDS = sids_of(FOREIGNERS.stop)

sayings = st.sampled_from(sorted(SAYINGS))
truths = st.lists(sayings, min_size=CONTACTS, max_size=CONTACTS).map(
    lambda said: [Statement(owner, says) for owner, says in enumerate(said)]
)
flags = st.lists(st.booleans(), min_size=CONTACTS, max_size=CONTACTS)


def item_of(statement: Statement) -> dict[str, Any]:
    sid = ALL_SIDS[statement.owner]
    data = {"sid": sid.upper() if statement.shouted else sid} if statement.named else None
    return {**SAYINGS[statement.says][0], "data": data}


def verdicts_of(statements: Sequence[Statement], sids: Sequence[str] = tuple(SIDS)) -> list[Verdict]:
    answer = answered(encode([item_of(each) for each in statements]), len(sids))
    return list(reconcile(sids, answer, LIST).verdicts)


def deserved(statements: Sequence[Statement], contact: int) -> set[tuple[Outcome, bool]]:
    """Every way of reading what is said of this contact."""
    said = {SAYINGS[each.says][1] for each in statements if each.owner == contact}
    return {(verdict.outcome, verdict.ask_again) for verdict in said}


@st.composite
def mangled(draw: st.DrawFn) -> list[Statement]:
    """Give an answer whose items all name their contacts, after any number of mishaps."""
    statements = draw(truths)
    for mishap in draw(st.lists(st.sampled_from(["drop", "double", "contradict", "foreign", "shout", "cut", "swap"]))):
        if not statements:
            break
        at = draw(st.integers(0, len(statements) - 1))
        to = draw(st.integers(0, len(statements)))
        victim = statements[at]
        match mishap:
            case "drop":
                del statements[at]
            case "double":
                statements.insert(to, victim)
            case "contradict":
                statements.insert(to, msgspec.structs.replace(victim, says=draw(sayings)))
            case "foreign":
                statements.insert(to, Statement(draw(st.sampled_from(FOREIGNERS)), draw(sayings)))
            case "shout":
                statements[at] = msgspec.structs.replace(victim, shouted=True)
            case "cut":
                del statements[to:]
            case "swap":
                statements.insert(to, statements.pop(at))
    return draw(st.permutations(statements)) if draw(st.booleans()) else statements


@settings(derandomize=True, max_examples=80, deadline=None)
@given(truths, flags, flags)
def test_orderly_answer_gives_every_contact_its_own(
    truth: list[Statement], named: list[bool], loud: list[bool]
) -> None:
    """A complete answer in order gives each contact what is said of it, named or not, in whatever case."""
    statements = [
        msgspec.structs.replace(each, named=name, shouted=shout)
        for each, name, shout in zip(truth, named, loud, strict=True)
    ]

    verdicts = verdicts_of(statements)

    assert [SAYINGS[each.says][1] for each in truth] == verdicts


@settings(derandomize=True, max_examples=200, deadline=None)
@given(mangled())
def test_mangled_answer_gives_every_contact_its_own(statements: list[Statement]) -> None:
    """Shuffled, short, doubled, foreign, re-cased: each contact has what is said of it, if that is one thing."""
    verdicts = verdicts_of(statements)

    assert len(verdicts) == CONTACTS
    for contact, verdict in enumerate(verdicts):
        match list(deserved(statements, contact)):
            case []:
                assert verdict == NOT_IN_ANSWER
            case [one]:
                assert one == (verdict.outcome, verdict.ask_again)
            case _:
                assert verdict == CONTRADICTED


@settings(derandomize=True, max_examples=80, deadline=None)
@given(mangled(), st.lists(st.booleans(), min_size=60, max_size=60), st.integers(0, 60), sayings)
def test_nameless_items_of_a_disorderly_answer_prove_nothing(
    statements: list[Statement], named: list[bool], at: int, says: str
) -> None:
    """Where one item names a foreigner, only those that name their contact count."""
    assume(len(statements) <= 60)
    mixed = [msgspec.structs.replace(each, named=name) for each, name in zip(statements, named, strict=False)]
    mixed.insert(at, Statement(FOREIGNERS[0], says))

    verdicts = verdicts_of(mixed)

    assert verdicts == verdicts_of([each for each in mixed if each.named])


@settings(derandomize=True, max_examples=80, deadline=None)
@given(mangled(), st.lists(st.booleans(), min_size=60, max_size=60))
def test_nothing_is_added_that_the_answer_does_not_add(statements: list[Statement], named: list[bool]) -> None:
    """A contact is added only if an item names it and says so, or stands nameless at its very position."""
    assume(len(statements) <= 60)
    mixed = [msgspec.structs.replace(each, named=name) for each, name in zip(statements, named, strict=False)]
    whole = [position for position, each in enumerate(mixed) if not each.named and len(mixed) == CONTACTS]

    verdicts = verdicts_of(mixed)

    for contact, verdict in enumerate(verdicts):
        says_so = {each.says for each in mixed if each.named and each.owner == contact}
        says_so |= {mixed[contact].says} if contact in whole else set()
        assert verdict.outcome is not Outcome.ADDED or says_so & {"added", "accepted"}
        assert verdict.outcome is not Outcome.ALREADY_PRESENT or "present" in says_so
        assert verdict.outcome is not Outcome.REJECTED or "rejected" in says_so


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 999) | st.sampled_from(["", "success", "failure", *SIDS[:2]]),
    lambda values: (
        st.lists(values, max_size=2)
        | st.dictionaries(st.sampled_from(["code", "status", "error_data", "data", "sid", "Sid", "list_id"]), values)
    ),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(JUNK, max_size=4))
def test_any_answer_gives_every_contact_one_verdict(items: list[Any]) -> None:
    """Whatever the items are: as many verdicts as contacts, and no more successes than items."""
    found = reconcile(SIDS[:2], answered(encode(items), 2), LIST)

    assert len(found.verdicts) == 2
    assert all(count > 0 for count in found.anomalies.values())
    assert sum(each.outcome is Outcome.ADDED for each in found.verdicts) <= len(items)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(mangled())
def test_the_case_of_the_request_does_not_matter(statements: list[Statement]) -> None:
    """Sids of the input in upper case meet the same verdicts."""
    assert verdicts_of(statements) == verdicts_of(statements, [sid.upper() for sid in SIDS])


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_anomalies_count_what_is_missing_foreign_and_repeated(missing: int, foreign: int, doubled: bool) -> None:
    """Every contact that is not named, every foreign item and every repetition is counted once."""
    sids = sids_of(40)
    answer = [success(sid) for sid in sids[missing:20]] * (2 if doubled else 1)
    answer += [success(sid) for sid in sids[20 : 20 + foreign]]

    found = reconcile(sids[:20], answered(encode(answer), 20), LIST)

    expected = {
        Anomaly.MISSING: missing,
        Anomaly.FOREIGN: foreign,
        Anomaly.REPEATED: 20 - missing if doubled else 0,
    }
    assert {kind: count for kind, count in expected.items() if count} == found.anomalies
