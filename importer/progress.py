"""What a person learns of a run while it goes on: a live display on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
from typing import TYPE_CHECKING

import msgspec
import structlog

from importer.model import Outcome, Tally, Wait
from importer.screen import Display, View
from importer.shutdown import Shutdown
from importer.tables import duration
from importer.total import Total

if TYPE_CHECKING:
    from importer.job import Job

_REFRESH_SECONDS = 0.5
_SECONDS_OF_A_LINE = 10
_MINUTE = 60.0
_LEAST_SECONDS = 5.0  # from which on one can speak of contacts a minute
_SETTLED_SECONDS = 20.0
_SLOW = 0.7
_SAYS_WHEN_SECONDS = 10.0
_NOT_SENT = frozenset({Outcome.INVALID, Outcome.DUPLICATE})


def is_live() -> bool:
    """Whether there is a terminal on which something can be shown in place."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}


@asynccontextmanager
async def showing(tally: Tally, job: Job, shutdown: Shutdown) -> AsyncIterator[None]:
    """Show the counts while they grow: live on a terminal, as a log line every ten seconds elsewhere."""
    total = Total(job.identity)
    watch = Watch(
        tally,
        shutdown,
        total,
        began=asyncio.get_running_loop().time(),
        batch_size=job.identity.batch_size,
        about=View(
            input="standard input" if job.identity.location == "-" else job.identity.location,
            list_sid=job.identity.list_sid,
            finds_rate=job.settings.delivery.requests_per_minute == "auto",
        ),
    )
    show = _show_live(watch, total) if is_live() else _log_progress(watch)
    task = asyncio.create_task(show, name="progress")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, OSError):  # a display that nobody sees any more ends no run
            await task


class Watch:
    """The counts of a run, looked at again and again: what they come to by the minute. The time is handed in."""

    def __init__(
        self, tally: Tally, shutdown: Shutdown, total: Total, *, about: View, batch_size: int, began: float
    ) -> None:
        """Look at these counts, which change meanwhile; `about` has what does not."""
        self._tally = tally
        self._shutdown = shutdown
        self._total = total
        self._about = about
        self._batch_size = batch_size
        self._began = began
        self._seen: deque[tuple[float, int, int]] = deque()  # when, contacts, rows: of the last minute
        self._held_up_at = float("-inf")  # when the API last had the run wait

    def look(self, now: float, wall: datetime) -> View:
        """Say how the run stands."""
        tally = self._tally
        state, is_troubled = self._state(now, wall)
        view = msgspec.structs.replace(self._about, elapsed=now - self._began, state=state, is_troubled=is_troubled)
        if tally.per_minute is None:  # the counts of an earlier process may still be to come
            return view
        self._see(now)
        total = self._total.rows
        return msgspec.structs.replace(
            view,
            has_begun=True,
            rows=tally.rows,
            total=total,
            contacts_per_minute=self._contacts_per_minute(now),
            starts=sum(1 for _ in takewhile(lambda at: at > now - _MINUTE, reversed(tally.starts))),
            per_minute=tally.per_minute,
            in_flight=tally.in_flight,
            requests=tally.requests,
            outcomes=dict(tally.outcomes),
            left=None
            if total is None or Wait.OUTAGE in tally.waits
            else self._seconds_left(total, tally.per_minute, now),
        )

    def _see(self, now: float) -> None:
        tally, seen = self._tally, self._seen
        if any(tally.waits.get(wait, 0.0) > now for wait in (Wait.OUTAGE, Wait.THROTTLED)):
            self._held_up_at = now
        contacts = tally.rows - sum(tally.outcomes[outcome] for outcome in _NOT_SENT)
        seen.append((now, contacts, tally.rows))
        while len(seen) > 1 and seen[1][0] <= now - _MINUTE:
            seen.popleft()

    def _contacts_per_minute(self, now: float) -> float | None:
        at, contacts, _ = self._seen[0]
        return (self._seen[-1][1] - contacts) / (now - at) * _MINUTE if now - at >= _LEAST_SECONDS else None

    def _seconds_left(self, total: int, per_minute: float, now: float) -> float:
        """Tell from the quota how long the rest takes; from what was seen only where the API is slower than that."""
        tally = self._tally
        rows_left = max(0, total - tally.rows)
        rows_a_request = tally.rows / tally.batches if tally.batches else self._batch_size
        rows_per_minute = per_minute * rows_a_request
        begun = rows_a_request * tally.in_flight
        at, _, rows = next((each for each in self._seen if each[0] > self._held_up_at), self._seen[-1])
        if now - at >= _SETTLED_SECONDS:
            seen_per_minute = (tally.rows - rows) / (now - at) * _MINUTE
            if 0 < seen_per_minute < _SLOW * rows_per_minute:
                rows_per_minute, begun = seen_per_minute, 0
        paused = max(0.0, tally.waits.get(Wait.THROTTLED, now) - now)
        return max(0.0, rows_left - begun) / rows_per_minute * _MINUTE + paused

    def _state(self, now: float, wall: datetime) -> tuple[str, bool]:
        """Say what the run does or waits for right now, and whether that is trouble."""
        tally = self._tally
        in_flight = f"{tally.in_flight:,} {'request' if tally.in_flight == 1 else 'requests'} in flight"
        if self._shutdown.cause is not None:
            return (f"stopping: waiting for {in_flight}" if tally.in_flight else "stopping"), True
        if tally.per_minute is None:
            return "getting ready", False
        wait = next((wait for wait in Wait if tally.waits.get(wait, 0.0) > now), None)
        if wait is None:
            if Wait.OUTAGE in tally.waits:
                return "the API does not answer: trying it with one request", True
            return (f"sending: {in_flight}" if tally.in_flight else "sending"), False
        seconds = max(1.0, tally.waits[wait] - now)
        when = f"in {duration(seconds)}"
        if seconds >= _SAYS_WHEN_SECONDS:
            when = f"at {(wall + timedelta(seconds=seconds)).strftime('%H:%M:%S')}, {when}"
        match wait:
            case Wait.OUTAGE:
                return f"the API does not answer: next try {when}", True
            case Wait.THROTTLED:
                return f"the API said 429, too many requests: going on {when}", True
            case Wait.BACK_OFF:
                return f"waiting to try again: {when}", True
            case Wait.QUOTA:
                return f"waiting for the quota: next request {when}", False


async def _show_live(watch: Watch, total: Total) -> None:
    stream, now = sys.stderr, asyncio.get_running_loop().time
    display = Display(stream)
    sys.stderr = display  # it has all that a stream has
    try:
        while True:
            view = watch.look(now(), datetime.now(UTC).astimezone())
            display.draw(view)
            await asyncio.sleep(_REFRESH_SECONDS)
            if view.has_begun:
                total.start()  # only now: the first request comes first
    finally:
        sys.stderr = stream
        total.stop()
        display.erase()


async def _log_progress(watch: Watch) -> None:
    log = structlog.get_logger()
    for second in count(1):
        await asyncio.sleep(1)
        view = watch.look(asyncio.get_running_loop().time(), datetime.now(UTC).astimezone())
        if second % _SECONDS_OF_A_LINE == 0:
            log.info(
                "progress",
                rows=view.rows,
                contacts_per_minute=round(view.contacts_per_minute or 0),
                requests=view.requests,
                in_flight=view.in_flight,
                state=view.state,
            )
