"""The envelope is read in every shape that the API's documentation shows or warns of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importer.envelope import Item, Metadata, UnreadableError, read_envelope
from importer.model import ApiError
from tests.unit.fakes import LIST, encode, failure, success

SID = "d49b7a4781ea45dcb702825ce30494ba"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["response", "http_code", "code", "status", "error_data", "data", "sid", "Sid", "metadata"]
            ),
            values,
            max_size=5,
        )
    ),
    max_leaves=20,
)

DOCUMENTED = b"""
{"request_id": "cfa7d61f24064a399789d677ef0cc379", "method": "POST", "http_code": 207,
 "metadata": {"failed": 0, "total": 1, "success": 1},
 "response": [
   {"code": 200, "error_data": null, "status": "success",
    "data": {"sid": "d49b7a4781ea45dcb702825ce30494ba",
             "date_created": "2017-12-05T14:15:51.108069088+05:30",
             "date_updated": "2017-12-05T14:15:51.108069088+05:30",
             "account_sid": "Exotel", "list_id": "e46c2fe202904d579ae592d108cf87a0",
             "uri": "/v2/Accounts/Exotel/contacts/d49b7a4781ea45dcb702825ce30494ba"}}]}
"""


def test_documented_answer_is_read() -> None:
    """The documented answer says what its documentation says."""
    envelope = read_envelope(DOCUMENTED)

    assert [Item((SID,), 200, "success")] == list(envelope.items or ())
    assert Metadata(total=1, success=1, failed=0) == envelope.metadata
    assert envelope.http_code == 207
    assert envelope.unreadable_items == 0


def test_whole_request_error_is_read() -> None:
    """A response that is an object without a sid is an error of the whole request."""
    envelope = read_envelope(encode(failure(404, 1000), http_code=404))

    assert envelope.items is None
    assert envelope.http_code == 404
    assert ApiError(1000, "Invalid parameter", "so it is") == envelope.error


@pytest.mark.parametrize("response", [None, "sorry", 5, {}, {"code": "?"}])
def test_response_without_items_is_none(response: object) -> None:
    """A response that is no list has no items, whatever it is instead."""
    envelope = read_envelope(encode(response, http_code=500))

    assert envelope.items is None
    assert envelope.http_code == 500


def test_lone_item_needs_no_list() -> None:
    """A response that is one item which names its contact is a list of one."""
    envelope = read_envelope(encode(success(SID)))

    assert [Item((SID,), 200, "success")] == list(envelope.items or ())


@pytest.mark.parametrize(
    ("raw", "item"),
    [
        ({"sid": SID}, Item((SID,))),
        ({"Sid": SID}, Item((SID,))),
        ({"data": {"Sid": SID}}, Item((SID,))),
        ({"data": {"sid": SID.upper()}}, Item((SID,))),
        ({"data": {"sid": f" {SID}\n"}}, Item((SID,))),
        ({"sid": SID, "list_id": LIST}, Item((SID,), list_sid=LIST)),
        ({"sid": SID, "data": {"sid": SID}}, Item((SID,))),
        ({"Sid": SID.upper(), "data": {"sid": SID}}, Item((SID,))),
        ({"data": {"sid": SID, "Sid": f" {SID.upper()} "}}, Item((SID,))),
        ({"data": {"sid": ""}}, Item()),
        ({"data": {"sid": "  "}}, Item()),
        ({"data": None, "code": 200}, Item((), 200)),
        ({"code": "200", "status": "success"}, Item((), 200, "success")),
        ({"code": "OK", "status": "success"}, Item((), None, "success")),
        ({"code": True}, Item()),
        ({"code": -5}, Item()),
        ({"code": 10**30}, Item()),
        ({"code": 200.5}, Item()),
        ({"code": 200.0, "Sid": SID}, Item((SID,), 200)),
        ({"code": 200, "status": "Done"}, Item((), 200, "Done")),
        ({"code": 200, "sid": SID, "list_id": LIST}, Item((SID,), 200)),
        ({"status": 200}, Item()),
        ({"code": 400, "error_data": "no"}, Item((), 400, None, ApiError(description="no"))),
        ({"code": 400, "error_data": {"code": "1002"}}, Item((), 400, None, ApiError(1002))),
        ({"code": 400, "error_data": {"message": ["x"]}}, Item((), 400, None, ApiError())),
        ({"code": 400, "error_data": []}, Item((), 400)),
        ({"code": 200, "data": [SID]}, Item((), 200)),
        ({"code": 200, "data": {"sid": SID, "list_id": 7}}, Item((SID,), 200)),
        ({"code": 200, "data": {"sid": 1234}}, Item(("1234",), 200)),
        ({}, Item()),
    ],
)
def test_item_is_read_in_any_shape(raw: dict[str, Any], item: Item) -> None:
    """An item is read wrapped or not, in either spelling of its keys, and in spite of members of odd types."""
    envelope = read_envelope(encode([raw, success(SID)]))

    assert item == (envelope.items or ())[0]
    assert envelope.unreadable_items == 0


def test_sids_that_differ_contradict_each_other() -> None:
    """An item that names two sids is read with both."""
    envelope = read_envelope(encode([{"sid": "aa", "data": {"sid": "BB"}}]))

    assert {"aa", "bb"} == set((envelope.items or ())[0].sids)


@pytest.mark.parametrize("odd", [None, 7, "x", [], [success(SID)], True])
def test_what_is_no_item_is_counted(odd: object) -> None:
    """What is no object stands as an empty item, is counted, and costs no other item its proof."""
    envelope = read_envelope(encode([success(SID), odd]))

    assert [Item((SID,), 200, "success"), Item()] == list(envelope.items or ())
    assert envelope.unreadable_items == 1


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, None),
        ("none", None),
        ({"total": 2}, Metadata(total=2)),
        ({"total": "2", "failed": None}, Metadata(total=2)),
        ({"total": [], "success": 1.5, "failed": 0}, Metadata(failed=0)),
    ],
)
def test_metadata_is_read_where_it_makes_sense(metadata: Any, expected: Metadata | None) -> None:
    """Counts of odd types say nothing, and cost nothing else."""
    envelope = read_envelope(encode([success(SID)], metadata=metadata))

    assert expected == envelope.metadata
    assert len(envelope.items or ()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"{}",
        b'"response"',
        b"<html><body>502</body></html>",
        b'{"RestException": {"Status": 429}}',
        b'{"response": [',
        encode([success(SID)])[:-1],
        encode([success(SID)]) + b"x",
        b'{"response": ["\xff"]}',
        b"\xff\xfe\x00",
        b'{"response": [' + b"[" * 100_000,
        b'{"response": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_other_bodies_are_unreadable(body: bytes) -> None:
    """What is not the envelope is unreadable, never empty."""
    with pytest.raises(UnreadableError):
        read_envelope(body)


def test_vendor_sample_is_unreadable_as_printed_and_readable_once_repaired() -> None:
    """The vendor's second item, without code, status or data, names its contact and its list."""
    repaired = encode(
        [success("aa"), {"Sid": "BB", "list_id": LIST, "account_sid": "Exotel"}], metadata={"total": 1, "success": 1}
    )

    envelope = read_envelope(repaired)

    assert Item(("bb",), list_sid=LIST) == (envelope.items or ())[1]


@settings(derandomize=True, max_examples=80, deadline=None)
@given(JSON)
def test_any_json_is_read_or_unreadable(value: object) -> None:
    """No JSON makes the reader fail in another way than by saying so."""
    body = msgspec.json.encode(value)

    try:
        envelope = read_envelope(body)
    except UnreadableError:
        return

    assert isinstance(value, dict)
    assert (envelope.items is not None) >= isinstance(value.get("response"), list)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(JSON)
def test_any_item_is_read(value: object) -> None:
    """No member of an item makes the reader fail, and its neighbours are read all the same."""
    body = encode([success(SID), value, success(SID)])

    items = read_envelope(body).items or ()

    assert [items[0].sids, items[2].sids] == [(SID,), (SID,)]
    assert len(items) == 3


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.integers(0, len(DOCUMENTED)), st.integers(0, 60))
def test_any_bytes_are_read_or_unreadable(junk: bytes, at: int, length: int) -> None:
    """No damage to an answer makes the reader fail in another way than by saying so."""
    body = DOCUMENTED[:at] + junk + DOCUMENTED[at + length :]

    try:
        envelope = read_envelope(body)
    except UnreadableError:
        return

    assert envelope.unreadable_items <= len(envelope.items or ())
