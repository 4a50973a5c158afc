"""The seeded rule of who exists."""

from collections import Counter

import msgspec
import pytest

from importer.sandbox import Population, Standing
from importer.sandbox.sids import key_of
from tests.unit.sandbox.support import some_sids

MIXED = Population(seed=4, member=0.2, unknown=0.1, refused=0.05)


def test_everybody_is_addable_by_default() -> None:
    """Without shares, every well-formed sid is addable."""
    assert {Population().standing(sid) for sid in some_sids(100)} == {Standing.ADDABLE}


@pytest.mark.parametrize(
    "sids",
    [
        some_sids(20_000),
        [f"{number:032x}" for number in range(20_000)],
        [f"{number:08x}" * 4 for number in range(20_000)],
    ],
    ids=["random", "counted", "repetitive"],
)
def test_shares_are_kept(sids: list[str]) -> None:
    """The shares hold for random sids and for those that somebody counted up."""
    counts = Counter(standing for _, standing in MIXED.unusual(list(map(key_of, sids))))

    assert counts[Standing.MEMBER] / len(sids) == pytest.approx(0.2, abs=0.02)
    assert counts[Standing.UNKNOWN] / len(sids) == pytest.approx(0.1, abs=0.02)
    assert counts[Standing.REFUSED] / len(sids) == pytest.approx(0.05, abs=0.02)


def test_a_standing_depends_on_seed_and_sid_alone() -> None:
    """The same seed and sid give the same standing, in any case and any population object; another seed another one."""
    sids = some_sids(500)
    again = Population(seed=4, member=0.2, unknown=0.1, refused=0.05)
    other = msgspec.structs.replace(MIXED, seed=5)

    standings = [MIXED.standing(sid) for sid in sids]

    assert standings == [again.standing(sid.upper()) for sid in sids]
    assert standings != [other.standing(sid) for sid in sids]


def test_the_rule_never_changes() -> None:
    """Truth computed yesterday holds today: some standings, pinned."""
    sids = ["0" * 32, "f" * 32, *some_sids(6)]

    expected = ["addable", "addable", "addable", "addable", "addable", "member", "member", "member"]
    assert expected == [MIXED.standing(sid).value for sid in sids]


def test_malformed_sids_have_their_own_standing() -> None:
    """A sid that is not 32 hexadecimal digits is malformed, whatever the shares."""
    assert MIXED.standing("not-a-sid") is Standing.MALFORMED


def test_a_whole_share_is_everybody() -> None:
    """A share of 1 leaves nobody out."""
    everybody = Population(unknown=1.0)

    assert {everybody.standing(sid) for sid in some_sids(500)} == {Standing.UNKNOWN}


@pytest.mark.parametrize("shares", [{"member": 0.6, "unknown": 0.6}, {"refused": -0.1}])
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    """Shares below 0, or above 1 together, are an error."""
    with pytest.raises(ValueError, match="at most 1 together"):
        Population(**shares)  # type: ignore[arg-type]
