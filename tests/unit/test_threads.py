"""A worker makes blocking calls in order, away from the event loop, and gives back what they come to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from importer.threads import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test worker")
    yield worker
    worker.close()


async def test_a_call_gives_its_result(worker: Worker) -> None:
    """A call runs in the worker's own daemon thread, and its result comes back, None too."""
    thread = await worker.call(threading.current_thread)
    nothing: object = await worker.call(dict[str, object]().get, "missing")

    assert (thread.name, thread.daemon) == ("test worker", True)
    assert nothing is None


async def test_calls_are_made_in_order(worker: Worker) -> None:
    """Calls are made one at a time, in the order in which they were asked for."""
    made: list[int] = []
    await asyncio.gather(*(worker.call(made.append, number) for number in range(100)))

    assert list(range(100)) == made


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, asyncio.CancelledError])
async def test_a_call_gives_its_error(worker: Worker, error: type[BaseException]) -> None:
    """What a call raises is raised to the one who waits, and the worker goes on."""

    def fail() -> None:
        raise error

    with pytest.raises(error):
        await worker.call(fail)

    assert await worker.call(int, "7") == 7


async def test_the_end_of_an_iterator_is_an_error(worker: Worker) -> None:
    """StopIteration, which no future can hold, does not leave the one who waits waiting."""
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await worker.call(next, iter([]))

    assert isinstance(caught.value.__cause__, StopIteration)


async def test_the_loop_goes_on_while_a_call_blocks(worker: Worker) -> None:
    """A call that blocks holds up the worker and not the event loop."""
    released = threading.Event()
    blocked = asyncio.create_task(worker.call(released.wait))
    await asyncio.sleep(0)
    released.set()

    assert await blocked


async def test_a_cancelled_wait_leaves_the_call_to_finish(worker: Worker) -> None:
    """Who waits may give up at once; the call is finished unheard, and those after it are made."""
    begun, released = threading.Event(), threading.Event()
    made: list[str] = []

    def block() -> None:
        begun.set()
        released.wait()
        made.append("blocked")

    blocked = asyncio.create_task(worker.call(block))
    await asyncio.sleep(0)
    begun.wait()
    blocked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await blocked
    after = asyncio.create_task(worker.call(made.append, "after"))
    released.set()
    await after

    assert made == ["blocked", "after"]


async def test_closing_makes_the_calls_asked_for(worker: Worker) -> None:
    """A worker that is closed makes the calls asked for so far, and then its thread ends."""
    thread = await worker.call(threading.current_thread)
    last = asyncio.create_task(worker.call(lambda: "made"))
    await asyncio.sleep(0)
    worker.close()

    assert await last == "made"
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_closed_loop_does_not_hurt_the_worker() -> None:
    """A call that ends after the event loop has is of no consequence."""
    worker = Worker("test worker")
    begun, released = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def block() -> None:
        threads.append(threading.current_thread())
        begun.set()
        released.wait()

    async def leave() -> None:
        blocked = asyncio.create_task(worker.call(block))
        await asyncio.sleep(0)
        begun.wait()
        blocked.cancel()

    asyncio.run(leave())
    released.set()
    worker.close()
    threads[0].join(timeout=10)

    assert not threads[0].is_alive()
