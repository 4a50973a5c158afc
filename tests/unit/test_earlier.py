"""Unfinished runs of earlier nights: told of, or finished before today's, each as it was begun."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from importer.directories import Begun, beside, unfinished
from importer.earlier import exit_code_of_all, input_state, look_back, reopened, run_all
from importer.errors import IncompleteError
from importer.inputs import Input
from importer.job import Job, identify, open_source
from importer.recovery import STATE, DirectoryLock
from importer.settings import Credentials, Settings
from importer.signals import signals_deferred
from tests.unit.fakes import LIST
from tests.unit.runs import finished_run, sid


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start as from a command line."""
    monkeypatch.setattr("sys.argv", ["importer", "run", "new.csv", "--list", LIST])


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Job]:
    """Today's job: other contents than those of the runs before."""
    path = tmp_path / "new.csv"
    path.write_text("contact_sid\n" + f"{sid(99)}\n")
    settings = Settings.model_validate({"delivery": {"batch_size": 500}, "input": {"delimiter": ","}})
    with closing(Input(str(path))) as source:
        batches = open_source(source, settings.input, 500)
        credentials = Credentials(api_key=SecretStr("key"), api_token=SecretStr("token"))
        identity = identify(source, batches, LIST, settings)
        yield Job(batches, identity, tmp_path / "runs" / "today", settings, "account", credentials)


def unfinished_run(folder: Path, name: str) -> Path:
    """A run that is not complete, in runs/<name>, of the input <name>/in.csv."""
    (folder / name).mkdir(parents=True)
    cells = [*(sid(number) for number in range(5)), name]
    directory = finished_run(folder / name, cells, batch_size=2, is_complete=False)
    (folder / "runs").mkdir(exist_ok=True)
    return directory.rename(folder / "runs" / name)


def found_in(folder: Path) -> Begun:
    (found,) = unfinished(beside(folder / "runs" / "today"), LIST)
    assert isinstance(found, Begun)
    return found


def told_by(job: Job, *, finish: bool = False) -> tuple[list[str], list[Any]]:
    """The names of the runs to be finished, and the log's events."""
    with capture_logs() as events:
        found = look_back(beside(job.directory), LIST, finish=finish)
    return [each.directory.name for each in found], list(events)


def test_unfinished_run_is_reported(tmp_path: Path, today: Job) -> None:
    """By default an unfinished run is told of: how far it came, and the command that finishes it."""
    directory = unfinished_run(tmp_path, "night")

    found, events = told_by(today)

    assert found == []
    assert events == [
        {
            "event": "unfinished_run_found",
            "log_level": "warning",
            "directory": str(directory),
            "input": str(tmp_path / "night" / "in.csv"),
            "rows_done": 6,
            "exit_code": None,
            "error": None,
            "next": f"importer run new.csv --list {LIST} --unfinished finish",
        }
    ]


def test_unfinished_runs_are_finished_oldest_first(tmp_path: Path, today: Job) -> None:
    """Where that is wanted, they are to be finished in the order in which they were begun."""
    for name in ("c", "a", "b"):
        unfinished_run(tmp_path, name)

    assert told_by(today, finish=True) == (["c", "a", "b"], [])


def _change(path: Path) -> None:
    path.write_text(path.read_text().replace("0000", "1111", 1))


def _grow(path: Path) -> None:
    path.write_text(path.read_text() + f"{sid(7)}\n")


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _empty(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize("finish", [False, True])
@pytest.mark.parametrize(
    ("change", "state"),
    [
        (Path.unlink, "gone"),
        (_change, "changed"),
        (_grow, "changed"),
        (_replace_by_pipe, "gone"),
        (_empty, "not readable"),
    ],
)
def test_run_whose_input_is_not_what_it_was_is_reported(
    tmp_path: Path, today: Job, change: Callable[[Path], None], state: str, finish: bool
) -> None:
    """Without its input a run cannot be finished: it is told of, with what is left to look at."""
    directory = unfinished_run(tmp_path, "night")
    change(tmp_path / "night" / "in.csv")

    found, (event,) = told_by(today, finish=finish)

    assert (found, event["input_is"], event["next"]) == ([], state, f"importer status {directory}")


def test_stream_cannot_be_read_again(tmp_path: Path) -> None:
    """What came through a pipe is gone, wherever it was read."""
    unfinished_run(tmp_path, "night")
    identity = found_in(tmp_path).identity

    assert input_state(identity) is None
    assert input_state(msgspec.structs.replace(identity, location="-")) == "a stream"
    assert input_state(msgspec.structs.replace(identity, size_bytes=None)) == "a stream"


def test_damaged_neighbour_is_reported(tmp_path: Path, today: Job) -> None:
    """A run that cannot be read is told of, and ends nothing."""
    (unfinished_run(tmp_path, "night") / STATE).write_bytes(b"garbage " * 1000)

    found, (event,) = told_by(today, finish=True)

    assert (found, event["event"]) == ([], "run_unreadable")
    assert "damaged" in event["error"]


def test_unfinished_run_is_reopened_as_it_was_begun(tmp_path: Path, today: Job) -> None:
    """What shapes batches is that of its beginning; all else is today's."""
    directory = unfinished_run(tmp_path, "night")
    found = found_in(tmp_path)

    with reopened(found, today) as job:
        batches = [batch.sids for batch in job.source]

    assert [len(sids) for sids in batches] == [2, 2, 1]
    assert (job.directory, job.identity, job.account_sid) == (directory, found.identity, "account")
    assert job.settings == Settings.model_validate({"delivery": {"batch_size": 2}, "input": {"delimiter": ","}})
    with DirectoryLock(directory):
        pass


def codes_of(found: list[Begun], job: Job, runs: dict[str, int | Exception], *, stop_in: str = "") -> Any:
    """Run them all with made-up ends; gives the names of those that were run, and what came of it."""
    ran: list[str] = []

    async def run_one(job: Job) -> int:
        ran.append(job.directory.name)
        end = runs.get(job.directory.name, 0)
        if isinstance(end, Exception):
            raise end
        return end

    result: object = None
    with suppress(IncompleteError):
        result = asyncio.run(run_all(found, job, run_one, lambda: stop_in in ran))
    return ran, result


@pytest.mark.parametrize(
    ("today_ends", "night_ends", "expected"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (0, 1, 1),
        (0, 5, 5),
        (1, 5, 5),
        (3, 5, 3),
        (4, 0, 4),
        (5, 3, 5),
        (0, IncompleteError("the disk"), 0),
    ],
)
def test_exit_code_is_todays_unless_that_hides_something(
    tmp_path: Path, today: Job, today_ends: int, night_ends: int | Exception, expected: int
) -> None:
    """Today's end is told if it is bad, else the worst of all; what cannot be gone on with is only told of."""
    unfinished_run(tmp_path, "night")

    with capture_logs() as events:
        ended = codes_of([found_in(tmp_path)], today, {"night": night_ends, "today": today_ends})

    assert ended == (["night", "today"], expected)
    assert [event["refused"] for event in events] == (["the disk"] if isinstance(night_ends, Exception) else [])


def test_exit_code_without_earlier_runs() -> None:
    """Most nights there is nothing but today's run."""
    assert [exit_code_of_all(code, []) for code in range(6)] == list(range(6))


@pytest.mark.parametrize("night_ends", [5, 0, IncompleteError("Stopped by SIGTERM")])
def test_stop_ends_all(tmp_path: Path, today: Job, night_ends: int | Exception) -> None:
    """Once a signal was heard no other run begins, and the exit code says that something is left to do."""
    unfinished_run(tmp_path, "night")

    ran, code = codes_of([found_in(tmp_path)], today, {"night": night_ends}, stop_in="night")

    assert (ran, code) == (["night"], None if isinstance(night_ends, Exception) else 5)


def test_input_that_vanishes_meanwhile_is_reported(tmp_path: Path, today: Job) -> None:
    """Between the look and its turn a run's input may go: it is told of, and today's run goes on."""
    unfinished_run(tmp_path, "night")
    found = found_in(tmp_path)
    (tmp_path / "night" / "in.csv").unlink()

    with capture_logs() as events:
        ended = codes_of([found], today, {})

    assert ended == (["today"], 0)
    assert [event["input_is"] for event in events] == ["gone"]


def test_resumed_run_of_another_date_is_told(tmp_path: Path, today: Job) -> None:
    """That today's directory is not that of today's date is said."""
    place = msgspec.structs.replace(beside(tmp_path / "runs" / "22"), instead_of=tmp_path / "runs" / "23")
    with capture_logs() as events:
        look_back(place, LIST, finish=False)

    assert [(event["event"], event["directory"]) for event in events] == [
        ("run_of_another_date_resumed", str(tmp_path / "runs" / "22"))
    ]


def test_signals_wait_for_the_look_back() -> None:
    """A signal is not lost among the errors that are passed over: it comes when the look back is over."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with signals_deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            while_looking = list(heard)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert (while_looking, heard) == ([], [signal.SIGTERM])
