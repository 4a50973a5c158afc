"""Writes state.db: what a run is, what it is about to do, and what it has done.

An intent is durable before the first byte of its request leaves; a batch is done only after its report lines are on
the disk. So whatever a crash leaves, an intent without its batch done is all that is in doubt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from importer.errors import ImporterError
from importer.model import Attempt, Batch, ExitCode, Outcome, Tally
from importer.state import DoneBatch, Identity, explained, open_for_writing
from importer.threads import Worker

_REMEMBERED_SECONDS = 120.0
_DONE = "batch, first_row, last_row, digest, report_start, report_end, report_crc"
_END = "input_bytes, input_lines, input_digest"
_ATTEMPT = "at, seconds, waited_seconds, contacts, status"


class Journal:
    """The journal of one run, for the process that holds its directory.

    Writes that come while a commit is under way share the next one: a slow disk costs latency, not throughput.
    Raises IncompleteError where the disk refuses, RunDirectoryError where the file is damaged.
    """

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Open or create the file. `wall_clock` gives seconds that go on across processes."""
        self._wall_clock = wall_clock
        self._path = path
        self._pending: list[tuple[str, Sequence[Any]]] = []
        self._next_commit: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._db = open_for_writing(path)
        self._worker = Worker("journal")

    async def close(self) -> None:
        """Finish what is being written, and close the file."""
        if self._next_commit is not None:
            await asyncio.wait([self._next_commit])
        async with self._one_at_a_time:
            if self._pending:  # what nobody waits for
                with suppress(ImporterError):
                    await self._worker.call(self._execute, self._pending)
            await self._worker.call(self._db.close)
            self._worker.close()

    async def begin(self, identity: Identity) -> None:
        """Say what the run is of."""
        await self._write("INSERT INTO run (one, identity) VALUES (1, ?)", msgspec.json.encode(identity).decode())

    async def intend(self, batch: Batch, tally: Tally) -> None:
        """Say that a request for the batch is about to leave; the intent's number is that of the request."""
        now = self._wall_clock()
        await self._write_counts(
            tally,
            (
                "INSERT INTO intent (number, batch, digest) VALUES (?, ?, ?)",
                (tally.requests, batch.number, batch.digest),
            ),
            ("INSERT INTO start (at) VALUES (?)", (now,)),
            ("DELETE FROM start WHERE at < ?", (now - _REMEMBERED_SECONDS,)),
        )

    async def withdraw(self, intent: int) -> None:
        """Say that the request of this intent was certainly not processed."""
        await self._write("DELETE FROM intent WHERE number = ?", intent)

    async def note(self, batch: Batch, known: bytes, tally: Tally) -> None:
        """Say what all requests for the batch so far have proved; none of them is in doubt any more."""
        await self._write_counts(
            tally,
            (
                "INSERT OR REPLACE INTO progress (batch, digest, known) VALUES (?, ?, ?)",
                (batch.number, batch.digest, known),
            ),
            ("DELETE FROM intent WHERE batch = ?", (batch.number,)),
        )

    async def finish(self, batches: Iterable[DoneBatch], tally: Tally) -> None:
        """Say that batches are done. Their lines must be on the disk: the journal never claims what may be lost."""
        statements: list[tuple[str, Sequence[Any]]] = []
        now = self._wall_clock()
        for each in batches:
            values: list[Any] = [now]
            values += [getattr(each, name) for name in _DONE.split(", ")]
            values += (each.end.offset, each.end.lines, each.end.digest) if each.end else (None, None, None)
            values += [each.outcomes.get(outcome, 0) for outcome in Outcome]
            marks = ", ".join("?" * len(values))
            statements += [
                (f"INSERT INTO done (at, {_DONE}, {_END}, {', '.join(Outcome)}) VALUES ({marks})", values),  # noqa: S608
                ("DELETE FROM intent WHERE batch = ?", (each.batch,)),
                ("DELETE FROM progress WHERE batch = ?", (each.batch,)),
            ]
        await self._write_counts(tally, *statements)

    def observe(self, attempt: Attempt) -> None:
        """Remember a request, with whatever is committed next: nothing hangs on it."""
        values = [getattr(attempt, name) for name in _ATTEMPT.split(", ")]
        self._pending.append((f"INSERT INTO attempt ({_ATTEMPT}) VALUES (?, ?, ?, ?, ?)", values))  # noqa: S608

    async def complete(self, exit_code: ExitCode, tally: Tally) -> None:
        """Say that every row of the input is in the report."""
        await self._write_counts(tally, ("UPDATE run SET exit_code = ?", (int(exit_code),)))

    async def save_counts(self, tally: Tally) -> None:
        """Keep the counts of a run that ends early."""
        await self._write_counts(tally)

    async def _write_counts(self, tally: Tally, *statements: tuple[str, Sequence[Any]]) -> None:
        counts = msgspec.json.encode(
            {
                "requests": tally.requests,
                "retries": tally.retries,
                "throttled": tally.throttled,
                "anomalies": tally.anomalies,
                "resent_contacts": tally.resent_contacts,
                "seconds": tally.seconds,
            }
        )
        await self._commit_soon([*statements, ("UPDATE run SET counts = ?", (counts,))])

    async def _write(self, statement: str, *values: Any) -> None:
        await self._commit_soon([(statement, values)])

    async def _commit_soon(self, statements: list[tuple[str, Sequence[Any]]]) -> None:
        self._pending += statements
        if self._next_commit is None:
            self._next_commit = asyncio.create_task(self._commit(), name="commit")
            self._next_commit.add_done_callback(_hear)
        # Shielded: others wait for the same commit, and a statement once handed in must not be half heard.
        await asyncio.shield(self._next_commit)

    async def _commit(self) -> None:
        async with self._one_at_a_time:
            statements, self._pending, self._next_commit = self._pending, [], None
            await self._worker.call(self._execute, statements)

    def _execute(self, statements: list[tuple[str, Sequence[Any]]]) -> None:
        with explained(self._path), self._db:
            self._db.execute("BEGIN")
            for statement, values in statements:
                self._db.execute(statement, values)


def _hear(commit: asyncio.Task[None]) -> None:
    """Take note of a failed commit: whoever waited for it may have been stopped meanwhile."""
    if not commit.cancelled():
        commit.exception()
