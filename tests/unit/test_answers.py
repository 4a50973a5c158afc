"""What an answer's status and body together come to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importer.answers import Answer, Answered, Lost, Refused, Throttled, interpret
from importer.envelope import Item, Metadata
from importer.model import ApiError, Reason
from tests.unit.fakes import encode, failure, success

ERROR = ApiError(1002, "Invalid parameter", "so it is")
HTML = b"<html><body>Bad things</body></html>"
TWO = encode([success("aa"), failure(400)], metadata={"total": 2, "success": 1, "failed": 1})
ITEMS = (Item(("aa",), 200, "success"), Item((), 400, "failure", ERROR))
ANSWERED = Answered(list(ITEMS), Metadata(2, 1, 1))


def unreadable(answer: Answer) -> bool:
    return isinstance(answer, Lost) and answer.reason is Reason.ANSWER_UNREADABLE


@pytest.mark.parametrize("status", [200, 202, 207, 400, 403, 404, 409, 422])
def test_items_are_judged_one_by_one(status: int) -> None:
    """An answer that has an item for every contact is judged by its items, whatever the status line says."""
    assert interpret(status, None, TWO, 2) == ANSWERED


@pytest.mark.parametrize("contacts", [1, 3, 5000])
def test_success_with_too_few_or_too_many_items_is_still_an_answer(contacts: int) -> None:
    """A 2xx is judged by its items even where there are too few or too many."""
    assert interpret(207, None, TWO, contacts) == ANSWERED


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (400, HTML, Refused(400)),
        (400, b"", Refused(400)),
        (400, encode(failure(400)), Refused(400, ERROR)),
        (400, encode([failure(400)]), Refused(400, ERROR)),
        (400, encode([failure(400)] * 3), Refused(400)),
        (413, HTML, Refused(413)),
        (422, HTML, Refused(422)),
        (401, HTML, Refused(401)),
        (401, encode(failure(401, 1010)), Refused(401, ApiError(1010, "Invalid parameter", "so it is"))),
        (401, TWO, Refused(401)),
        (402, TWO, Refused(402)),
        (403, HTML, Refused(403)),
        (404, HTML, Refused(404)),
        (404, encode(failure(404, 1000), http_code=404), Refused(404, ApiError(1000, "Invalid parameter", "so it is"))),
        (301, HTML, Refused(301)),
        (302, TWO, Refused(302)),
        (307, b"", Refused(307)),
        (409, encode(failure(409, 1008)), Refused(409, ApiError(1008, "Invalid parameter", "so it is"))),
        (409, HTML, Lost(Reason.CONFLICT, "HTTP 409", None, 409)),
        (409, encode(failure(409, 1009)), Lost(Reason.CONFLICT, "HTTP 409", None, 409)),
        (408, HTML, Lost(Reason.TIMED_OUT, "HTTP 408", None, 408)),
        (500, HTML, Lost(Reason.SERVER_ERROR, "HTTP 500", None, 500)),
        (503, b"", Lost(Reason.SERVER_ERROR, "HTTP 503", None, 503)),
        (502, TWO, Lost(Reason.SERVER_ERROR, "HTTP 502", None, 502)),
        (429, HTML, Throttled(None)),
        (429, TWO, Throttled(None)),
        (200, encode(failure(401, 1010)), Refused(401, ApiError(1010, "Invalid parameter", "so it is"))),
        (200, encode(None, http_code=403), Refused(403)),
        (200, encode(None, http_code=429), Throttled(None)),
        (207, encode(None, http_code=500), Lost(Reason.SERVER_ERROR, "HTTP 500", None, 500)),
    ],
)
def test_whole_answer_is_classified(status: int, body: bytes, answer: Answer) -> None:
    """An answer about the request as a whole is what its status says, or its body where the status says success."""
    assert interpret(status, None, body, 2) == answer


@pytest.mark.parametrize("status", [200, 202, 204, 207, 299])
@pytest.mark.parametrize("body", [b"", HTML, b"{}", b"[]", TWO[:-1], encode(None), encode("ok", http_code=None)])
def test_success_without_items_is_unreadable(status: int, body: bytes) -> None:
    """A 2xx proves nothing by itself: without items it is an answer that cannot be read."""
    assert unreadable(interpret(status, None, body, 2))


def test_lone_nameless_item_of_a_refusal_is_about_the_request() -> None:
    """A 4xx for one contact, with one item that names none, refuses the request and so the contact."""
    assert interpret(400, None, encode([failure(400)]), 1) == Refused(400, ERROR)


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (429, HTML, Throttled(7.5)),
        (503, HTML, Lost(Reason.SERVER_ERROR, "HTTP 503", 7.5, 503)),
        (409, HTML, Lost(Reason.CONFLICT, "HTTP 409", 7.5, 409)),
        (207, TWO, Answered(list(ITEMS), Metadata(2, 1, 1), retry_after_seconds=7.5)),
    ],
)
def test_retry_after_is_passed_on(status: int, body: bytes, answer: Answer) -> None:
    """Whatever may be followed by another request says how long the server asked to wait."""
    assert interpret(status, 7.5, body, 2) == answer


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(200, 999), st.sampled_from([HTML, b"", TWO, encode([]), encode(failure(400)), TWO[:50]]))
def test_only_success_or_items_for_each_can_prove_anything(status: int, body: bytes) -> None:
    """No status but a 2xx, or a 4xx with an item for each contact, is ever an answer with items."""
    answer = interpret(status, None, body, 2)

    assert not isinstance(answer, Answered) or 200 <= status < 300 or (400 <= status < 500 and body == TWO)
