"""Waits end at once, what is in flight within the grace, and the first cause is the cause."""

from __future__ import annotations

import asyncio

import pytest

from importer.errors import IncompleteError, RefusedError
from importer.shutdown import Shutdown, StoppedError
from tests.virtual_time import in_virtual_time

CAUSE = IncompleteError("enough")


async def wait(shutdown: Shutdown, seconds: float) -> float:
    async with shutdown.waiting():
        await asyncio.sleep(seconds)
    return asyncio.get_running_loop().time()


async def fly(shutdown: Shutdown, seconds: float) -> float:
    async with shutdown.in_flight():
        await asyncio.sleep(seconds)
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_undisturbed_scopes_change_nothing() -> None:
    """While the run goes on, both scopes only let their bodies run."""
    shutdown = Shutdown(10)

    assert tuple(await asyncio.gather(wait(shutdown, 5), fly(shutdown, 7))) == (5.0, 7.0)
    assert shutdown.cause is None


@in_virtual_time
async def test_waits_end_at_once() -> None:
    """Every wait is interrupted the moment that the run is to end."""
    shutdown = Shutdown(10)
    waits = [asyncio.create_task(wait(shutdown, seconds)) for seconds in (50, 5000)]
    await asyncio.sleep(3)

    shutdown.request(CAUSE)

    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert [StoppedError, StoppedError] == [type(end) for end in ends]
    assert asyncio.get_running_loop().time() == 3


@in_virtual_time
async def test_what_is_in_flight_may_finish_within_the_grace() -> None:
    """Requests that end within the grace end as ever, others are cut off when it is over."""
    shutdown = Shutdown(10)
    flights = [asyncio.create_task(fly(shutdown, seconds)) for seconds in (4, 12.5, 500)]
    await asyncio.sleep(3)

    shutdown.request(CAUSE)

    ends = await asyncio.gather(*flights, return_exceptions=True)
    assert ends[:2] == [4.0, 12.5]
    assert isinstance(ends[2], StoppedError)
    assert asyncio.get_running_loop().time() == 13


@in_virtual_time
async def test_no_grace_cuts_off_at_once() -> None:
    """With a grace of nothing, what is in flight ends like a wait."""
    shutdown = Shutdown(0)
    flight = asyncio.create_task(fly(shutdown, 5))
    await asyncio.sleep(1)

    shutdown.request(CAUSE)

    with pytest.raises(StoppedError):
        await flight
    assert asyncio.get_running_loop().time() == 1


@in_virtual_time
async def test_nothing_begins_once_the_run_is_ending() -> None:
    """Neither a wait nor a request begins after the end was asked for."""
    shutdown = Shutdown(10)
    shutdown.request(CAUSE)

    ends = await asyncio.gather(wait(shutdown, 0), fly(shutdown, 0), return_exceptions=True)

    assert [StoppedError, StoppedError] == [type(end) for end in ends]


@in_virtual_time
async def test_first_cause_is_the_cause() -> None:
    """Later requests neither change the cause nor prolong the grace."""
    shutdown = Shutdown(10)
    flight = asyncio.create_task(fly(shutdown, 500))
    await asyncio.sleep(1)
    shutdown.request(CAUSE)
    await asyncio.sleep(5)

    shutdown.request(RefusedError("something else"))

    with pytest.raises(StoppedError):
        await flight
    assert shutdown.cause is CAUSE
    assert asyncio.get_running_loop().time() == 11


@in_virtual_time
async def test_time_out_of_the_body_stays_one() -> None:
    """A TimeoutError of the body's own is not taken for the end of the run."""
    shutdown = Shutdown(10)

    with pytest.raises(TimeoutError):
        async with shutdown.in_flight(), asyncio.timeout(1):
            await asyncio.sleep(5)

    assert shutdown.cause is None


@in_virtual_time
async def test_errors_of_the_body_pass() -> None:
    """What the body raises is what comes out."""
    shutdown = Shutdown(10)

    with pytest.raises(KeyError):
        async with shutdown.waiting():
            raise KeyError


@in_virtual_time
async def test_cancellation_stays_one() -> None:
    """A task cancelled from outside is cancelled, even if the run ends at the same moment."""
    shutdown = Shutdown(10)
    plain = asyncio.create_task(wait(shutdown, 5))
    both = asyncio.create_task(wait(shutdown, 5))
    await asyncio.sleep(1)

    plain.cancel()
    await asyncio.wait([plain])
    shutdown.request(CAUSE)
    both.cancel()
    await asyncio.wait([both])

    assert plain.cancelled()
    assert both.cancelled()


@in_virtual_time
async def test_scopes_that_ended_are_forgotten() -> None:
    """Whatever ended before the request is left alone by it."""
    shutdown = Shutdown(10)
    await wait(shutdown, 1)
    await fly(shutdown, 1)

    shutdown.request(CAUSE)
    await asyncio.sleep(100)

    assert asyncio.get_running_loop().time() == 102
