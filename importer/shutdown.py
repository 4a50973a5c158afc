"""The designed end of a run: first no new request, then, after a grace, none in flight either.

Owns who is interrupted when. Knows nothing of signals, requests or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from importer.errors import ImporterError


class StoppedError(Exception):
    """The run is ending: whatever was about to be done is not to be done."""


class Shutdown:
    """Interrupts waits at once, and what is in flight when the grace is over. The first cause is the cause."""

    def __init__(self, grace_seconds: float) -> None:
        """Leave what is in flight `grace_seconds` to finish."""
        self.cause: ImporterError | None = None
        self._grace_seconds = grace_seconds
        self._waiting: set[asyncio.Timeout] = set()
        self._in_flight: set[asyncio.Timeout] = set()

    def request(self, cause: ImporterError) -> None:
        """Begin the end of the run; later requests change nothing."""
        if self.cause is not None:
            return
        self.cause = cause
        loop = asyncio.get_running_loop()
        now = loop.time()
        for scope in self._waiting:
            scope.reschedule(now)
        for scope in self._in_flight:
            scope.reschedule(now + self._grace_seconds)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Do something that must not go on once the run is ending. Raises StoppedError."""
        if self.cause is not None:
            raise StoppedError
        async with self._scope(self._waiting):
            yield

    @asynccontextmanager
    async def in_flight(self) -> AsyncIterator[None]:
        """Do something that may finish within the grace. Raises StoppedError."""
        if self.cause is not None:
            raise StoppedError
        async with self._scope(self._in_flight):
            yield

    @asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """Do something before the run has begun; raises the cause itself once the run is ending."""
        try:
            async with self.waiting():
                yield
        except StoppedError:
            assert self.cause is not None  # noqa: S101  # nothing else stops a wait
            raise self.cause from None

    @asynccontextmanager
    async def _scope(self, scopes: set[asyncio.Timeout]) -> AsyncIterator[None]:
        scope = asyncio.timeout(None)
        try:
            async with scope:
                scopes.add(scope)
                try:
                    yield
                finally:
                    scopes.discard(scope)
        except TimeoutError:
            if scope.expired():
                raise StoppedError from None
            raise
