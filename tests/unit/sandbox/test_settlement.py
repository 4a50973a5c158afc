"""What becomes of each contact: both ways of deciding it agree."""

import random

import pytest

from importer.sandbox import Scenario
from importer.sandbox.answers import Verdict
from importer.sandbox.settlement import settle
from importer.sandbox.sids import batch_of, key_of
from tests.unit.sandbox.support import some_sids

MIXED = Scenario.from_text("""
    population: {seed: 2, member: 0.1, unknown: 0.1, refused: 0.1}
    api: {poison: {chance: 0.05, sinks: false}}
""")


@pytest.mark.parametrize("seed", range(10))
def test_deciding_at_once_is_deciding_one_by_one(seed: int) -> None:
    """A repetition at the end forces the slow way, and changes nothing for the contacts before it."""
    draw = random.Random(seed)
    sids = [*some_sids(100, seed), "odd"]
    known = frozenset(key_of(sid) for sid in sids[:100] if draw.random() < 0.2)
    skipped = {position for position in range(101) if draw.random() < 0.1}

    fast = settle(batch_of(sids), MIXED, known=known, room=101, skipped=skipped)
    slow = settle(batch_of([*sids, sids[50]]), MIXED, known=known, room=102, skipped={*skipped, 101})

    assert fast.verdicts == {position: verdict for position, verdict in slow.verdicts.items() if position < 101}
    assert list(fast.added) == list(slow.added)
    assert list(fast.met_members) == list(slow.met_members)
    assert {verdict.value for verdict in fast.verdicts.values()} > {"member", "unknown", "refused", "skipped"}


def test_a_skipped_reference_leaves_its_repetition_alone() -> None:
    """A contact skipped at one position and looked at in another was looked at."""
    sid = some_sids(1)[0]

    settlement = settle(batch_of([sid, sid]), Scenario(), known=frozenset(), room=2, skipped={0})

    assert settlement.verdicts == {0: Verdict.SKIPPED}
    assert settlement.added == [key_of(sid)]
    assert settlement.skipped == frozenset()


def test_room_is_given_in_order() -> None:
    """Where not all find room, the first do; those that need none take none."""
    sids = some_sids(4)

    settlement = settle(batch_of(sids), Scenario(), known=frozenset([key_of(sids[0])]), room=2, skipped=set())

    assert settlement.verdicts == {0: Verdict.MEMBER, 3: Verdict.FULL}
