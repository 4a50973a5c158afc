"""Where a common case has a faster way, it gives what the plain way gives."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from importer.answers import Answered, interpret
from importer.exotel import encode_body
from importer.reconcile import reconcile
from importer.source import DEFAULT_SID_PATTERN, _Draft, all_match
from tests.unit.fakes import LIST, encode, failure, sids_of, success

SIDS = sids_of(12)
LOOSE_SIDS = st.text(alphabet='0aFz"\\\n\u00e9\u2028 ', max_size=4) | st.sampled_from(SIDS)


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


@given(st.lists(LOOSE_SIDS, min_size=1, max_size=6))
def test_bodies_by_joining(sids: list[str]) -> None:
    """A request's body is what a JSON encoder makes of it, whatever the sids are made of."""
    expected = msgspec.json.encode({"contact_references": [{"contact_sid": sid} for sid in sids]})

    assert expected == encode_body(sids)


@given(st.lists(LOOSE_SIDS | st.sampled_from([SIDS[1].upper(), SIDS[1][:-1], SIDS[1] + "0"]), max_size=6))
def test_sids_matched_together(sids: list[str]) -> None:
    """Sids that are looked at together match exactly if each of them does."""
    pattern = re.compile(DEFAULT_SID_PATTERN)

    assert all(pattern.fullmatch(sid) for sid in sids) == all_match(pattern, sids, "".join(sids)) or not sids


@given(
    st.lists(st.lists(LOOSE_SIDS | st.sampled_from([SIDS[1].upper(), f" {SIDS[2]} "]), max_size=3), max_size=20),
    st.integers(1, 5),
    st.sampled_from([DEFAULT_SID_PATTERN, "[0-9a-f]+", ".+"]),
)
def test_rows_taken_together(records: list[list[str]], at_once: int, pattern: str) -> None:
    """A batch is the same whether its rows are taken many at a time or one by one."""
    together, by_one = (_Draft(1, 1, 1, re.compile(pattern), 100) for _ in range(2))
    for start in range(0, len(records), at_once):
        together.add(records[start : start + at_once])
    for row, record in enumerate(records, 1):
        by_one._add_each([row], [record])
    by_one._next_row = len(records) + 1

    assert by_one.batch() == together.batch()
