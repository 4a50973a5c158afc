"""An event loop in which waiting costs nothing: its clock jumps to the next timer once nothing else can happen.

Real sockets and threads work in the same loop. Before a jump, whatever the kernel holds is served first: data on
loopback is there as soon as it was written. Calls in an executor or in a `Worker` take no virtual time.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar, TypeVarTuple, Unpack
from unittest.mock import patch

from importer.threads import Worker

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_POLLS = 3
_PATIENCE_WITH_THREADS_SECONDS = 10.0

Events = list[tuple[selectors.SelectorKey, int]]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` begins at 0 and passes only when every task waits for a timer."""

    def __init__(self) -> None:
        self._now = 0.0
        self.calls_in_threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.calls_in_threads += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: asyncio.Future[Any]) -> None:
        self.calls_in_threads -= 1


async def _counted_call(self: Worker, function: Callable[..., T], *arguments: Any) -> T:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.calls_in_threads += 1
    try:
        return await _call(self, function, *arguments)
    finally:
        loop.calls_in_threads -= 1


_call = Worker.call


class _JumpingSelector(selectors.BaseSelector):
    """Polls, and lets the clock jump instead of sleeping. Without a timer it waits in real time, as for a thread."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._selector = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> Events:
        if timeout is None or timeout <= 0:
            return self._selector.select(timeout)
        has_sockets = len(self._selector.get_map()) > 1  # one is the loop's own
        for _ in range(_POLLS if has_sockets else 1):
            if events := self._selector.select(0):
                return events
        if self._loop.calls_in_threads and (events := self._selector.select(_PATIENCE_WITH_THREADS_SECONDS)):
            return events
        self._loop.advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()

    def close(self) -> None:
        self._selector.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in virtual time."""
    with patch.object(Worker, "call", _counted_call), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make a coroutine function a plain one, which runs in virtual time."""

    @functools.wraps(test)
    def plain(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return plain
