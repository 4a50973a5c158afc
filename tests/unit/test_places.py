"""As many batches in hand as were set, or as the quota and the answers' latency need."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer.places import FIRST_PLACES, Places
from importer.quota import Quota
from importer.rate import FixedRate
from tests.virtual_time import in_virtual_time, run


class Crowd:
    """Many senders that share places: each takes one, waits for the quota, and for its answer."""

    def __init__(self, places: Places, per_minute: float, latency_seconds: float) -> None:
        self.places = places
        self.quota = Quota(FixedRate(per_minute))
        self.latency_seconds = latency_seconds
        self.in_place = self.most_in_place = 0
        self.in_flight = self.most_in_flight = 0
        self.starts: list[float] = []

    async def send(self) -> None:
        while True:
            async with self.places.place():
                self.in_place += 1
                self.most_in_place = max(self.most_in_place, self.in_place)
                try:
                    await self._request()
                finally:
                    self.in_place -= 1

    async def _request(self) -> None:
        async with self.places.awaiting_start():
            start = await self.quota.acquire()
        self.starts.append(start.at)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_seconds)
        finally:
            self.in_flight -= 1

    async def work(self, seconds: float) -> None:
        senders = [asyncio.create_task(self.send()) for _ in range(self.places.most)]
        await asyncio.sleep(seconds)
        for sender in senders:
            sender.cancel()
        await asyncio.wait(senders)


@in_virtual_time
async def test_set_places_are_kept() -> None:
    """Four places are four batches at a time, whatever the quota would have use for."""
    crowd = Crowd(Places(4), 600, 20)

    await crowd.work(300)

    assert (crowd.most_in_place, crowd.places.count, crowd.places.most) == (4, 4, 4)


@pytest.mark.parametrize(
    ("latency_seconds", "needed"),
    [(0.1, 1), (2, 1), (20, 10), (40, 20), (60, 30)],
)
def test_places_grow_to_what_quota_and_latency_need(latency_seconds: float, needed: int) -> None:
    """Thirty a minute at twenty seconds an answer need ten in flight; one more waits for the quota."""

    @in_virtual_time
    async def scenario() -> Crowd:
        crowd = Crowd(Places(FIRST_PLACES, 64), 30, latency_seconds)
        await crowd.work(1200)
        return crowd

    crowd = scenario()

    assert needed <= crowd.most_in_flight <= needed + 1
    assert crowd.places.count <= max(needed, FIRST_PLACES) + 2
    assert len(crowd.starts) > 0.99 * 20 * 30


@in_virtual_time
async def test_places_never_exceed_the_most() -> None:
    """Where answers take longer than the most places allow for, these are the bound."""
    crowd = Crowd(Places(FIRST_PLACES, 8), 600, 60)

    await crowd.work(600)

    assert (crowd.most_in_place, crowd.places.count) == (8, 8)


@in_virtual_time
async def test_places_close_when_answers_get_quicker() -> None:
    """After a slow time, no more batches are kept in hand than are needed."""
    crowd = Crowd(Places(FIRST_PLACES, 64), 60, 30)
    work = asyncio.create_task(crowd.work(900))
    await asyncio.sleep(300)
    slow = crowd.places.count

    crowd.latency_seconds = 0.5
    await work

    assert slow >= 30
    assert crowd.places.count <= 4


@given(st.integers(0, 2**32), st.integers(1, 12), st.booleans())
def test_no_place_is_ever_lost(seed: int, count: int, is_elastic: bool) -> None:
    """Senders that are cancelled anywhere, fail or finish: in the end each place can be taken again."""
    chance = Random(seed)

    async def send(places: Places) -> None:
        async with places.place():
            async with places.awaiting_start():
                await asyncio.sleep(chance.choice([0, 0.1, 1]))
            await asyncio.sleep(chance.choice([0, 0.5, 3]))
            if chance.random() < 0.2:
                raise ValueError

    async def main() -> int:
        places = Places(min(count, 4), max(count, 4)) if is_elastic else Places(count)
        senders = []
        for _ in range(60):
            senders.append(asyncio.create_task(send(places)))
            await asyncio.sleep(chance.choice([0, 0, 0.3]))
            if chance.random() < 0.4:
                chance.choice(senders).cancel()
        async with asyncio.timeout(1000):
            await asyncio.gather(*senders, return_exceptions=True)
        taken = 0
        held = asyncio.Event()

        async def hold() -> None:
            nonlocal taken
            async with places.place():
                taken += 1
                await held.wait()

        free = places.count
        holders = [asyncio.create_task(hold()) for _ in range(free + 3)]
        await asyncio.sleep(1)
        taken_at_once = taken
        held.set()
        await asyncio.gather(*holders)
        return taken_at_once - free

    assert run(main()) == 0
