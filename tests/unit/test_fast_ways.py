"""Where a common case has a faster way, it gives what the plain way gives."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from importer.answers import Answered, interpret
from importer.delivery import Delivery
from importer.envelope import _read_piecemeal, read_envelope
from importer.exotel import encode_body
from importer.model import ApiError, Batch, BatchResult, ContactResult, Outcome, Reason, Verdict
from importer.reconcile import PLAIN_YES, reconcile
from importer.replay import Task
from importer.report import count_outcomes, lines_of
from importer.report import encode as encode_report
from importer.source import DEFAULT_SID_PATTERN, _Draft, all_match
from tests.unit.fakes import LIST, batch_of, encode, failure, sids_of, success

SIDS = sids_of(12)
LOOSE_SIDS = st.text(alphabet='0aFz"\\\n\u00e9\u2028 ', max_size=4) | st.sampled_from(SIDS)
VERDICTS = st.sampled_from(
    [
        PLAIN_YES,
        PLAIN_YES,
        Verdict(Outcome.ADDED, 200),
        Verdict(Outcome.ADDED),
        Verdict(Outcome.REJECTED, 404, ApiError(1000, 'no "such" thing', "by the-token\u2028")),
        Verdict(Outcome.ALREADY_PRESENT, 409, ApiError(1008)),
        Verdict(Outcome.FAILED, reason=Reason.NOT_CONNECTED, ask_again=True),
        Verdict(Outcome.UNKNOWN, 503, reason=Reason.SERVER_ERROR, ask_again=True),
    ]
)
MEMBERS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 200.0, 404, 1e6, 1e7, 20.5, "200", "?", None, -1, True]),
        "status": st.sampled_from(["success", "failure", "Success", "", None, 1]),
        "error_data": st.sampled_from([None, {}, "no", [], {"code": 1.0}, {"code": "7", "message": 5}, 0]),
        "data": st.sampled_from(
            [None, {}, [], {"sid": "AA "}, {"sid": 5}, {"Sid": "bb"}, {"sid": "", "list_id": LIST}]
        ),
        "sid": st.sampled_from([None, "", "cc", 7]),
        "Sid": st.sampled_from([None, "dd"]),
        "list_id": st.sampled_from([None, LIST, 5]),
    },
)


def _odd(item: dict[str, Any], way: int) -> dict[str, Any]:
    """The item in one of the shapes that are not plainly a yes at their own position."""
    sid = item["data"]["sid"]
    shapes: list[dict[str, Any]] = [
        failure(404, 1000),
        failure(400, 1002, sid),
        item | {"status": "failure"},
        item | {"status": None},
        item | {"code": 201},
        item | {"error_data": {"code": 1008, "message": None, "description": None}},
        item | {"sid": SIDS[0]},
        item | {"data": {"Sid": sid}},
        item | {"data": {"sid": sid.upper()}},
        item | {"data": None},
        success("f" * 32),
        failure(429, 1100, sid),
    ]
    return shapes[way % len(shapes)]


@given(
    odd=st.dictionaries(st.integers(0, 11), st.integers(0, 11), max_size=4),
    swap=st.tuples(st.integers(0, 11), st.integers(0, 11)) | st.none(),
    length=st.integers(9, 12) | st.just(12),
    claimed=st.integers(10, 13),
)
def test_answers_read_at_a_glance(odd: dict[int, int], swap: tuple[int, int] | None, length: int, claimed: int) -> None:
    """An answer of plain successes with some odd items means the same whether or not it is read at a glance."""
    items = [_odd(success(sid), odd[place]) if place in odd else success(sid) for place, sid in enumerate(SIDS)]
    if swap is not None:
        items[swap[0]], items[swap[1]] = items[swap[1]], items[swap[0]]
    body = encode(items[:length], metadata={"total": claimed, "success": claimed, "failed": 0})
    answer = interpret(207, None, body, len(SIDS))
    assert isinstance(answer, Answered)
    plain = msgspec.structs.replace(answer, items=list(answer.items))

    assert reconcile(SIDS, plain, LIST) == reconcile(SIDS, answer, LIST)


@given(st.lists(MEMBERS | st.sampled_from([success(SIDS[0]), failure(404)]), max_size=4))
def test_answers_read_in_one_go(items: list[dict[str, Any]]) -> None:
    """An answer says the same whether it is read in one go or piece by piece."""
    body = encode(items, metadata={"total": 1.0, "success": 2})
    at_once, piecemeal = read_envelope(body), _read_piecemeal(body)

    assert list(piecemeal.items or ()) == list(at_once.items or ())
    assert msgspec.structs.replace(piecemeal, items=None) == msgspec.structs.replace(at_once, items=None)


@given(st.lists(VERDICTS, min_size=1, max_size=6))
def test_first_answer_noted_at_once(verdicts: list[Verdict]) -> None:
    """The first answer about a whole batch leaves what the same answers leave, contact by contact."""
    at_once, by_one = (Delivery(Task(batch_of(len(verdicts)))) for _ in range(2))
    at_once.record(at_once.open, verdicts)
    for position, verdict in enumerate(verdicts):
        by_one.record([position], [verdict])

    assert by_one.result() == at_once.result()


@given(
    st.lists(
        st.tuples(st.integers(1, 99), LOOSE_SIDS, VERDICTS, st.integers(1, 2)), max_size=8, unique_by=lambda x: x[0]
    ),
    st.sets(st.integers(1, 99), max_size=3),
)
def test_lines_with_much_in_common(told: list[tuple[int, str, Verdict, int]], rows: set[int]) -> None:
    """A batch's lines and counts are those of its rows one by one, masked in the API's own words alone."""

    def mask(text: str) -> str:
        return text.replace("the-token", "***")

    def masked(error: ApiError | None) -> ApiError | None:
        return error and msgspec.json.decode(mask(msgspec.json.encode(error).decode()), type=ApiError)

    told.sort(key=lambda each: each[0])
    unsent = [
        ContactResult(row, None, Outcome.INVALID, 7, 0, reason=Reason.SID_EMPTY)
        for row in rows.difference(row for row, *_ in told)
    ]
    batch = Batch(7, 1, 99, [row for row, *_ in told], [sid for _, sid, *_ in told], unsent)
    result = BatchResult(batch, [verdict for _, _, verdict, _ in told], [tries for *_, tries in told])
    one_by_one = unsent + [
        ContactResult(row, sid, verdict.outcome, 7, tries, verdict.code, masked(verdict.error), verdict.reason)
        for row, sid, verdict, tries in told
    ]
    one_by_one.sort(key=lambda line: line.row)

    assert msgspec.json.Encoder().encode_lines(one_by_one) == encode_report(lines_of(result, mask))
    assert Counter(line.outcome for line in one_by_one) == count_outcomes(result)


@given(st.lists(LOOSE_SIDS, max_size=6))
def test_bodies(sids: list[str]) -> None:
    """A request's body is what a JSON encoder makes of it, whatever the sids are made of."""
    expected = msgspec.json.encode({"contact_references": [{"contact_sid": sid} for sid in sids]})

    assert expected == encode_body(sids)


@given(st.lists(LOOSE_SIDS | st.sampled_from([SIDS[1].upper(), SIDS[1][:-1], SIDS[1] + "0"]), max_size=6))
def test_sids_matched_together(sids: list[str]) -> None:
    """Sids that are looked at together match exactly if each of them does."""
    pattern = re.compile(DEFAULT_SID_PATTERN)

    assert all(pattern.fullmatch(sid) for sid in sids) == all_match(pattern, sids, "".join(sids)) or not sids


@given(
    st.lists(LOOSE_SIDS.map(str.strip) | st.sampled_from([SIDS[1].upper(), None]), max_size=20),
    st.integers(1, 5),
    st.sampled_from([DEFAULT_SID_PATTERN, "[0-9a-f]+", ".+"]),
)
def test_rows_taken_together(cells: list[str | None], at_once: int, pattern: str) -> None:
    """A batch is the same whether its rows are taken many at a time or one by one."""
    together, by_one = (_Draft(1, 1, re.compile(pattern), 100) for _ in range(2))
    for start in range(0, len(cells), at_once):
        together.add(cells[start : start + at_once])
    for row, cell in enumerate(cells, 1):
        by_one.add_each([row], [cell])
    by_one._next_row = len(cells) + 1

    assert by_one.batch(None) == together.batch(None)
