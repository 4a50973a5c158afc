"""Which contacts exist, are members already, or are refused: a seeded rule that needs no memory.

Decides about one sid or many, never about a request.
"""

from __future__ import annotations

import enum
import random
import sys
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, cast
from zlib import crc32

import msgspec

from importer.sandbox.sids import Key, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
"""A part of a whole, 0.0 to 1.0."""

_SLOTS = 1 << 16
_LOWER_HALF = 0 if sys.byteorder == "little" else 1


class Standing(enum.Enum):
    """What a contact is to the API before anybody has added it. The order is that of the shares."""

    ADDABLE = "addable"
    MEMBER = "member"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    MALFORMED = "malformed"


_STANDINGS = tuple(Standing)
_MALFORMED = _STANDINGS.index(Standing.MALFORMED)


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares of all possible sids by standing; what remains is addable.

    The rule: the CRC-32 of the sid's 16 bytes, its lower 16 bits, is a slot. The slots are put in the order of the
    numbers that `random.Random(seed).random()` draws for them one after the other; in that order the first
    `member` share of them are members, the next `unknown` share unknown, the next `refused` share refused.
    """

    seed: int = 1
    member: Share = 0.0
    unknown: Share = 0.0
    refused: Share = 0.0

    def __post_init__(self) -> None:
        shares = (self.member, self.unknown, self.refused)
        if min(shares) < 0.0 or sum(shares) > 1.0 + 1e-9:
            msg = "the shares member, unknown and refused must be at least 0 and at most 1 together"
            raise ValueError(msg)

    @property
    def is_all_addable(self) -> bool:
        """Whether every well-formed sid is addable."""
        return not (self.member or self.unknown or self.refused)

    def standing(self, sid: str) -> Standing:
        """Return what this contact is; MALFORMED for anything but 32 hexadecimal digits."""
        return next((standing for _, standing in self.unusual((key_of(sid),))), Standing.ADDABLE)

    def unusual(self, keys: Sequence[Key]) -> list[tuple[int, Standing]]:
        """Return the positions of the contacts that are not addable, in order, with what they are."""
        table = _table(self.seed, self.member, self.unknown, self.refused)
        if str in set(map(type, keys)):
            slots = [_MALFORMED if isinstance(key, str) else table[crc32(key) & 0xFFFF] for key in keys]
            return [(position, _STANDINGS[code]) for position, code in enumerate(slots) if code]
        # Thousands of keys at once: no step of this runs in Python but the last, over what is unusual.
        sums = memoryview(array("I", map(crc32, cast("Sequence[bytes]", keys)))).cast("B").cast("H")
        codes = bytes(map(table.__getitem__, sums[_LOWER_HALF::2]))
        return [(position, _STANDINGS[code]) for position, code in enumerate(codes) if code]


@lru_cache(maxsize=16)
def _table(seed: int, member: float, unknown: float, refused: float) -> bytes:
    """Return, for every slot, the index of its standing; 0 is addable, so that the usual case is false."""
    # random() is the one method whose sequence the language promises for all versions.
    draw = random.Random(seed)  # noqa: S311 - a seeded rule, not cryptography
    order = [draw.random() for _ in range(_SLOTS)]
    slots = sorted(range(_SLOTS), key=order.__getitem__)
    table = bytearray(_SLOTS)
    start, total = 0, 0.0
    for code, share in enumerate((member, unknown, refused), start=1):
        total += share
        end = round(total * _SLOTS)
        for slot in slots[start:end]:
            table[slot] = code
        start = end
    return bytes(table)
