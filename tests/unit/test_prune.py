"""Old runs go; what is young, unfinished, under way or no run at all stays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from importer.errors import RunDirectoryError, SettingsError
from importer.history import History
from importer.prune import parse_age, prune
from importer.recovery import STATE, DirectoryLock
from importer.state import open_for_writing
from tests.unit.runs import finished_run, sid

DAY = 86_400.0


def run_at(directory: Path, *, is_complete: bool = True) -> Path:
    """A run that ends now."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    finished_run(directory.parent, [sid(number) for number in range(7)], is_complete=is_complete).rename(directory)
    (directory.parent / "in.csv").unlink()
    return directory


def end_of(directory: Path) -> float:
    with closing(History(directory / STATE)) as history:
        return max(done.at for done in history.done())


def pruned(folder: Path, *, days: float = 31, incomplete: bool = False, dry_run: bool = False) -> list[str]:
    """Prune what is older than 30 days, so many days after the youngest run has ended."""
    now = max((end_of(state.parent) for state in folder.rglob(STATE) if is_readable(state)), default=0) + days * DAY
    return list(prune(folder, age_seconds=30 * DAY, incomplete=incomplete, dry_run=dry_run, now=now))


def is_readable(state: Path) -> bool:
    return state.is_file() and state.read_bytes()[:6] == b"SQLite"


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("30d", 720), (" 8w ", 1344), ("0d", 0)])
def test_ages(text: str, hours: int) -> None:
    """An age is a number of hours, days or weeks."""
    assert hours * 3600 == parse_age(text)


@pytest.mark.parametrize("text", ["", "30", "d", "30m", "-1d", "1.5d", "30d 2h", "9999999d", "٣d\n"])
def test_bad_age_is_one_sentence(text: str) -> None:
    """Anything else is refused, with what an age looks like."""
    with pytest.raises(SettingsError, match="no age; give hours, days or weeks"):
        parse_age(text)


def test_old_run_is_removed(tmp_path: Path) -> None:
    """A complete run that ended long ago goes as a whole; nothing beside it is touched."""
    directory = run_at(tmp_path / "runs" / "old")
    (directory / "summary.tmp").touch()
    (tmp_path / "runs" / "notes.txt").touch()

    lines = pruned(tmp_path / "runs")

    assert [line.split(" (ended ")[0] for line in lines] == [f"removed {directory}"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["notes.txt"]


def test_young_run_stays(tmp_path: Path) -> None:
    """A run that ended within the age stays, and nothing is said of it."""
    directory = run_at(tmp_path / "young")

    assert pruned(tmp_path, days=29) == []
    assert (directory / "report.jsonl").exists()


def test_dry_run_removes_nothing(tmp_path: Path) -> None:
    """A trial says what would go, and leaves everything as it is."""
    directory = run_at(tmp_path / "old")
    before = set(directory.iterdir())

    lines = pruned(tmp_path, dry_run=True)

    assert [line.split(" (ended ")[0] for line in lines] == [f"would remove {directory}"]
    assert before <= set(directory.iterdir())


def test_incomplete_run_stays_unless_asked_for(tmp_path: Path) -> None:
    """A run that is not complete can still be finished: it goes only where that is said."""
    directory = run_at(tmp_path / "killed", is_complete=False)

    kept = pruned(tmp_path)
    stood = directory.exists()
    removed = pruned(tmp_path, incomplete=True)

    assert (kept, stood) == ([f"kept {directory}: not complete; --incomplete removes it too"], True)
    assert removed[0].startswith(f"removed {directory} (not complete, last at work ")
    assert not directory.exists()


def test_run_that_never_began_is_as_old_as_its_file(tmp_path: Path) -> None:
    """Of a process that died at once there is no time but that of its file."""
    (tmp_path / "dead").mkdir()
    open_for_writing(tmp_path / "dead" / STATE).close()
    changed = (tmp_path / "dead" / STATE).stat().st_mtime

    young = list(prune(tmp_path, age_seconds=DAY, incomplete=True, now=changed + DAY - 1))
    old = list(prune(tmp_path, age_seconds=DAY, incomplete=True, now=changed + DAY + 1))

    assert (young, len(old)) == ([], 1)
    assert not (tmp_path / "dead").exists()


def test_run_under_way_stays(tmp_path: Path) -> None:
    """However old: at what a process is at work on, nobody else has a hand."""
    directory = run_at(tmp_path / "busy", is_complete=False)

    with DirectoryLock(directory):
        lines = pruned(tmp_path, incomplete=True)

    assert lines == [f"kept {directory}: under way"]
    assert (directory / "report.jsonl").exists()


def test_run_begun_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that begins between the look and the removal keeps its run."""
    directory = run_at(tmp_path / "old")
    monkeypatch.setattr("importer.prune.is_running", lambda _: False)

    with DirectoryLock(directory):
        lines = pruned(tmp_path)

    assert len(lines) == 1
    assert "another process is at work" in lines[0]
    assert (directory / "report.jsonl").exists()


def test_what_is_not_of_the_run_stays(tmp_path: Path) -> None:
    """A file that no run writes is kept, with its directory, and that is said."""
    directory = run_at(tmp_path / "old")
    (directory / "notes.txt").write_text("mine")
    (directory / "summary.tmp").mkdir()

    lines = pruned(tmp_path)

    assert lines[0].endswith("kept what is not of it: notes.txt, summary.tmp")
    assert sorted(path.name for path in directory.iterdir()) == ["notes.txt", "summary.tmp"]
    assert list(prune(tmp_path, age_seconds=0, now=1e12)) == []


def _foreign_database(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    open_for_writing(directory / STATE).executescript("PRAGMA application_id = 1; CREATE TABLE precious (a);")


def _garbage(directory: Path) -> None:
    (directory / STATE).write_bytes(b"garbage " * 1000)


@pytest.mark.parametrize(("change", "said"), [(_foreign_database, "not the journal of a run"), (_garbage, "damaged")])
def test_what_is_no_run_stays(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    """A state.db of somebody else, or one that cannot be read, is never removed."""
    directory = run_at(tmp_path / "foreign")
    change(directory)
    before = sorted(directory.iterdir())

    lines = list(prune(tmp_path, age_seconds=0, incomplete=True, now=1e12))

    assert len(lines) == 1
    assert said in lines[0]
    assert set(before) <= set(directory.iterdir())


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither a link to a run nor a run whose journal or lock is a link is touched; a linked report stays."""
    elsewhere = run_at(tmp_path / "elsewhere" / "run")
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "link").symlink_to(elsewhere)
    for name in (STATE, "lock"):
        directory = run_at(runs / f"linked-{name}")
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(elsewhere / name)
    own = run_at(runs / "own")
    (own / "report.jsonl").unlink()
    (own / "report.jsonl").symlink_to(elsewhere / "report.jsonl")

    lines = list(prune(runs, age_seconds=0, now=1e12))

    assert [line.split(" (ended ")[0] for line in lines] == [f"removed {own}"]
    assert (elsewhere / "report.jsonl").stat().st_size > 0
    assert sorted(path.name for path in runs.iterdir()) == ["link", "linked-lock", "linked-state.db"]


def test_runs_below_their_dates_go_with_them(tmp_path: Path) -> None:
    """Where each night has a directory, it goes once it is empty; the one that was named stays."""
    run_at(tmp_path / "nightly" / "2026-10-01" / "a")
    run_at(tmp_path / "nightly" / "2026-10-02" / "a")
    (tmp_path / "nightly" / "2026-10-02" / "notes.txt").touch()

    assert len(pruned(tmp_path / "nightly")) == 2
    assert [path.name for path in (tmp_path / "nightly").iterdir()] == ["2026-10-02"]


def test_directory_of_a_run_is_not_its_parent(tmp_path: Path) -> None:
    """A run itself is no place to look for runs, nor is a directory that is not there."""
    directory = run_at(tmp_path / "run")

    with pytest.raises(RunDirectoryError, match="is itself the directory of a run"):
        pruned(directory)
    with pytest.raises(RunDirectoryError, match="cannot be read: No such file"):
        list(prune(tmp_path / "missing", age_seconds=0, now=0))


def test_log_of_a_killed_run_goes_with_it(tmp_path: Path) -> None:
    """What SQLite keeps beside its file is the run's own."""
    directory = run_at(tmp_path / "old")
    with closing(open_for_writing(directory / STATE)) as db:
        db.execute("INSERT INTO start (at) VALUES (1)")
        assert (directory / "state.db-wal").stat().st_size

        list(prune(tmp_path, age_seconds=0, now=1e12))

    assert not directory.exists()
