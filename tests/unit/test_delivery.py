"""What is known of a batch's contacts stands, is handed on to the next process, and is never made up."""

from __future__ import annotations

import msgspec
import pytest

from importer.delivery import Delivery, Known
from importer.errors import RunDirectoryError
from importer.model import ApiError, ExitCode, Outcome, Reason, Verdict
from importer.replay import Task
from tests.unit.fakes import batch_of

ADDED = Verdict(Outcome.ADDED, 200)
REJECTED = Verdict(Outcome.REJECTED, 400, ApiError(1002, "Invalid", "so it is"))
BUSY = Verdict(Outcome.FAILED, 429, reason=Reason.ITEM_THROTTLED, ask_again=True)
LOST = Verdict(Outcome.UNKNOWN, reason=Reason.TIMED_OUT, ask_again=True)
NOT_SENT = Verdict(Outcome.FAILED, reason=Reason.NOT_CONNECTED, ask_again=True)


def test_new_batch_is_open() -> None:
    """Every contact is, and none has an attempt."""
    delivery = Delivery(Task(batch_of(3)))

    assert list(delivery.open) == [0, 1, 2]
    assert not any(map(delivery.may_be_added, delivery.open))
    assert not delivery.in_doubt


def test_result_has_the_last_verdict_of_each() -> None:
    """Each attempt counts for those that it carried."""
    delivery = Delivery(Task(batch_of(3)))
    delivery.record([0, 1, 2], [ADDED, BUSY, LOST])
    delivery.record([1, 2], [REJECTED, NOT_SENT])
    result = delivery.result()

    assert list(result.verdicts) == [ADDED, REJECTED, LOST]  # that it was not sent again says nothing of the first time
    assert list(result.attempts) == [1, 2, 2]


def test_next_process_goes_on_from_there() -> None:
    """Verdicts that stand are not open any more; attempts go on; words of the API are kept."""
    delivery = Delivery(Task(batch_of(4)))
    delivery.record([0, 1, 2], [ADDED, REJECTED, BUSY])
    heir = Delivery(Task(batch_of(4), delivery.known()))

    assert heir.open == [2, 3]
    heir.record([2, 3], [ADDED, ADDED])
    assert list(heir.result().verdicts) == [ADDED, REJECTED, ADDED, ADDED]
    assert list(heir.result().attempts) == [1, 1, 2, 1]


def test_request_in_doubt_counts_as_an_attempt() -> None:
    """Those that it may have carried may be added; those whose verdict stands are not touched."""
    delivery = Delivery(Task(batch_of(3)))
    delivery.record([0, 1], [ADDED, BUSY])
    heir = Delivery(Task(batch_of(3), delivery.known(), in_doubt=True))

    assert heir.open == [1, 2]
    assert [index for index in range(3) if heir.may_be_added(index)] == [1, 2]
    assert [each.outcome for each in heir.result().verdicts] == [Outcome.ADDED, Outcome.UNKNOWN, Outcome.UNKNOWN]
    assert {Reason.IN_DOUBT} == {each.reason for each in heir.result().verdicts[1:]}
    assert list(heir.result().attempts) == [1, 2, 1]


def test_what_was_in_doubt_may_be_added_until_an_answer_says_otherwise() -> None:
    """Not reaching the API does not take it back; an answer does."""
    heir = Delivery(Task(batch_of(2), in_doubt=True))
    heir.record([0, 1], [NOT_SENT, REJECTED])

    assert [heir.may_be_added(index) for index in (0, 1)] == [True, False]
    assert [each.outcome for each in heir.result().verdicts] == [Outcome.UNKNOWN, Outcome.REJECTED]


def test_verdict_of_each_contact_is_due() -> None:
    """A batch with an open contact has no result."""
    delivery = Delivery(Task(batch_of(2)))
    delivery.record([0], [ADDED])
    with pytest.raises(AssertionError, match="1 contacts of batch 1 have no verdict"):
        delivery.result()


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(b"\xc1", id="no MessagePack"),
        pytest.param(msgspec.msgpack.encode({"verdicts": []}), id="half of it"),
        pytest.param(msgspec.msgpack.encode(Known([], [])), id="of another batch"),
        pytest.param(msgspec.msgpack.encode(Known([ADDED] * 2, [1])), id="uneven"),
        pytest.param(msgspec.msgpack.encode({"verdicts": [{"outcome": "?"}] * 2, "attempts": [1, 1]}), id="no outcome"),
    ],
)
def test_damaged_knowledge_is_refused(damaged: bytes) -> None:
    """What cannot be read is not taken for nothing: the batch would be sent again."""
    with pytest.raises(RunDirectoryError, match=r"What state\.db knows of batch 1 is damaged: restore it") as caught:
        Delivery(Task(batch_of(2), damaged))

    assert caught.value.exit_code is ExitCode.USAGE
