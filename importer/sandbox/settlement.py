"""What becomes of each contact of a request. Decides and changes nothing: entering it is the ledger's part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING
from zlib import crc32

from importer.sandbox.answers import Verdict
from importer.sandbox.population import Standing
from importer.sandbox.sids import Batch, Key, key_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from importer.sandbox.scenario import Scenario

_VERDICTS = {
    Standing.MEMBER: Verdict.MEMBER,
    Standing.UNKNOWN: Verdict.UNKNOWN,
    Standing.REFUSED: Verdict.REFUSED,
    Standing.MALFORMED: Verdict.MALFORMED,
}


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of each reference of a body. A position that `verdicts` leaves out was added."""

    verdicts: Mapping[int, Verdict]
    # Each once; all of them well-formed.
    added: Sequence[Key]
    # Contacts that the population's rule made members before anybody added them; each once.
    met_members: Collection[Key]
    # Contacts that were not looked at, because a fault answers their items.
    skipped: frozenset[Key]


def settle(
    batch: Batch, scenario: Scenario, *, known: frozenset[Key], room: int, skipped: Collection[int]
) -> Settlement:
    """Decide about every reference.

    `known` are those contacts of the batch that were added before, `room` is how many more the list takes, and
    `skipped` are the positions not to look at.
    """
    ruled = _ruled(batch, scenario)
    met = {batch.keys[at]: None for at, verdict in ruled.items() if verdict is Verdict.MEMBER and at not in skipped}
    if batch.repeated or room < len(batch.keys):
        return _one_by_one(batch, ruled, known, room, skipped, met)
    return _at_once(batch, ruled, known, skipped, met)


def poisonous_positions(batch: Batch, scenario: Scenario) -> list[int]:
    """Return where contacts stand that are poisonous by name or by the seeded rule, in order."""
    poison = scenario.api.poison
    named = _keys_of(poison.sids) & batch.distinct
    positions = {at for at, key in enumerate(batch.keys) if key in named} if named else set()
    if poison.chance:
        salt, bound = scenario.seed & 0xFFFFFFFF, poison.chance * 0x100000000
        # Multiplied, so that the rule is not the population's, which also starts from this checksum.
        positions.update(
            at
            for at, key in enumerate(batch.keys)
            if isinstance(key, bytes) and (crc32(key, salt) * 0x9E3779B1) & 0xFFFFFFFF < bound
        )
    return sorted(positions)


def _ruled(batch: Batch, scenario: Scenario) -> dict[int, Verdict]:
    """Return what seeded rules and names alone say about positions; poison before standing."""
    ruled: dict[int, Verdict] = {}
    if batch.raw is None or not scenario.population.is_all_addable:
        ruled = {at: _VERDICTS[standing] for at, standing in scenario.population.unusual(batch.keys)}
    if scenario.api.poison.is_active:
        ruled.update(dict.fromkeys(poisonous_positions(batch, scenario), Verdict.POISONED))
    return ruled


def _at_once(
    batch: Batch,
    ruled: dict[int, Verdict],
    known: frozenset[Key],
    skipped: Collection[int],
    met: Mapping[Key, None],
) -> Settlement:
    """Decide where no reference depends on an earlier one: no repetition, and room for all."""
    verdicts = dict(ruled)
    if known:
        for position, key in enumerate(batch.keys):
            if key in known:
                verdicts.setdefault(position, Verdict.MEMBER)
    verdicts.update(dict.fromkeys(skipped, Verdict.SKIPPED))
    added = batch.keys
    if verdicts:
        is_added = bytearray(b"\x01") * len(batch.keys)
        for position in verdicts:
            is_added[position] = 0
        added = list(compress(batch.keys, is_added))
    return Settlement(verdicts, added, met, frozenset(batch.keys[position] for position in skipped))


def _one_by_one(
    batch: Batch,
    ruled: Mapping[int, Verdict],
    known: frozenset[Key],
    room: int,
    skipped: Collection[int],
    met: Mapping[Key, None],
) -> Settlement:
    """Decide about each reference in the light of the earlier ones."""
    verdicts: dict[int, Verdict] = {}
    added: list[Key] = []
    handled: set[Key] = set()
    for position, key in enumerate(batch.keys):
        verdict = ruled.get(position)
        if position in skipped:
            verdicts[position] = Verdict.SKIPPED
            continue
        if key in handled:
            verdict = Verdict.REPEATED
        elif verdict is None and key in known:
            verdict = Verdict.MEMBER
        elif verdict is None and len(added) >= room:
            verdict = Verdict.FULL
        handled.add(key)
        if verdict is None:
            added.append(key)
        else:
            verdicts[position] = verdict
    return Settlement(verdicts, added, met, frozenset(batch.keys[position] for position in skipped) - handled)


@lru_cache(maxsize=16)
def _keys_of(sids: tuple[str, ...]) -> frozenset[Key]:
    return frozenset(map(key_of, sids))
