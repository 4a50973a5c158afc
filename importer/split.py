"""How a request that the API refuses as a whole is sent in parts. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from importer.model import ApiError

MAX_CONTACTS = 5000
"""Contacts that one request may carry, by the API's documentation."""

SMALLEST_LEARNT = 16
"""Contacts of a request of less than a kilobyte: if that is too large, the size is not what is wrong."""

BUDGET_REQUESTS = 256
"""Requests that a batch may cost beyond its first: enough for ten poisoned contacts among 5,000 (25 for one)."""

MOST_IN_VAIN = 64
"""So many requests in a row of which nothing got in: no single contact is the cause, and the rest is not sent."""

_MOST_NAMED = 32


class Parts:
    """The parts of a batch that are still to be sent, the largest first: what a budget isolates is then the least."""

    def __init__(self, indices: Sequence[int], size: int) -> None:
        """Cut the contacts of a batch into requests of at most `size`, which is lowered by what is learnt."""
        self.size = self._size_before = size
        self._open = _chunks(indices, size)
        self._budget = BUDGET_REQUESTS
        self._in_vain = 0
        self._largest_settled = 0
        self._last_too_large = 0

    def __bool__(self) -> bool:
        return bool(self._open)

    def take(self) -> Sequence[int]:
        """Give the part to send next."""
        return self._open.pop(max(range(len(self._open)), key=lambda number: len(self._open[number])))

    def put_back(self, indices: Sequence[int]) -> None:
        """Take in contacts that were not sent after all."""
        self._open.append(indices)

    def settled(self, part: Sequence[int], *, got_in: bool) -> None:
        """Take in that a part was not refused, and whether anything of it is in the list."""
        self._largest_settled = max(self._largest_settled, len(part))
        self._in_vain = 0 if got_in else self._in_vain + 1

    def split(
        self, refused: Sequence[int], sids: Sequence[str], error: ApiError | None, *, too_large: bool
    ) -> Sequence[int]:
        """Part what was refused, and give the contacts that are given up: none, what was refused, or all that is left.

        It is parted into each contact that the error names by itself and the rest, or else into halves. Two parts of
        one size that are too large, while none of that size was not, say how large a request may be.
        """
        self._in_vain += 1
        if self._in_vain >= MOST_IN_VAIN:
            given_up = [index for part in (refused, *self._open) for index in part]
            self._open = []
            self.size = self._size_before  # no part of any size got in
            return given_up
        if too_large and len(refused) > max(SMALLEST_LEARNT, self._largest_settled):
            if len(refused) >= self._last_too_large - 1 and self._last_too_large:
                self.size = len(refused) // 2
                in_order = sorted((refused, *self._open), key=lambda part: part[0])
                self._open = [piece for part in in_order for piece in _chunks(part, self.size)]
                self._last_too_large = 0
                return []
            self._last_too_large = len(refused)
        pieces = _pieces(refused, sids, error)
        if len(pieces) > self._budget:
            return refused
        self._budget -= len(pieces)
        self._open += pieces
        return []


def _chunks(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _pieces(indices: Sequence[int], sids: Sequence[str], error: ApiError | None) -> list[Sequence[int]]:
    named = _named(indices, sids, error)
    if 0 < len(named) <= min(_MOST_NAMED, len(indices) - 1):
        suspects = set(named)
        return [*([index] for index in named), [index for index in indices if index not in suspects]]
    middle = len(indices) // 2
    return [indices[:middle], indices[middle:]]


def _named(indices: Sequence[int], sids: Sequence[str], error: ApiError | None) -> list[int]:
    text = f"{error.message or ''} {error.description or ''}".lower() if error else ""
    words = set(re.findall(r"[\w-]+", text))
    return [index for index in indices if sids[index].lower() in words] if words else []
