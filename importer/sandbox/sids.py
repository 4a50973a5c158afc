"""Contact sids in bulk: what is well-formed, what is the same contact, and the digest of many.

Knows nothing about lists, requests or answers.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SID_DIGITS = 32
KEY_BYTES = 16
_MODULUS = 1 << 128

Key = bytes | str
"""What makes two sids the same contact: the 16 bytes of a well-formed sid, the text of any other."""


def key_of(sid: str) -> Key:
    """Return the sid's 16 bytes if it is 32 hexadecimal digits of either case, else the sid itself."""
    if len(sid) != SID_DIGITS:
        return sid
    try:
        raw = bytes.fromhex(sid)
    except ValueError:
        return sid
    # fromhex skips white space, so that what it accepts may still be too short.
    return raw if len(raw) == KEY_BYTES else sid


def sid_of(key: Key) -> str:
    """Return the lower-case sid of a key, or the text itself of a malformed one."""
    return key.hex() if isinstance(key, bytes) else key


@dataclass(frozen=True, slots=True)
class Batch:
    """The contacts of one request body, in its order. `keys[i]` is always the key of `sids[i]`."""

    sids: Sequence[str]
    keys: Sequence[Key]
    # The keys joined, for work on all of them at once; None where a sid is malformed.
    raw: bytes | None
    distinct: frozenset[Key]

    @property
    def repeated(self) -> int:
        """How many of the references name a contact that an earlier one of the same body names."""
        return len(self.keys) - len(self.distinct)


def batch_of(sids: Sequence[str]) -> Batch:
    """Return the sids with their keys; the whole body at once where all of them are well-formed."""
    raw = _raw_of(sids)
    keys: Sequence[Key] = _cutter(len(sids)).unpack(raw) if raw is not None else [key_of(sid) for sid in sids]
    return Batch(sids=sids, keys=keys, raw=raw, distinct=frozenset(keys))


def sum_of(raw: bytes) -> int:
    """Return the sum of the 128-bit numbers that stand, most significant byte first, in `raw`."""
    halves = array("Q", raw)
    if sys.byteorder == "little":
        halves.byteswap()
    return (sum(halves[0::2]) << 64) + sum(halves[1::2])


def digest_text(total: int) -> str:
    """Return a sum of sids as a digest: modulo 2**128, 32 lower-case hexadecimal digits."""
    return f"{total % _MODULUS:032x}"


def digest_of(sids: Iterable[str]) -> str:
    """Return the digest that the ledger shows for a list to which exactly these sids were added.

    The digest is the sum, modulo 2**128, of the sids read as hexadecimal numbers, so that neither order nor case
    matters. Every sid is to be given once. Raises ValueError for a sid that is no hexadecimal number.
    """
    return digest_text(sum(int(sid, 16) for sid in sids))


def _raw_of(sids: Sequence[str]) -> bytes | None:
    if set(map(len, sids)) != {SID_DIGITS}:
        return None
    try:
        raw = bytes.fromhex("".join(sids))
    except ValueError:
        return None
    return raw if len(raw) == KEY_BYTES * len(sids) else None


@lru_cache(maxsize=64)
def _cutter(count: int) -> struct.Struct:
    return struct.Struct(f"{KEY_BYTES}s" * count)
