"""The whole flow of a run, on one screen: its queues, its concurrency and its end are here and nowhere else.

source ──► batches ──► senders × concurrency ──► results ──► collector
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NoReturn

from importer.collector import Collector
from importer.errors import ImporterError, InputError
from importer.model import BatchResult
from importer.places import Places
from importer.replay import Task
from importer.sender import Sender
from importer.shutdown import Shutdown, StoppedError
from importer.threads import Worker


class Pipeline:
    """One run. It receives its parts, and owns none of them."""

    def __init__(
        self, tasks: Iterable[Task], sender: Sender, collector: Collector, shutdown: Shutdown, places: Places
    ) -> None:
        """Work on as many batches at a time as there are `places`."""
        self._tasks = tasks
        self._sender = sender
        self._collector = collector
        self._shutdown = shutdown
        self._places = places
        # Back-pressure: a slow disk stops the senders, slow senders stop the reader, who is quick: one ahead will do.
        self._batches: asyncio.Queue[Task | None] = asyncio.Queue(1)
        self._results: asyncio.Queue[BatchResult | None] = asyncio.Queue(places.count)
        self._input_error: InputError | None = None

    async def run(self) -> None:
        """Take every batch to its report lines.

        Raises the ImporterError for which the run ends early. Whatever was read before an input turned out to be
        unreadable is still delivered; after any other cause nothing more is sent.
        """
        try:
            async with asyncio.TaskGroup() as collecting:
                collecting.create_task(self._collect(), name="collector")
                async with asyncio.TaskGroup() as sending:
                    sending.create_task(self._read(), name="reader")
                    for number in range(1, self._places.most + 1):
                        sending.create_task(self._send(), name=f"sender {number}")
                await self._results.put(None)
        except BaseExceptionGroup as group:
            _raise_first(group)
        if cause := self._shutdown.cause or self._input_error:
            raise cause

    async def _read(self) -> None:
        reader = Worker("reader")
        tasks = iter(self._tasks)
        try:
            async with self._shutdown.waiting():
                try:
                    while (task := await reader.call(next, tasks, None)) is not None:
                        await self._batches.put(task)
                except InputError as error:
                    self._input_error = error
                for _ in range(self._places.most):
                    await self._batches.put(None)
        except StoppedError:
            return
        finally:
            reader.close()

    async def _send(self) -> None:
        try:
            while True:
                async with self._places.place():
                    if (task := await self._next_task()) is None:
                        return
                    await self._results.put(await self._sender.deliver(task))
        except StoppedError:
            return

    async def _next_task(self) -> Task | None:
        async with self._shutdown.waiting():
            return await self._batches.get()

    async def _collect(self) -> None:
        more = True
        while more:
            # Whatever came while the disk was busy is written together.
            arrived = [await self._results.get()]
            while not self._results.empty():
                arrived.append(self._results.get_nowait())
            more = None not in arrived
            if results := [result for result in arrived if result is not None]:
                await self._collector.record(results)


def _raise_first(group: BaseExceptionGroup) -> NoReturn:
    """Raise what went wrong first; the rest are its consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = next((each for each in error.exceptions if isinstance(each, ImporterError)), error.exceptions[0])
    raise error
