"""What a contact costs, without a clock: all work is on batches, and no Python function is called for each contact."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from importer.answers import interpret
from importer.delivery import Delivery
from importer.exotel import encode_body
from importer.model import Batch, Outcome
from importer.replay import Task
from importer.retry import decide
from importer.source import CsvSource
from tests.builders import SOURCE_DEFAULTS, opened
from tests.unit.fakes import LIST, batch_of, encode, failure, policy_of, sids_of, success
from tests.unit.test_collector import Rig

FEW, MANY = 1_000, 3_000
REFUSED = 10  # contacts of a batch, where some are


@contextmanager
def calls_counted() -> Iterator[Counter[str]]:
    """Count what is called meanwhile: Python functions as "call", and "c_call" what they call that is none."""
    calls: Counter[str] = Counter()

    def count(_: FrameType, event: str, __: Any) -> None:
        calls[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def growth(calls: list[Counter[str]], event: str) -> float:
    """Calls for each contact that the last batch has more than the one before; the first one was to warm up."""
    return (calls[-1][event] - calls[-2][event]) / (MANY - FEW)


def answer_to(batch: Batch, refused: int) -> bytes:
    """The answer's body; the contacts that are refused stand all over the batch."""
    items = [success(sid) for sid in batch.sids]
    for number in range(refused):
        items[(number + 1) * len(items) // (refused + 1)] = failure(404, 1000)
    return encode(items)


async def deliver(batch: Batch, body: bytes, rig: Rig) -> None:
    """Take a batch from its contacts to its lines in the report, through all that works on contacts."""
    encode_body(batch.sids)
    answer = interpret(207, None, body, len(batch.sids))
    delivery = Delivery(Task(batch))
    delivery.record(delivery.open, decide(answer, batch.sids, LIST, policy_of()).verdicts)
    await rig.collector.record([delivery.result()])


@pytest.mark.parametrize("refused", [0, REFUSED])
async def test_contacts_cost_no_calls(tmp_path: Path, refused: int) -> None:
    """From a request's body to the report's lines, a batch costs as many calls as one three times as large."""
    rig = Rig(tmp_path)
    calls = []
    for number, contacts in enumerate([FEW, FEW, MANY], 1):
        batch = batch_of(contacts, number)
        body = answer_to(batch, refused)
        with calls_counted() as counted:
            await deliver(batch, body, rig)
        calls.append(counted)

    assert {Outcome.ADDED: 2 * FEW + MANY - 3 * refused, Outcome.REJECTED: 3 * refused} == {
        outcome: rig.tally.outcomes[outcome] for outcome in (Outcome.ADDED, Outcome.REJECTED)
    }
    assert growth(calls, "call") <= 0.01
    assert growth(calls, "c_call") <= 0.01


async def test_contacts_leave_nothing_behind(tmp_path: Path) -> None:
    """Once a batch is reported, no memory is taken for any of its contacts."""
    rig = Rig(tmp_path)
    (first, body), *others = [(batch, answer_to(batch, REFUSED)) for batch in map(partial(batch_of, FEW), range(1, 7))]
    await deliver(first, body, rig)  # to warm up
    gc.collect()
    before = sys.getallocatedblocks()
    for batch, body in others:
        await deliver(batch, body, rig)
    gc.collect()

    # A batch leaves its digest, and what the fakes remember of it.
    assert (sys.getallocatedblocks() - before) / (FEW * len(others)) <= 0.05


@pytest.mark.parametrize(
    ("header", "row"),
    [
        pytest.param("contact_sid", "{}", id="sids alone"),
        pytest.param("name,contact_sid,city", "Person,{},Pune", id="among others"),
        pytest.param("name,contact_sid,note", 'Person,{},"hello, there"', id="among quotes"),
    ],
)
def test_rows_cost_few_calls(header: str, row: str) -> None:
    """Rows are cut into batches many at a time: fewer than one Python function is called for ten of them."""
    calls = []
    for contacts in [FEW, FEW, MANY]:
        with opened("\n".join([header, *map(row.format, sids_of(contacts))])) as source:
            batches = iter(CsvSource(source, **SOURCE_DEFAULTS))
            with calls_counted() as counted:
                batch = next(batches)
        assert len(batch.sids) == contacts
        calls.append(counted)

    assert growth(calls, "call") <= 0.1
    assert growth(calls, "c_call") <= 4
