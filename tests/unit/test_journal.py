"""The journal writes what it is told before it says so, in groups, and forgets nothing that it was handed."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from importer.errors import ImporterError, IncompleteError, RunDirectoryError
from importer.history import History, Unfinished
from importer.journal import Journal
from importer.model import Anomaly, Attempt, ExitCode, Outcome, Tally
from importer.state import APPLICATION_ID, SCHEMA_VERSION
from importer.threads import Worker
from tests.unit.runs import IDENTITY, done_of, one_row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    """The journal of a run that has begun."""
    journal = Journal(path)
    await journal.begin(IDENTITY)
    yield journal
    await journal.close()


def unfinished(path: Path) -> dict[int, Unfinished]:
    with closing(History(path)) as history:
        return history.unfinished()


class HeldDisk:
    """A disk that is busy until it is let go."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.commits = 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let every thread wait for this disk."""
        call = Worker.call

        async def held(worker: Worker, function: Callable[..., Any], *arguments: Any) -> Any:
            self.commits += 1
            await self.free.wait()
            return await call(worker, function, *arguments)

        with patch.object(Worker, "call", held):
            yield


async def turns() -> None:
    """Let whatever can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_intent_is_on_the_disk_when_the_call_returns(path: Path, journal: Journal) -> None:
    """What was intended is in doubt for whoever looks, from that moment on."""
    await journal.intend(one_row(7), Tally(requests=3))

    assert unfinished(path) == {7: Unfinished(one_row(7).digest, None, in_doubt=True)}


async def test_withdrawn_intent_is_no_longer_in_doubt(path: Path, journal: Journal) -> None:
    """Only the intent that is withdrawn is: another one for the same batch stays."""
    await journal.intend(one_row(7), Tally(requests=1))
    await journal.intend(one_row(7), Tally(requests=2))
    await journal.withdraw(2)

    assert unfinished(path)[7].in_doubt
    await journal.withdraw(1)

    assert unfinished(path) == {}


async def test_note_takes_all_requests_of_its_batch_out_of_doubt(path: Path, journal: Journal) -> None:
    """The latest note stands; batches that it does not speak of stay in doubt."""
    await journal.intend(one_row(1), Tally(requests=1))
    await journal.intend(one_row(2), Tally(requests=2))
    await journal.note(one_row(1), b"first", Tally(requests=2))
    await journal.note(one_row(1), b"second", Tally(requests=2))

    assert unfinished(path) == {
        1: Unfinished(one_row(1).digest, b"second", in_doubt=False),
        2: Unfinished(one_row(2).digest, None, in_doubt=True),
    }


async def test_done_batch_leaves_neither_intents_nor_notes(path: Path, journal: Journal) -> None:
    """The journal does not grow with what is over."""
    await journal.intend(one_row(1), Tally(requests=1))
    await journal.note(one_row(1), b"known", Tally(requests=1))
    await journal.intend(one_row(1), Tally(requests=2))
    await journal.finish([done_of(1, 0, 10, added=1)], Tally(requests=2))

    assert unfinished(path) == {}
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT (SELECT count(*) FROM intent), (SELECT count(*) FROM progress)").fetchone() == (0, 0)


async def test_counts_come_with_what_they_count(path: Path, journal: Journal) -> None:
    """Whatever is written brings the counts of its moment; rows and outcomes follow from the batches."""
    tally = Tally(requests=5, retries=2, throttled=1, anomalies={Anomaly.MISSING: 3}, resent_contacts=4, seconds=1.5)
    await journal.finish([done_of(1, 0, 10, added=1), done_of(2, 10, 30, rejected=1)], tally)
    with closing(History(path)) as history:
        found = history.tally()

    assert (
        found.requests,
        found.retries,
        found.throttled,
        found.anomalies,
        found.resent_contacts,
        found.seconds,
    ) == (5, 2, 1, {Anomaly.MISSING: 3}, 4, 1.5)
    assert (found.rows, found.batches) == (2, 2)
    assert {name: count for name, count in found.outcomes.items() if count} == {Outcome.ADDED: 1, Outcome.REJECTED: 1}


async def test_complete_run_has_an_exit_code(path: Path, journal: Journal) -> None:
    """Only a run whose every row is reported has one."""
    await journal.save_counts(Tally())
    with closing(History(path)) as history:
        assert history.exit_code is None
        await journal.complete(ExitCode.SOME_NOT_IN_LIST, Tally())

        assert history.exit_code is ExitCode.SOME_NOT_IN_LIST


async def test_writes_share_a_commit(path: Path, journal: Journal) -> None:
    """While the disk is busy with one commit, whatever comes waits for the next one together."""
    disk = HeldDisk()
    with disk.in_use():
        writes = [asyncio.create_task(journal.intend(one_row(1), Tally(requests=1)))]
        await turns()
        writes += [asyncio.create_task(journal.intend(one_row(n), Tally(requests=n))) for n in range(2, 30)]
        await turns()

        assert disk.commits == 1
        assert not any(write.done() for write in writes)
        disk.free.set()
        await asyncio.gather(*writes)

    assert disk.commits == 2
    assert set(range(1, 30)) == set(unfinished(path))


async def test_failed_commit_reaches_every_waiter(path: Path, journal: Journal) -> None:
    """Whoever shares a commit that fails is told so, and nothing of it is written; the next one is a new one."""
    same_number = [journal.intend(one_row(number), Tally(requests=1)) for number in (1, 2)]
    results = await asyncio.gather(
        *same_number, journal.withdraw(5), journal.note(one_row(3), b"", Tally()), return_exceptions=True
    )

    assert [RunDirectoryError] * 4 == [type(result) for result in results]
    assert unfinished(path) == {}
    await journal.intend(one_row(4), Tally(requests=2))

    assert {4} == set(unfinished(path))


async def test_full_disk_is_an_incomplete_run(path: Path, journal: Journal) -> None:
    """A disk that takes no more makes one sentence, and the run goes on from there once there is room."""
    log = path.with_name("state.db-wal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, limits[1]))
    try:
        with pytest.raises(IncompleteError, match=r"state\.db: cannot be used: .*[Mm]ake room") as caught:
            await journal.intend(one_row(1), Tally(requests=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert caught.value.exit_code is ExitCode.INCOMPLETE
    assert unfinished(path) == {}
    await journal.intend(one_row(1), Tally(requests=1))

    assert {1} == set(unfinished(path))


@pytest.mark.parametrize("disk_is_busy", [False, True])
async def test_cancelled_waiter_loses_nothing(path: Path, journal: Journal, disk_is_busy: bool) -> None:
    """A statement once handed in is written, even if nobody waits for it; others in the same commit notice nothing."""
    disk = HeldDisk()
    with disk.in_use():
        if disk_is_busy:
            first = asyncio.create_task(journal.intend(one_row(1), Tally(requests=1)))
            await turns()
        else:
            first = None
        cancelled = asyncio.create_task(journal.intend(one_row(2), Tally(requests=2)))
        other = asyncio.create_task(journal.intend(one_row(3), Tally(requests=3)))
        await turns()
        cancelled.cancel()
        await turns()

        assert cancelled.cancelled()
        disk.free.set()
        await asyncio.gather(other, *([first] if first else []))

    assert ({1, 2, 3} if disk_is_busy else {2, 3}) == set(unfinished(path))


async def test_close_finishes_what_was_handed_in(path: Path) -> None:
    """Closing waits for the commit under way and for the one after it."""
    journal = Journal(path)
    disk = HeldDisk()
    with disk.in_use():
        writes = [asyncio.create_task(journal.begin(IDENTITY))]
        await turns()
        writes += [asyncio.create_task(journal.intend(one_row(1), Tally(requests=1)))]
        await turns()
        closed = asyncio.create_task(journal.close())
        await turns()

        assert not closed.done()
        disk.free.set()
        await asyncio.gather(*writes, closed)

    assert not path.with_name("state.db-wal").exists()
    assert {1} == set(unfinished(path))


async def test_files_are_private(path: Path, journal: Journal) -> None:
    """Nobody else may read them."""
    await journal.intend(one_row(1), Tally(requests=1))
    files = list(path.parent.iterdir())

    assert {"state.db", "state.db-shm", "state.db-wal"} == {file.name for file in files}
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}


def foreign(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("CREATE TABLE bookmarks (url)", "not the journal of a run"),
        ("PRAGMA application_id = 7", "not the journal of a run"),
        (f"PRAGMA application_id = {APPLICATION_ID}; CREATE TABLE run (one)", "written by another version"),
        (
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION + 1}",
            f"another version of importer \\(format {SCHEMA_VERSION + 1}, this one writes {SCHEMA_VERSION}\\)",
        ),
    ],
)
@pytest.mark.parametrize("opener", [Journal, History])
def test_foreign_database_is_refused_and_left_as_it_is(
    path: Path, script: str, said: str, opener: Callable[[Path], object]
) -> None:
    """Whatever another program keeps in a file of this name stays, byte by byte."""
    foreign(path, script)
    before = path.read_bytes()
    with pytest.raises(RunDirectoryError, match=said):
        opener(path)

    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    """A journal that cannot be made says where and what to do."""
    (tmp_path / "state.db").mkdir()
    with pytest.raises(ImporterError, match=r"state\.db: Is a directory\. Make room or mend its permissions"):
        Journal(tmp_path / "state.db")


@pytest.mark.parametrize("begin", [Path.touch, lambda path: foreign(path, "PRAGMA journal_mode = WAL")])
async def test_birth_may_be_interrupted(path: Path, begin: Callable[[Path], None]) -> None:
    """A process that died before it had made the schema leaves a file that the next one takes up."""
    begin(path)
    await Journal(path).close()

    assert unfinished(path) == {}


async def test_requests_are_remembered_in_the_order_in_which_they_ended(path: Path) -> None:
    """They are written with what comes next, or at the end, and nobody waits for them."""
    attempts = [Attempt(1.5, 0.25, 2.0, 5000, 207), Attempt(1.0, 30.0, 0.0, 1, None)]
    journal = Journal(path)
    for attempt in attempts:
        journal.observe(attempt)
    await journal.close()

    with closing(History(path)) as history:
        assert attempts == list(history.attempts())
