"""How many batches are in the senders' hands at a time: as set, or as many as the quota has use for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

FIRST_PLACES = 4
"""Where a number of places that is not set begins."""


class Places:
    """A number of places, each for one batch from its first request to its last answer.

    On their own, there is always one sender that waits for the quota: whoever takes a start and leaves nobody waiting
    opens a place, and whoever is done while others wait closes one. So as many requests are in flight as the quota
    and the answers' latency need, and no batch is kept in memory for nothing.
    """

    def __init__(self, count: int, most: int | None = None) -> None:
        """Open `count` places; if `most` is given, more and fewer as they are needed."""
        self.count = count
        self._fewest = min(count, 2)
        self.most = most or count
        self._is_elastic = most is not None
        self._taken = 0
        self._waiting = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Have a place while within."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._taken < self.count)
            self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            if self._is_elastic and self._waiting > 1 and self.count > self._fewest:
                self.count -= 1
            await self._tell()

    @asynccontextmanager
    async def awaiting_start(self) -> AsyncIterator[None]:
        """Wait for the quota within."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
        if self._is_elastic and self._waiting == 0 and self.count < self.most:
            self.count += 1
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
