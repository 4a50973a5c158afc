"""The past of a run is read as it was written, page by page, and damage is told in a sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from importer.errors import ImporterError, IncompleteError, RunDirectoryError
from importer.history import History
from importer.journal import Journal
from importer.model import ExitCode, Outcome, Tally
from tests.unit.runs import IDENTITY, done_of, one_row


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """The journal of a run of 1,300 batches, of which the odd ones were done first; two more are under way."""
    path = tmp_path / "state.db"
    journal = Journal(path)
    await journal.begin(IDENTITY)
    order = [*range(1, 1301, 2), *range(2, 1301, 2)]
    done = [done_of(batch, 10 * place, 10 * place + 10, place, added=1) for place, batch in enumerate(order)]
    await journal.finish(done, Tally())
    await journal.intend(one_row(1301), Tally(requests=1301))
    await journal.note(one_row(1302), b"known", Tally(requests=1301, retries=7))
    await journal.close()
    return path


def test_past_is_read_as_it_was_written(path: Path) -> None:
    """Who it was, how far it came, what is open."""
    with closing(History(path)) as history:
        assert history.identity == IDENTITY
        assert history.exit_code is None
        assert history.report_end == (13_000, 1299)
        assert history.last_batch == 1300
        assert {1301, 1302} == set(history.unfinished())
        assert history.tally().rows == history.tally().outcomes[Outcome.ADDED] == 1300
        assert (history.tally().requests, history.tally().retries) == (1301, 7)


def test_batches_come_in_either_order(path: Path) -> None:
    """All of them, each once, by number or by their place in the report, over any number of pages."""
    with closing(History(path)) as history:
        by_input = [done.batch for done in history.done()]
        by_report = [done.batch for done in history.done(by_report=True)]

    assert by_input == list(range(1, 1301))
    assert by_report == [*range(1, 1301, 2), *range(2, 1301, 2)]


async def test_run_may_be_looked_at_while_it_writes(path: Path) -> None:
    """A reader sees the last commit, and never stands in the way of the next one."""
    journal = Journal(path)
    with closing(History(path)) as history:
        batches = history.done()
        next(batches)
        await journal.complete(ExitCode.COMPLETE, Tally())

        assert history.exit_code is ExitCode.COMPLETE
        assert len(list(batches)) == 1299
    await journal.close()


def test_history_is_closed_while_another_thread_reads(path: Path) -> None:
    """A run that is stopped does not wait for the thread that reads its past: that one gets an error, and no crash."""

    def read(history: History, is_reading: Event) -> None:
        with suppress(ImporterError):
            while True:
                list(history.done())
                is_reading.set()

    for _ in range(20):
        history, is_reading = History(path), Event()
        reader = Thread(target=read, args=(history, is_reading))
        reader.start()
        is_reading.wait()
        history.close()
        reader.join()

    assert not reader.is_alive()


def test_run_that_has_not_begun_has_no_past(tmp_path: Path) -> None:
    """Whoever died before it said what it is of has done nothing."""
    Journal(tmp_path / "state.db")
    with closing(History(tmp_path / "state.db")) as history:
        assert history.identity is None
        assert history.exit_code is None
        assert history.report_end == (0, 0)
        assert history.last_batch == 0
        assert history.unfinished() == {}
        assert list(history.done()) == []
        assert Tally() == history.tally()


def test_directory_without_a_journal_is_no_run(tmp_path: Path) -> None:
    """Looking at any other directory says so, and makes nothing in it."""
    with pytest.raises(RunDirectoryError, match=r"not the directory of a run: it has no state\.db"):
        History(tmp_path / "state.db")

    assert list(tmp_path.iterdir()) == []


async def test_what_stands_in_the_log_is_never_passed_over(tmp_path: Path) -> None:
    """Without its log the file would tell of a past that is not the run's: it is read with it, or not at all."""
    journal = Journal(tmp_path / "state.db")
    await journal.begin(IDENTITY)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("state.db", "state.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    await journal.close()
    (copy / "state.db-shm").mkdir()  # no shared memory, as in a directory that nobody may write to
    with closing(History(copy / "state.db")) as history:
        assert history.identity == IDENTITY
    log = copy / "state.db-wal"
    log.unlink()
    log.mkdir()  # it is there, and cannot be read

    with pytest.raises(IncompleteError, match="cannot be used"):
        History(copy / "state.db")


async def test_archived_run_can_be_looked_at(tmp_path: Path) -> None:
    """A run that ended in order needs nothing but its file, even where no other can be made."""
    journal = Journal(tmp_path / "state.db")
    await journal.begin(IDENTITY)
    await journal.close()
    (tmp_path / "state.db-shm").mkdir()
    with closing(History(tmp_path / "state.db")) as history:
        assert history.identity == IDENTITY


def read_identity(history: History) -> Any:
    return history.identity


def read_exit_code(history: History) -> Any:
    return history.exit_code


def read_tally(history: History) -> Any:
    return history.tally()


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE run SET identity = '{'", read_identity),
        ("UPDATE run SET identity = '{}'", read_identity),
        ("UPDATE run SET identity = CAST(x'ff' AS TEXT)", read_identity),
        ("UPDATE run SET counts = x'00'", read_tally),
        ("""UPDATE run SET counts = CAST('{"requests": "many"}' AS BLOB)""", read_tally),
        ("""UPDATE run SET counts = CAST('{"anomalies": {"oddity": 1}}' AS BLOB)""", read_tally),
        ("UPDATE run SET exit_code = 99", read_exit_code),
        ("DROP TABLE run", read_identity),
        ("ALTER TABLE done RENAME COLUMN report_crc TO report", lambda history: list(history.done())),
        ("DROP TABLE intent", lambda history: history.unfinished()),
    ],
)
def test_value_that_cannot_be_read_is_damage(path: Path, statement: str, read: Callable[[History], object]) -> None:
    """A sound database with an unsound value in it is told like any other damage, not by a traceback."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
    with pytest.raises(ImporterError, match=r"state\.db: damaged \(") as caught, closing(History(path)) as history:
        read(history)

    assert caught.value.exit_code is ExitCode.USAGE
    assert "\n" not in str(caught.value)
