"""What a run's directory is called, and which runs lie beside it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from importer.directories import Begun, Place, beside, expand, is_complete, locate, recent_starts, today, unfinished
from importer.errors import ImporterError, SettingsError
from importer.inputs import Input
from importer.job import identify, open_source
from importer.journal import Journal
from importer.model import Batch, Tally
from importer.recovery import STATE, DirectoryLock
from importer.settings import Settings
from importer.state import Identity
from importer.summary import summarise
from tests.unit.fakes import LIST
from tests.unit.runs import IDENTITY, finished_run, sid

TODAY = "2026-11-23"
CELLS = [sid(number) for number in range(1, 10)]
OTHER_CELLS = [sid(number) for number in range(10, 30)]


@pytest.fixture
def contacts(tmp_path: Path) -> Iterator[Input]:
    """The input of all the runs here."""
    path = tmp_path / "contacts.csv"
    path.write_text("contact_sid\n" + "".join(f"{cell}\n" for cell in CELLS))
    with closing(Input(str(path))) as source:
        yield source


def run_at(directory: Path, cells: Sequence[str] = OTHER_CELLS, *, is_complete: bool = False) -> Path:
    """A run of another input than ours."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    finished_run(directory.parent, cells, is_complete=is_complete).rename(directory)
    (directory.parent / "in.csv").unlink()
    return directory


def our_run_at(directory: Path, *, is_complete: bool = False) -> Path:
    """A run of our input."""
    return run_at(directory, CELLS, is_complete=is_complete)


def begun_at(directory: Path, identity: Identity = IDENTITY) -> Path:
    """A run that has done nothing yet."""
    directory.mkdir(parents=True)
    asyncio.run(_begin(directory, identity))
    return directory


def identity_of(source: Input, list_sid: str = LIST) -> Identity:
    settings = Settings()
    return identify(source, open_source(source, settings.input, 3), list_sid, settings)


async def _begin(directory: Path, identity: Identity) -> None:
    journal = Journal(directory / STATE)
    await journal.begin(identity)
    await journal.close()


def found_beside(place: Place) -> list[Path]:
    return [found.directory for found in unfinished(place, LIST) if isinstance(found, Begun)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("runs/plain", "runs/plain"),
        ("{date}", "2026-11-23"),
        ("/data/{stem}-{date}", "/data/contacts-2026-11-23"),
        ("nightly/{date}/{stem}-{date}", "nightly/2026-11-23/contacts-2026-11-23"),
    ],
)
def test_placeholders(pattern: str, expected: str) -> None:
    """Stem and date are put in wherever they stand, however often."""
    assert Path(expected) == expand(Path(pattern), "contacts", TODAY)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("runs/{day}", "unknown {day}"), ("runs/{}", "unknown {}"), ("a}b", "stray '}'"), ("a{{stem}", "stray '{'")],
)
def test_other_braces_are_refused(pattern: str, said: str) -> None:
    """A placeholder that does not exist, or a lonely brace, is a mistake, not a directory of that name."""
    with pytest.raises(SettingsError, match="--run-dir") as caught:
        expand(Path(pattern), "contacts", TODAY)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_date_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """The date is that of the clock on the wall, not that of Greenwich."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert today(datetime(2026, 11, 22, 19, 0, tzinfo=UTC)) == "2026-11-23"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("pattern", "home", "roots"),
    [
        ("runs/a", "runs", ["runs"]),
        ("a", ".", ["."]),
        ("runs/{stem}-{date}", "runs", ["runs"]),
        ("{date}", ".", ["."]),
        ("nightly/{stem}/{date}", "nightly", ["nightly/contacts"]),
        ("nightly/{date}/{stem}", "nightly", ["nightly/2026-11-23"]),
        ("/data", "/", ["/"]),
    ],
)
def test_home_is_above_all_that_differs(contacts: Input, pattern: str, home: str, roots: list[str]) -> None:
    """The home of the runs is the same every night, and those beside a run are looked for where they would be."""
    place = locate(Path(pattern), contacts, LIST, TODAY)

    assert (Path(home), [Path(root) for root in roots]) == (place.home, place.roots)


def test_home_of_the_working_directory(contacts: Input, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in the working directory itself has its neighbours beside that."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    assert tmp_path == locate(Path(), contacts, LIST, TODAY).home


def test_a_new_day_is_a_new_directory(contacts: Input, tmp_path: Path) -> None:
    """With no unfinished run of the same content, the directory is that of the date."""
    our_run_at(tmp_path / "runs" / "contacts-2026-11-21", is_complete=True)
    run_at(tmp_path / "runs" / "contacts-2026-11-22")  # of another content

    place = locate(tmp_path / "runs" / "{stem}-{date}", contacts, LIST, TODAY)

    assert (tmp_path / "runs" / "contacts-2026-11-23", None) == (place.directory, place.instead_of)


@pytest.mark.parametrize("pattern", ["{stem}-{date}", "{date}/{stem}", "{date}/x/{stem}-{date}"])
def test_run_over_midnight_goes_on_where_it_was(contacts: Input, tmp_path: Path, pattern: str) -> None:
    """Killed before midnight, started again after it: the newest unfinished run of the same content goes on."""
    for date in ("2026-11-20", "2026-11-22"):
        our_run_at(expand(tmp_path / "runs" / pattern, "contacts", date))
    (tmp_path / "runs" / "contacts-2026-11-22x").mkdir()

    place = locate(tmp_path / "runs" / pattern, contacts, LIST, TODAY)

    assert expand(tmp_path / "runs" / pattern, "contacts", "2026-11-22") == place.directory
    assert expand(tmp_path / "runs" / pattern, "contacts", TODAY) == place.instead_of


def test_run_of_another_list_is_another_run(contacts: Input, tmp_path: Path) -> None:
    """The same content for another list has nothing to do with it."""
    begun_at(tmp_path / "contacts-2026-11-22", identity_of(contacts, "other"))

    assert locate(tmp_path / "{stem}-{date}", contacts, LIST, TODAY).instead_of is None


def test_run_of_today_comes_first(contacts: Input, tmp_path: Path) -> None:
    """What was begun today goes on, or is complete, whatever lies there of other days."""
    our_run_at(tmp_path / "contacts-2026-11-22")
    run_at(tmp_path / "contacts-2026-11-23")

    assert locate(tmp_path / "{stem}-{date}", contacts, LIST, TODAY).instead_of is None


def test_stream_is_not_taken_for_last_nights(tmp_path: Path) -> None:
    """The first bytes of a stream, which are all that is known of it, may be the same every night."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"contact_sid\n")
    os.close(write_end)
    with closing(Input(f"/dev/fd/{read_end}")) as stream:
        os.close(read_end)
        begun_at(tmp_path / "x-2026-11-22", identity_of(stream))

        assert locate(tmp_path / "x-{date}", stream, LIST, TODAY).instead_of is None


def test_damaged_run_of_another_day_is_passed_over(contacts: Input, tmp_path: Path) -> None:
    """A directory whose journal cannot be read keeps nobody from a new one."""
    our_run_at(tmp_path / "contacts-2026-11-21")
    (our_run_at(tmp_path / "contacts-2026-11-22") / STATE).write_bytes(b"garbage " * 1000)

    place = locate(tmp_path / "{stem}-{date}", contacts, LIST, TODAY)

    assert tmp_path / "contacts-2026-11-21" == place.directory


def test_unfinished_runs_are_found(contacts: Input, tmp_path: Path) -> None:
    """Of all that lies beside a run, the other unfinished ones into the same list are found, nothing else."""
    runs = tmp_path / "runs"
    run_at(runs / "unfinished")
    run_at(runs / "complete", is_complete=True)
    run_at(runs / "complete-by-its-journal", is_complete=True).joinpath("summary.json").unlink()
    begun_at(runs / "of-another-list", identity_of(contacts, "other"))
    our_run_at(runs / "today")
    (runs / "link").symlink_to(runs / "unfinished")
    (runs / "foreign").mkdir()
    (runs / "foreign" / "report.jsonl").touch()
    (runs / "a file").touch()
    (runs / "died-before-it-began").mkdir()
    Journal(runs / "died-before-it-began" / STATE)._db.close()

    assert [runs / "unfinished"] == found_beside(beside(runs / "today"))


def test_run_under_way_is_not_unfinished(tmp_path: Path) -> None:
    """What a process is at work on is nobody else's business."""
    directory = run_at(tmp_path / "runs" / "under-way")

    with DirectoryLock(directory):
        while_running = found_beside(beside(tmp_path / "runs" / "today"))

    assert ([], [directory]) == (while_running, found_beside(beside(tmp_path / "runs" / "today")))


def test_runs_of_other_dates_are_beside(contacts: Input, tmp_path: Path) -> None:
    """Where the date is a directory above the runs, those of all dates are looked through."""
    old = run_at(tmp_path / "nightly" / "2026-11-21" / "contacts")
    other = run_at(tmp_path / "nightly" / "2026-11-22" / "more")
    run_at(tmp_path / "nightly" / "drafts" / "contacts")

    place = locate(tmp_path / "nightly" / "{date}" / "{stem}", contacts, LIST, TODAY)

    assert {old, other} == set(found_beside(place))


@pytest.mark.parametrize("content", [b"", b"garbage " * 1000], ids=["empty", "garbage"])
def test_damaged_neighbour_is_an_error_to_tell(tmp_path: Path, content: bytes) -> None:
    """A journal that cannot be read is told of, and the others are found all the same."""
    runs = tmp_path / "runs"
    (run_at(runs / "damaged") / STATE).write_bytes(content)
    sound = run_at(runs / "sound")

    errors = [found for found in unfinished(beside(runs / "today"), LIST) if isinstance(found, ImporterError)]

    assert ["damaged" in str(error) for error in errors] == [True]
    assert [sound] == found_beside(beside(runs / "today"))


def test_neighbours_that_are_not_ours_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that may not be looked into, and a parent that is not there, are passed over."""

    def refuse(_: Path) -> bool:
        raise PermissionError

    (tmp_path / "lost+found").mkdir()
    monkeypatch.setattr(Path, "is_file", refuse)

    assert found_beside(beside(tmp_path / "today")) == []
    assert found_beside(beside(tmp_path / "missing" / "today")) == []


def test_many_complete_runs_cost_no_journal_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a summary calls complete is believed: thousands of old runs are looked through quickly."""
    for number in range(3):
        run_at(tmp_path / f"run-{number}", is_complete=True)
    opened: list[Path] = []
    monkeypatch.setattr("importer.directories.History", opened.append)

    assert found_beside(beside(tmp_path / "today")) == []
    assert opened == []


def test_complete_run(tmp_path: Path) -> None:
    """A run is complete if its journal says so."""
    complete = run_at(tmp_path / "complete", is_complete=True)
    damaged = run_at(tmp_path / "damaged", is_complete=True)
    (damaged / STATE).write_bytes(b"garbage " * 1000)

    states = [is_complete(each) for each in (complete, run_at(tmp_path / "begun"), damaged, tmp_path / "missing")]

    assert states == [True, False, False, False]


def test_unfinished_run_tells_what_it_is_of(tmp_path: Path) -> None:
    """What is found has the identity that its journal has."""
    begun_at(tmp_path / "run")

    found = list(unfinished(beside(tmp_path / "today"), IDENTITY.list_sid))

    assert [each.identity for each in found if isinstance(each, Begun)] == [IDENTITY]


async def _send(directory: Path, *starts: float) -> None:
    times = iter(starts)
    journal = Journal(directory / STATE, wall_clock=lambda: next(times))
    await journal.begin(IDENTITY)
    tally = Tally()
    for _ in starts:
        tally.requests += 1
        await journal.intend(Batch(1, 1, 1, [1], [sid(1)]), tally)
    await journal.close()


def sent_at(directory: Path, *starts: float, ended: float, quota: float = 30) -> Path:
    """A run that sent requests at these times, and ended."""
    directory.mkdir()
    asyncio.run(_send(directory, *starts))
    settings = {"delivery": {"requests_per_minute": quota}}
    summary = summarise(
        Tally(), location="in.csv", list_sid=LIST, settings=Settings.model_validate(settings).model_dump(mode="json")
    )
    (directory / "summary.json").write_bytes(msgspec.json.encode(summary))
    os.utime(directory / "summary.json", (ended, ended))
    return directory


def test_requests_of_other_runs_are_remembered(tmp_path: Path) -> None:
    """The quota's minute may reach back into runs that have ended, as far as they had the same quota."""
    for name, at in (("first", 1_000.0), ("second", 1_010.0), ("long-ago", 800.0), ("own", 1_015.0)):
        sent_at(tmp_path / name, at, at + 1, ended=at + 2)
    sent_at(tmp_path / "of-another-quota", 1_005.0, ended=1_020.0, quota=1_000)
    under_way = sent_at(tmp_path / "under-way", 1_005.0, ended=1_020.0)
    (sent_at(tmp_path / "damaged", 1_005.0, ended=1_020.0) / STATE).write_bytes(b"garbage " * 1000)

    with DirectoryLock(under_way):
        starts = recent_starts(beside(tmp_path / "own"), tmp_path / "own", Settings(), now=1_020.0)

    assert sorted(starts) == [1_000.0, 1_001.0, 1_010.0, 1_011.0]
