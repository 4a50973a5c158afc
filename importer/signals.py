"""SIGINT and SIGTERM: what they end, and how soon. What is said of it, the caller prints."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from importer.errors import IncompleteError
from importer.shutdown import Shutdown

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def stop_before_the_run() -> None:
    """Until there is a run to end, let any signal end the command: its input may be silent for long."""

    def stop(number: int, _: FrameType | None) -> None:
        raise _stopped_by(signal.Signals(number))

    for number in _STOPPING:
        signal.signal(number, stop)


def stop_on_signals(shutdown: Shutdown, say: Callable[[str], None]) -> None:
    """First signal: finish what is in flight. Second: leave at once; the journal has all that is done."""
    loop = asyncio.get_running_loop()
    heard: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if heard:
            os._exit(128 + number)
        heard.append(number)
        say(f"{number.name}: no further request; waiting for what is in flight. Once more leaves at once.")
        shutdown.request(_stopped_by(number))

    for number in _STOPPING:
        loop.add_signal_handler(number, stop, number)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let no signal in while something goes on that is short, and passes errors over; it comes when that is over."""
    heard: list[int] = []
    # Not by a mask, which is a thread's own: the signal would come in by way of another thread.
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for caught in heard:
            signal.raise_signal(caught)


async def wait_for_a_signal() -> None:
    """Wait until somebody ends the command."""
    stopped = asyncio.Event()
    for number in _STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


def _stopped_by(number: signal.Signals) -> IncompleteError:
    resume = shlex.join(["importer", *sys.argv[1:]])
    return IncompleteError(f"Stopped by {number.name}; nothing is lost. Go on with: {resume}")
