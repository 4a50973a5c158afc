"""What the counts of a run come to by the minute, how long is left, and what it waits for. The time is made up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from importer.errors import IncompleteError
from importer.model import Outcome, Tally, Wait
from importer.progress import Watch
from importer.screen import View
from importer.shutdown import Shutdown
from importer.state import Identity
from importer.total import Total

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BATCH = 5_000
PIPED = Identity(
    list_sid="list",
    location="-",
    size_bytes=None,
    sample="",
    batch_size=BATCH,
    position=0,
    has_header=True,
    delimiter=",",
    encoding="utf-8",
    sid_pattern="",
)


class Watched:
    """A run that begins at second 100 of the clock."""

    def __init__(self, total: int | None = None, per_minute: float | None = 30.0) -> None:
        self.now = 100.0
        self.tally = Tally(per_minute=per_minute)
        self.starts: list[float] = []
        self.tally.starts = self.starts
        self.shutdown = Shutdown(1)
        self.total = Total(PIPED)
        self.total.rows = total
        about = View(input="contacts.csv", list_sid="list")
        self._watch = Watch(self.tally, self.shutdown, self.total, about=about, batch_size=BATCH, began=self.now)

    def look(self) -> View:
        return self._watch.look(self.now, NOON)

    def pass_batches(self, count: int, *, each_seconds: float, invalid: int = 0) -> View:
        """Let batches finish, one every so many seconds, and look after each."""
        for _ in range(count):
            self.now += each_seconds
            self.starts.append(self.now)
            self.tally.requests += 1
            self.tally.count_outcomes({Outcome.ADDED: BATCH - invalid, Outcome.INVALID: invalid})
            view = self.look()
        return view


def test_before_it_has_begun_nothing_is_counted() -> None:
    """What an earlier process did may not be known yet: no number is shown that would jump."""
    run = Watched(total=100, per_minute=None)

    view = run.look()

    assert (view.has_begun, view.rows, view.left, view.state) == (False, 0, None, "getting ready")


def test_speed_is_that_of_the_last_minute() -> None:
    """A slow hour is forgotten after a minute, and rows that were not sent do not count."""
    run = Watched()
    run.look()
    run.pass_batches(60, each_seconds=60)
    view = run.pass_batches(30, each_seconds=2, invalid=1_000)

    assert view.contacts_per_minute == 30 * 4_000
    assert view.starts == 30
    assert view.elapsed == 60 * 61


def test_speed_is_not_told_from_a_moment() -> None:
    """In the first seconds there is no speed to speak of."""
    run = Watched()
    run.look()

    assert run.pass_batches(2, each_seconds=2).contacts_per_minute is None
    assert run.pass_batches(1, each_seconds=2).contacts_per_minute == 3 * BATCH * 10


def test_rows_of_an_earlier_process_are_no_speed() -> None:
    """A resumed run begins with the rows that were done, and its speed with none."""
    run = Watched(total=3_000_000)
    run.tally.count_outcomes({Outcome.ADDED: 1_500_000})
    run.tally.batches = 300
    run.look()

    view = run.pass_batches(5, each_seconds=2)

    assert view.contacts_per_minute == 150_000
    assert view.left == pytest.approx((1_500_000 - 25_000) / BATCH * 2)


def test_time_left_is_told_by_the_quota() -> None:
    """A pause does not make the rest longer than the quota does, but for the pause that is under way."""
    run = Watched(total=1_000_000)
    run.look()
    run.pass_batches(10, each_seconds=2)
    run.tally.waits[Wait.THROTTLED] = run.now + 100
    run.now += 50
    paused = run.look().left
    run.now += 50
    run.tally.in_flight = 4

    assert paused == 190 * 2 + 50
    assert run.look().left == (190 - 4) * 2


def test_time_left_where_the_api_is_slower_than_the_quota() -> None:
    """What the API does not answer in time, no quota makes faster."""
    run = Watched(total=1_000_000)
    run.look()

    assert run.pass_batches(10, each_seconds=10).left == pytest.approx(190 * 10)


def test_time_left_counts_the_rows_that_a_request_takes() -> None:
    """Where half of the rows are not sent, a request goes twice as far."""
    run = Watched(total=1_000_000)
    run.look()
    for _ in range(10):
        run.tally.count_outcomes({Outcome.ADDED: BATCH, Outcome.INVALID: BATCH})
    run.now += 1

    assert run.look().left == 90 * 2


@pytest.mark.parametrize("wait", [None, Wait.OUTAGE])
def test_time_left_is_not_guessed(wait: Wait | None) -> None:
    """Without a total, and in an outage, nobody knows."""
    run = Watched(total=1_000 if wait else None)
    if wait:
        run.tally.waits[wait] = run.now - 1

    assert run.look().left is None


@pytest.mark.parametrize(
    ("waits", "said", "is_trouble"),
    [
        ({}, "sending: 1 request in flight", False),
        ({Wait.QUOTA: -5}, "sending: 1 request in flight", False),
        ({Wait.QUOTA: 2}, "waiting for the quota: next request in 2 s", False),
        ({Wait.QUOTA: 40}, "waiting for the quota: next request at 12:00:40, in 40 s", False),
        ({Wait.BACK_OFF: 0.2}, "waiting to try again: in 1 s", True),
        ({Wait.QUOTA: 40, Wait.THROTTLED: 60}, "the API said 429, too many requests: going on at 12:01:00", True),
        ({Wait.THROTTLED: 5, Wait.OUTAGE: 90}, "the API does not answer: next try at 12:01:30, in 1 min 30 s", True),
        ({Wait.OUTAGE: -1}, "the API does not answer: trying it with one request", True),
    ],
)
def test_state_says_what_it_waits_for(waits: dict[Wait, float], said: str, is_trouble: bool) -> None:
    """The most important wait is told, with its end."""
    run = Watched()
    run.tally.in_flight = 1
    run.tally.waits = {wait: run.now + seconds for wait, seconds in waits.items()}

    view = run.look()

    assert view.state.startswith(said)
    assert view.is_troubled == is_trouble


async def test_state_says_that_it_stops() -> None:
    """Once a signal has come, what is in flight is all that is waited for."""
    run = Watched()
    run.tally.waits[Wait.QUOTA] = run.now + 10
    run.shutdown.request(IncompleteError("Stopped."))
    nothing = run.look().state
    run.tally.in_flight = 2

    assert nothing == "stopping"
    assert run.look().state == "stopping: waiting for 2 requests in flight"
