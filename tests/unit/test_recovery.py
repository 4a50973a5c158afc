"""What an earlier process left is taken up as it is, or refused in a sentence; it is never guessed, and never lost."""

from __future__ import annotations

import random
import sqlite3
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from importer import cli
from importer.errors import ImporterError, IncompleteError, InputError, RunDirectoryError
from importer.failed import write_failed
from importer.history import History
from importer.journal import Journal
from importer.model import Batch, ContactResult, ExitCode, Outcome
from importer.recovery import (
    REPORT,
    STATE,
    SUMMARY,
    DirectoryLock,
    changed_row,
    checksum_of,
    is_running,
    recover,
    refuse_foreign,
)
from importer.state import Identity
from importer.status import status_of
from tests.unit.runs import finished_run, sid

ROWS = 60


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run of twenty batches."""
    return finished_run(tmp_path, [sid(number) for number in range(1, ROWS + 1)])


def identity_of(directory: Path) -> Identity:
    with closing(History(directory / STATE)) as history:
        assert history.identity is not None
        return history.identity


def taken_up(directory: Path, identity: Identity) -> Identity | None:
    """Begin as a run does."""
    with DirectoryLock(directory):
        refuse_foreign(directory)
        Journal(directory / STATE)
        with closing(History(directory / STATE)) as history:
            return recover(directory, identity, history)


def read_all(directory: Path, identity: Identity) -> tuple[Any, ...]:
    """Begin as a run does, and read all that there is to read."""
    past = taken_up(directory, identity)
    with closing(History(directory / STATE)) as history:
        done = list(history.done()), list(history.done(by_report=True))
        return past, done, history.tally(), history.exit_code, history.report_end, history.unfinished()


def test_directory_belongs_to_one_process(tmp_path: Path) -> None:
    """A second process is told so at once, and what to do; when the first one has gone, the directory is free."""
    directory = tmp_path / "runs" / "one"
    assert not is_running(directory)
    with DirectoryLock(directory):
        assert is_running(directory)
        with pytest.raises(
            RunDirectoryError, match=r"another process is at work on this run\..*importer status"
        ) as caught:
            DirectoryLock(directory)

        assert caught.value.exit_code is ExitCode.USAGE
    assert not is_running(directory)
    with DirectoryLock(directory):
        assert is_running(directory)


def test_whoever_looks_is_in_nobodys_way(tmp_path: Path) -> None:
    """However often it is asked whether the run is running, the run can begin."""
    with DirectoryLock(tmp_path):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_running(tmp_path)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(100):
            with DirectoryLock(tmp_path):
                pass
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()


def test_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A file in the directory's place is told like any trouble with the disk."""
    (tmp_path / "runs").write_text("not a directory")
    with pytest.raises(IncompleteError, match=r"runs.*: Not a directory\. Make room or mend its permissions"):
        DirectoryLock(tmp_path / "runs" / "one")


def test_run_that_has_not_begun_is_begun(tmp_path: Path, run: Path) -> None:
    """A directory of nothing, or of a process that died before it began, has no past."""
    identity = identity_of(run)

    assert taken_up(tmp_path / "new", identity) is None
    (tmp_path / "new" / REPORT).touch()
    assert taken_up(tmp_path / "new", identity) is None


def test_complete_run_is_taken_up_as_it_is(run: Path) -> None:
    """Nothing is changed in a run that nothing is wrong with."""
    before = (run / REPORT).read_bytes()

    assert taken_up(run, identity_of(run)) == identity_of(run)
    assert (run / REPORT).read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"list_sid": "another"}, "list"),
        ({"size_bytes": 7}, "size of the input"),
        ({"size_bytes": None}, "size of the input"),
        ({"sample": "another"}, "content of the input"),
        ({"batch_size": 7}, "delivery.batch_size"),
        ({"position": 7}, "input.column"),
        ({"has_header": False}, "header of the input"),
        ({"delimiter": ";"}, "input.delimiter"),
        ({"encoding": "latin-1"}, "input.encoding"),
        ({"sid_pattern": "another"}, "input.sid_pattern"),
        ({"list_sid": "another", "batch_size": 7}, "list, delivery.batch_size"),
    ],
)
def test_another_run_is_refused(run: Path, changed: dict[str, Any], said: str) -> None:
    """A directory of a run that cuts other batches, or for another list, is refused, and says what differs."""
    identity = msgspec.structs.replace(identity_of(run), **changed)
    with pytest.raises(RunDirectoryError) as caught:
        taken_up(run, identity)

    assert f"holds another run ({run.parent / 'in.csv'} into list" in str(caught.value)
    assert f"what differs: {said}. Go on with what it began with" in str(caught.value)


def test_every_part_of_the_identity_is_compared(run: Path) -> None:
    """But for the place of the input, which may be moved."""
    identity = identity_of(run)
    for name in Identity.__struct_fields__:
        changed = msgspec.structs.replace(identity, **{name: 987})
        if name == "location":
            assert taken_up(run, changed) == identity
        else:
            with pytest.raises(RunDirectoryError, match="what differs"):
                taken_up(run, changed)


def cut(content: bytes) -> bytes:
    return content[:-1]


def changed(content: bytes) -> bytes:
    place = content.index(b"added", len(content) // 2)
    return content[:place] + b"adde_" + content[place + 5 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "from the lines of rows 58 to 60 on"),
        (changed, "from the lines of rows 31 to 33 on"),
        (lambda _: b"", "from the lines of rows 1 to 3 on"),
        (lambda content: b"\0" * len(content), "from the lines of rows 1 to 3 on"),
        (lambda content: content.replace(b"\n", b"\r\n"), "from the lines of rows 1 to 3 on"),
        (None, ": it is missing"),
    ],
)
def test_damaged_report_is_refused(run: Path, damage: Callable[[bytes], bytes] | None, said: str) -> None:
    """A report that is not what was committed is not touched; the sentence tells from which rows on."""
    identity, report = identity_of(run), run / REPORT
    if damage is None:
        report.unlink()
    else:
        report.write_bytes(damage(report.read_bytes()))
    left = report.read_bytes() if report.exists() else None
    with pytest.raises(RunDirectoryError) as caught:
        taken_up(run, identity)

    assert f"{report}: is not what the run wrote" in str(caught.value)
    assert f"{said}. Restore it from a backup, or start anew in another directory" in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE
    assert left == (report.read_bytes() if report.exists() else None)


def test_what_follows_the_last_committed_line_is_cut(run: Path) -> None:
    """Even whole lines: the journal decides."""
    before = (run / REPORT).read_bytes()
    (run / REPORT).write_bytes(before + before[:1000] + b"\0\0")
    taken_up(run, identity_of(run))

    assert (run / REPORT).read_bytes() == before


def test_report_that_is_no_file_is_one_sentence(run: Path) -> None:
    """Trouble with the disk is told as such."""
    identity = identity_of(run)
    (run / REPORT).unlink()
    (run / REPORT).mkdir()
    with pytest.raises(ImporterError, match=r"report\.jsonl"):
        taken_up(run, identity)


@pytest.mark.parametrize("left", [{REPORT}, {SUMMARY}, {REPORT, SUMMARY}])
@pytest.mark.parametrize("lost", ["missing", "empty", "cut to nothing but its mode"])
def test_lost_journal_is_never_begun_anew(run: Path, left: set[str], lost: str) -> None:
    """Without its journal, a run whose files are there is not silently sent again."""
    identity, state = identity_of(run), run / STATE
    for name in {REPORT, SUMMARY} - left:
        (run / name).unlink()
    state.unlink()
    if lost == "empty":
        state.touch()
    elif lost != "missing":
        with closing(sqlite3.connect(state)) as db:
            db.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(RunDirectoryError, match=r"state\.db") as caught:
        taken_up(run, identity)

    assert caught.value.exit_code is ExitCode.USAGE
    for name in left:
        assert (run / name).exists()


def damages(content: bytes) -> Sequence[tuple[str, bytes]]:
    """What may become of a file: cut, partly zero, partly anything, or something else altogether."""
    chance = random.Random(7)
    size, page = len(content), 4096
    found = [
        ("text", b"row,outcome\n" * 500),
        ("zeros", bytes(size)),
        ("noise", chance.randbytes(size)),
    ]
    lengths = [1, 15, 16, 99, 100, 101, 511, 512, 513, page - 1, page, page + 1, size - 1]
    found += [(f"cut to {length}", content[:length]) for length in lengths + chance.sample(range(1, size), 30)]
    for start in range(0, size, page):
        rest = content[start + page :]
        found.append((f"page {start // page} of zeros", content[:start] + bytes(page) + rest))
        found.append((f"page {start // page} of noise", content[:start] + chance.randbytes(page) + rest))
        found.append((f"page {start // page} missing", content[:start] + rest))
    for _ in range(100):
        start, length = chance.randrange(size), chance.choice([1, 2, 16, 200])
        noisy = content[:start] + chance.randbytes(length) + content[start + length :]
        found.append((f"{length} bytes of noise at {start}", noisy[:size]))
    return found


def test_damaged_journal_is_refused_or_harmless(run: Path, tmp_path: Path) -> None:
    """Whatever becomes of state.db: a sentence and exit 2, or nothing of the past is lost. Never a traceback."""
    identity = identity_of(run)
    whole = read_all(run, identity)
    content = (run / STATE).read_bytes()
    refused = 0
    for number, (what, damaged) in enumerate(damages(content)):
        copy = tmp_path / str(number)
        copy.mkdir()
        (copy / STATE).write_bytes(damaged)
        for name in (REPORT, SUMMARY):
            (copy / name).write_bytes((run / name).read_bytes())
        error: ImporterError | None = None
        try:
            found = read_all(copy, identity)
        except ImporterError as raised:
            error = raised
        if error is not None:
            refused += 1
            assert error.exit_code is ExitCode.USAGE, what
            assert "\n" not in str(error), what
        else:
            assert found[0] is not None, what
            assert len(found[1][0]) == len(whole[1][0]), what
            assert found[4] == whole[4], what
        for look in (status_of, lambda path: write_failed(path, None, tmp_path / "failed.csv")):
            with suppress(ImporterError):
                look(copy)

    assert refused > 60


def test_checksum_is_of_the_beginning(tmp_path: Path) -> None:
    """As much as is asked for, in pieces, or what there is."""
    content = random.Random(1).randbytes(3_000_000)
    (tmp_path / REPORT).write_bytes(content)

    assert checksum_of(tmp_path / REPORT, 2_345_678) == zlib.crc32(content[:2_345_678])
    assert checksum_of(tmp_path / REPORT, 9_000_000) == zlib.crc32(content)
    assert checksum_of(tmp_path / "none", 0) == 0
    with pytest.raises(IncompleteError, match="none: No such file"):
        checksum_of(tmp_path / "none", 1)


def test_first_changed_row_is_found(tmp_path: Path) -> None:
    """The input's batch is compared with the report's lines, rows that were not sent included."""
    run = finished_run(tmp_path, [sid(1), "junk", sid(2), sid(3)])
    with closing(History(run / STATE)) as history:
        (done,) = history.done()

    def changed_in(**cells: str | None) -> int:
        rows = {1: sid(1), 3: sid(2), 4: sid(3)} | {int(row[1:]): cell for row, cell in cells.items()}
        sent = {row: cell for row, cell in sorted(rows.items()) if cell is not None}
        unsent = [ContactResult(row, "junk", Outcome.INVALID, 1, 0) for row in range(1, 5) if row not in sent]
        return changed_row(run / REPORT, Batch(1, 1, 4, list(sent), list(sent.values()), unsent), done)

    assert changed_in(r3=sid(9)) == 3
    assert changed_in(r2=sid(9)) == 2
    assert changed_in(r1=None) == 1
    (run / REPORT).unlink()
    with pytest.raises(InputError, match="cannot be compared with the input"):
        changed_in()


@pytest.mark.parametrize("command", ["status", "failed", "verify"])
@pytest.mark.parametrize("damaged", [b"", b"not a database\n" * 999, b"SQLite format 3\0".ljust(4096, b"\1")])
def test_commands_say_so_in_a_sentence(
    run: Path, command: str, damaged: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is asked about a run whose journal is damaged, a sentence says so; `verify` believes no report."""
    capsys.readouterr()
    (run / STATE).write_bytes(damaged)
    monkeypatch.setattr("sys.argv", ["importer", command, str(run)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr()

    if command == "verify":
        assert caught.value.code == 1
        assert said.out.startswith(f"{run / STATE}: ")
        return
    assert caught.value.code == ExitCode.USAGE
    assert said.out == ""
    assert said.err.startswith(f"importer: {run / STATE}: ")
    assert said.err.count("\n") == 1
