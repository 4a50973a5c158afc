"""The importer dies at every boundary of the protocol, one after the other, and the same command keeps the promise."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from importer import run
from importer.errors import IncompleteError, RunDirectoryError
from importer.exotel import Exotel
from importer.history import History
from importer.journal import Journal
from importer.model import ExitCode, Outcome
from importer.recovery import REPORT, STATE, recover
from importer.report import ReportFile
from importer.sandbox import Sandbox, Scenario
from importer.summary import Summary
from tests.integration.deaths import (
    LIST,
    Contents,
    Photo,
    Process,
    assert_promise,
    files_of,
    lines_of,
    run_job,
    settings_of,
)
from tests.integration.vendor import Fault, Standing, Vendor

LOG = "state.db-wal"
STEPS = {"begin", "intend", "request", "withdraw", "note", "append", "sync", "finish", "complete", "summary"}


@pytest.fixture(params=[4, pytest.param(1, marks=pytest.mark.soak)], ids="every {}th boundary".format)
def step(request: pytest.FixtureRequest) -> int:
    """How far apart the boundaries are that a test looks at: of those at which much the same is true, some will do."""
    step: int = request.param
    return step


def sid(number: int) -> str:
    return f"abcdef{number:026x}"


CONTENTS = Contents(
    [
        *map(sid, (1, 2, 3)),
        *("", sid(4), sid(5), sid(6)),
        *(sid(7), sid(7), sid(8), sid(9)),
        *("junk", sid(10), sid(11), sid(12)),
        *map(sid, (13, 14, 15)),
        sid(16),
    ],
    batch_size=3,
)
"""Six batches, with rows among them that are not sent."""

SHORT = Contents(CONTENTS.cells[:11], batch_size=3)
"""The first three of them."""


def vendor() -> Vendor:
    """Say no to some, leave one out, refuse a batch as a whole, lose answers, be busy and out of reach for a while."""
    return Vendor(
        {sid(2): Standing.MEMBER, sid(5): Standing.REFUSED, sid(8): Standing.POISON},
        {
            sid(4): [Fault.ITEM_THROTTLED],
            sid(6): [Fault.UNNAMED],
            sid(9): [Fault.ITEM_THROTTLED],
            sid(10): [Fault.LOST_AFTER, Fault.LOST_BEFORE],
            sid(13): [Fault.UNREACHED],
            sid(14): [Fault.THROTTLED],
        },
    )


def photographs(folder: Path, world: Vendor, **delivery: Any) -> list[Photo]:
    """Let a run live to its end, and look at it at every boundary."""
    process = Process(folder / "first", CONTENTS, world).photographed()
    summary = process.live_on(**delivery)
    assert_promise(process, summary, delivery.get("on_unknown", "resend"))
    return process.photos


def labels_of(photos: Sequence[Photo]) -> set[str]:
    """The boundaries that were seen."""
    return {label for photo in photos for label in photo.labels}


@contextmanager
def naming(*photos: Photo) -> Iterator[None]:
    """Tell which deaths a failure followed."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"died {', then '.join(' = '.join(photo.labels) for photo in photos)}")
        raise


@pytest.mark.parametrize("concurrency", [3, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("on_unknown", ["resend", "hold"])
def test_run_goes_on_after_a_death_at_any_boundary(folder: Path, on_unknown: str, concurrency: int) -> None:
    """Wherever the process dies, the same command ends as promised."""
    how: dict[str, Any] = {"on_unknown": on_unknown, "concurrency": concurrency}
    photos = photographs(folder, vendor(), **how)

    assert {f"{side} {step}" for side in ("before", "after") for step in STEPS} <= labels_of(photos)
    for number, photo in enumerate(photos):
        with naming(photo):
            process = photo.reborn(folder / str(number), CONTENTS)
            assert_promise(process, process.live(**how), on_unknown)


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("on_unknown", ["resend", "hold"])
def test_run_goes_on_after_a_death_after_a_death(folder: Path, on_unknown: str, concurrency: int, step: int) -> None:
    """The process that goes on may die as well, and the one after it: whatever was in doubt stays so until settled."""
    how: dict[str, Any] = {"on_unknown": on_unknown, "concurrency": concurrency}
    chance = random.Random(concurrency)

    for number, first in enumerate(photographs(folder, vendor(), **how)[:: 4 * step]):
        second_life = first.reborn(folder / f"{number}-2", CONTENTS).photographed()
        second_life.live(**how)
        second = chance.choice(second_life.photos)
        third_life = second.reborn(folder / f"{number}-3", CONTENTS).photographed()
        third_life.live(**how)
        third = chance.choice(third_life.photos)
        with naming(first, second, third):
            process = third.reborn(folder / f"{number}-4", CONTENTS)
            assert_promise(process, process.live(**how), on_unknown)


def test_run_goes_on_after_a_death_while_it_was_ending(folder: Path, step: int) -> None:
    """A run that the API refuses midway ends early; if it dies meanwhile, nothing is different."""
    world = vendor()
    world.faults[sid(7)] = [Fault.FORBIDDEN]
    photos = photographs(folder, world, concurrency=2)

    assert {"before save_counts", "after save_counts"} <= labels_of(photos)
    for number, photo in enumerate(photos[::step]):
        with naming(photo):
            process = photo.reborn(folder / str(number), CONTENTS)
            assert_promise(process, process.live_on(concurrency=2), "resend")


def test_stop_at_any_boundary_leaves_nothing_in_doubt(folder: Path, step: int) -> None:
    """A signal lets everything in flight finish: nothing is sent again, and hold has nothing to hold back."""
    faults = {sid(3): [Fault.UNREACHED], sid(4): [Fault.ITEM_THROTTLED], sid(7): [Fault.THROTTLED]}
    standings = {sid(2): Standing.MEMBER, sid(8): Standing.POISON}
    for look in count(1, step):
        process = Process(folder / str(look), SHORT, Vendor(standings, faults)).stopped_at(look)
        with suppress(IncompleteError):  # before it has begun
            process.live(on_unknown="hold", concurrency=2)
        if process.looks < look:
            break
        process.books = process.books.died(process.vendor)
        summary = process.live(on_unknown="hold", concurrency=2)

        assert_promise(process, summary, "hold")
        assert summary.outcomes[Outcome.UNKNOWN] == 0, f"stopped at {look}"
        assert set(process.vendor.processed.values()) == {1}
    assert look > 50


def test_contact_that_may_be_added_is_not_sent_once_the_run_is_told_to_hold(folder: Path, step: int) -> None:
    """A run begun under resend, and gone on with under hold, sends nothing that may have been processed."""
    for number, photo in enumerate(photographs(folder, vendor(), concurrency=1)[::step]):
        process = photo.reborn(folder / str(number), CONTENTS)
        processed = +process.vendor.processed
        process.books.most_resent = 0
        summary = process.live(on_unknown="hold")

        with naming(photo):
            assert summary.complete
            assert not process.books.sent_unheard
            assert processed == {sid: process.vendor.processed[sid] for sid in processed}


def unsynced(photos: Sequence[Photo]) -> Iterator[tuple[Photo, bytes, bytes]]:
    """Those at which the report may lose something with power: with what is sure of it, and the rest."""
    for photo in photos:
        report = photo.files.get(REPORT, b"")
        if len(report) > photo.synced_bytes:
            yield photo, report[: photo.synced_bytes], report[photo.synced_bytes :]


def torn(rest: bytes) -> Iterator[bytes]:
    """Whatever of a write a crash may leave: any beginning, with or without zeros in the place of what follows."""
    for length in range(len(rest) + 1):
        yield rest[:length]
        yield rest[:length].ljust(len(rest), b"\0")
    yield b"\0" * 4096
    yield random.Random(1).randbytes(len(rest))


def test_torn_end_of_the_report_is_cut(folder: Path) -> None:
    """Whatever a crash leaves of the last write, byte by byte: the report is cut back to what was committed."""
    photos = photographs(folder, vendor())
    cases = 0
    for number, (photo, sure, rest) in enumerate(unsynced(photos)):
        directory = folder / str(number)
        photo.restore(directory)
        with closing(History(directory / STATE)) as history:
            identity = history.identity
            assert identity is not None
            for end in torn(rest):
                (directory / REPORT).write_bytes(sure + end)
                recover(directory, identity, history)
                cases += 1

                assert (directory / REPORT).read_bytes() == sure
                assert history.report_end[0] == len(sure)
    assert cases > 2000


def test_run_goes_on_after_a_torn_write(folder: Path) -> None:
    """A few of the torn ends in full: the batch in flight is sent again, and all is as promised."""
    photos = photographs(folder, vendor())
    chance = random.Random(1)
    for number, (photo, sure, rest) in enumerate(unsynced(photos)):
        ends = [b"", rest[:1], rest[:-1], rest, *chance.sample(list(torn(rest)), 5)]
        for case, end in enumerate(ends):
            with naming(photo):
                process = photo.reborn(folder / f"{number}-{case}", CONTENTS, {REPORT: sure + end})
                assert_promise(process, process.live(), "resend")


def test_torn_commit_did_not_happen(folder: Path) -> None:
    """A commit of which only a part reached the disk: the journal is as it was before."""
    photos = photographs(folder, vendor())
    chance = random.Random(1)
    cases = 0
    for before, after in pairwise(photos):
        old, new = before.files.get(LOG, b""), after.files.get(LOG, b"")
        if new == old or not new.startswith(old):
            continue
        for cut in (len(new) - 1, chance.randrange(len(old), len(new))):
            for log in (new[:cut], new[:cut].ljust(len(new), b"\0")):
                with naming(before):
                    process = before.reborn(folder / str(cases), CONTENTS, {LOG: log})
                    assert_promise(process, process.live(), "resend")
                cases += 1
    assert cases > 100


class DeathError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("call", ["truncate", "fsync"])
def test_recovery_may_itself_be_interrupted(folder: Path, call: str) -> None:
    """A death before or after the torn end is cut, or before that is sure: the next process cuts it, and goes on."""

    def dies(*_: object) -> None:
        raise DeathError

    for number, (photo, sure, rest) in enumerate(unsynced(photographs(folder, vendor()))):
        torn_end = sure + rest[: len(rest) // 2]
        process = photo.reborn(folder / str(number), CONTENTS, {REPORT: torn_end})
        with closing(History(process.directory / STATE)) as history:
            assert history.identity is not None
            file_system = patch.object(os, "fsync", dies) if call == "fsync" else unwritable(dies)
            with file_system, pytest.raises(DeathError):
                recover(process.directory, history.identity, history)

        assert (process.directory / REPORT).read_bytes() == (sure if call == "fsync" else torn_end)
        assert_promise(process, process.live(), "resend")


@contextmanager
def unwritable(dies: Any) -> Iterator[None]:
    """Die at the moment at which a file is opened to be cut."""
    opened = Path.open

    def guarded(path: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        return dies() if "+" in mode else opened(path, mode, *arguments, **more)

    with patch.object(Path, "open", guarded):
        yield


def test_committed_part_of_the_report_is_never_cut(folder: Path) -> None:
    """A report that has lost or changed a committed byte, wherever, is refused and left as it is."""
    last = photographs(folder, vendor())[-1]
    report = last.files[REPORT]
    directory = folder / "damaged"
    last.restore(directory)
    with closing(History(directory / STATE)) as history:
        identity = history.identity
        assert identity is not None
        for place in range(0, len(report), 7):
            for damaged in (report[:place], report[:place] + bytes([report[place] ^ 1]) + report[place + 1 :]):
                (directory / REPORT).write_bytes(damaged)
                with pytest.raises(RunDirectoryError, match="is not what the run wrote, from the lines of rows"):
                    recover(directory, identity, history)

                assert (directory / REPORT).read_bytes() == damaged


def test_complete_run_is_left_alone(folder: Path) -> None:
    """The same command for a complete run sends nothing, and gives the run's own exit code."""
    last = photographs(folder, vendor())[-1]
    process = last.reborn(folder / "again", CONTENTS)
    summary = process.live()

    assert summary.exit_code is ExitCode.SOME_NOT_IN_LIST
    assert process.vendor.sent == last.vendor.sent
    assert files_of(process.directory)[REPORT] == last.files[REPORT]


class Mortal:
    """Counts the steps of a process with threads and sockets, and lets it die at one of them."""

    def __init__(self, directory: Path, last_step: int | None) -> None:
        self.directory = directory
        self.steps = 0
        self.left: dict[str, bytes] | None = None
        self._last_step = last_step

    def step(self) -> None:
        """Count, or die. After its death no part does anything any more."""
        self.steps += 1
        if self.steps == self._last_step:
            self.left = files_of(self.directory)
        if self.left is not None:
            raise DeathError

    def part(self, kind: type[Any], *names: str) -> type[Any]:
        """A part that dies with the process."""

        def mortal(name: str) -> Any:
            original = getattr(kind, name)

            async def method(part: Any, *arguments: Any) -> Any:
                self.step()
                result = await original(part, *arguments)
                self.step()
                return result

            return method

        return type(kind.__name__, (kind,), {name: mortal(name) for name in names})


async def lived(directory: Path, contents: Contents, url: str, last_step: int | None) -> tuple[Mortal, Summary | None]:
    """Let a process with real threads and sockets live until that step."""
    mortal = Mortal(directory, last_step)
    with (
        patch.object(run, "Journal", mortal.part(Journal, "begin", "intend", "withdraw", "note", "finish", "complete")),
        patch.object(run, "ReportFile", mortal.part(ReportFile, "append", "sync")),
        patch.object(run, "Exotel", mortal.part(Exotel, "add_contacts")),
    ):
        try:
            summary = await run_job(directory, contents, settings_of(contents, base_url=url, concurrency=3))
        except (DeathError, BaseExceptionGroup):
            assert mortal.left is not None
            summary = None
    return mortal, summary


async def test_run_against_the_sandbox_goes_on_after_any_death(folder: Path) -> None:
    """With real threads, sockets and answers: a process dies, the next one too, and the third one ends as promised."""
    contents = Contents([f"{number:032x}" for number in range(1, 61)], batch_size=6)
    scenario = Scenario.from_text("""
        population: {member: 0.1, unknown: 0.1}
        faults:
          - {requests: 2, status: 429, headers: {Retry-After: 0}}
    """)
    whole, summary = await lived_in(folder / "whole", contents, scenario, [None])

    assert summary is not None
    for last_step in range(1, whole, 5):
        _, summary = await lived_in(folder / str(last_step), contents, scenario, [last_step, last_step + 7, None])
        assert summary is not None


async def lived_in(
    directory: Path, contents: Contents, scenario: Scenario, deaths: Sequence[int | None]
) -> tuple[int, Summary | None]:
    """Let one process after the other die in a sandbox, and check what the last one says."""
    sandbox = Sandbox(scenario)
    steps = 0
    async with sandbox.serve() as url:
        for life, last_step in enumerate(deaths):
            mortal, summary = await lived(directory, contents, url, last_step)
            steps += mortal.steps
            if mortal.left is None:
                break
            heir = directory.with_name(f"{directory.name}-{life}")
            heir.mkdir()
            for name, content in mortal.left.items():
                (heir / name).write_bytes(content)
            directory = heir
    assert summary is not None
    ledger = sandbox.ledger.snapshot()["lists"][LIST]
    lines = lines_of(directory)

    assert sorted(line["row"] for line in lines) == list(range(1, len(contents.cells) + 1))
    assert ledger["contacts_processed_more_than_once"] <= summary.resent_contacts
    for line in lines:
        was_added = sandbox.ledger.was_added(line["contact_sid"])
        assert line["contact_sid"] == contents.cells[line["row"] - 1]
        assert was_added if line["outcome"] == "added" else line["outcome"] in {"already_present", "rejected"}
        assert not (was_added and line["outcome"] == "rejected")
    return steps, summary
