"""A thread for calls that block on a disk or a pipe, so that the event loop never does."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """One daemon thread that makes calls in the order in which they were asked for.

    A daemon, because a read from a silent pipe cannot be interrupted and must not hold up the exit. For calls that
    must be finished, await them.
    """

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function in the thread; a cancelled wait leaves the call to finish unheard."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # T may itself be None

        def work() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = function(*arguments)
            except StopIteration as raised:  # a future cannot hold it
                error = RuntimeError("the call raised StopIteration")
                error.__cause__ = raised
            except BaseException as raised:  # belongs to the one who waits
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, result, error)

        self._calls.put(work)
        return await future

    def close(self) -> None:
        """Let the thread end once it has made the calls asked for so far."""
        self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            work()
