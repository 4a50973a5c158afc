"""The single writer: lines, a sync, the journal, the counts, in this order; one write for whatever came together."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from importer.collector import SUMMARY_INTERVAL_SECONDS, Collector
from importer.errors import IncompleteError, RunDirectoryError
from importer.logs import MASK, Masker
from importer.model import ApiError, Batch, BatchResult, ContactResult, ExitCode, Outcome, Reason, Tally, Verdict
from importer.recovery import SUMMARY
from importer.report import ReportFile
from importer.shutdown import Shutdown
from importer.state import DoneBatch
from importer.thresholds import Thresholds
from tests.unit.fakes import LIST
from tests.unit.runs import all_added, one_row, sid


class Disk:
    """A report and a journal that remember the order of what is done to them; either may refuse."""

    def __init__(self, tally: Tally) -> None:
        self.deeds: list[str] = []
        self.report = b""
        self.done: list[DoneBatch] = []
        self.refuses: str | None = None
        self._tally = tally

    async def append(self, data: bytes) -> None:
        self._do("append")
        self.report += data

    async def sync(self) -> None:
        self._do("sync")

    async def finish(self, batches: Sequence[DoneBatch], tally: Tally) -> None:  # noqa: ARG002  # the journal's own
        self._do(f"finish {', '.join(str(each.batch) for each in batches)}")
        self.done += batches

    async def complete(self, exit_code: ExitCode, tally: Tally) -> None:  # noqa: ARG002
        self._do(f"complete {exit_code}")

    async def save_counts(self, tally: Tally) -> None:  # noqa: ARG002
        self._do("save_counts")

    def _do(self, deed: str) -> None:
        """Note also how many rows are counted at this time."""
        self.deeds.append(f"{deed} ({self._tally.rows})")
        if self.refuses == deed:
            raise OSError(errno.ENOSPC, "No space left on device")


class Rig:
    """A collector over a disk that remembers."""

    def __init__(self, folder: Path, *, end: tuple[int, int] = (0, 0), seconds: float = 0.0) -> None:
        self.now = 100.0
        self.tally = Tally(seconds=seconds)
        self.disk = Disk(self.tally)
        self.summary = folder / SUMMARY
        mask = Masker("the-api-key", "the-api-token").text
        about: dict[str, Any] = {"location": "in.csv", "list_sid": LIST, "settings": {"log": {}}, "mask": mask}
        parts = (self.disk, self.disk, self.summary, self.tally, Thresholds(None, self.tally), Shutdown(1))
        self.collector = Collector(*parts, end=end, clock=lambda: self.now, **about)

    def summary_on_disk(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.summary.read_bytes())
        return summary


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_journal_claims_only_what_is_sure(rig: Rig) -> None:
    """Lines are appended, then synced; only then the batch is done, and only then it is counted."""
    await rig.collector.record([all_added(one_row(1))])

    assert rig.disk.deeds == ["append (0)", "sync (0)", "finish 1 (0)"]
    assert (rig.tally.rows, rig.tally.batches) == (1, 1)


async def test_what_came_together_is_synced_together(rig: Rig) -> None:
    """Any number of batches costs one sync and one commit; their lines are not held all at once."""
    await rig.collector.record([all_added(one_row(number)) for number in (5, 2, 9)])

    assert rig.disk.deeds == ["append (0)"] * 3 + ["sync (0)", "finish 5, 2, 9 (0)"]
    assert [sid(5), sid(2), sid(9)] == [json.loads(line)["contact_sid"] for line in rig.disk.report.splitlines()]
    assert rig.tally.rows == 3


async def test_places_tile_the_report(tmp_path: Path) -> None:
    """Each batch begins where the one before it ended, from the end that the last process left on."""
    before = b"lines of an earlier process\n"
    rig = Rig(tmp_path, end=(len(before), zlib.crc32(before)))
    await rig.collector.record([all_added(one_row(number)) for number in (1, 2)])
    await rig.collector.record([all_added(one_row(3))])
    report = before + rig.disk.report

    assert len(before) == rig.disk.done[0].report_start
    for earlier, later in zip(rig.disk.done, rig.disk.done[1:], strict=False):
        assert earlier.report_end == later.report_start
    for done in rig.disk.done:
        assert json.loads(report[done.report_start : done.report_end])["row"] == done.first_row
        assert zlib.crc32(report[: done.report_end]) == done.report_crc
    assert len(report) == rig.disk.done[-1].report_end


async def test_lines_stand_in_the_inputs_order(rig: Rig) -> None:
    """Rows that were not sent stand among those that were, with only what applies to them."""
    unsent = [
        ContactResult(1, None, Outcome.INVALID, 4, 0, reason=Reason.SID_EMPTY),
        ContactResult(3, sid(1), Outcome.DUPLICATE, 4, 0, duplicate_of=2),
    ]
    batch = Batch(4, 1, 4, [2, 4], [sid(1), sid(2)], unsent)
    verdicts = [Verdict(Outcome.ADDED, 200), Verdict(Outcome.UNKNOWN, reason=Reason.TIMED_OUT)]
    await rig.collector.record([BatchResult(batch, verdicts, [1, 3])])

    assert [json.loads(line) for line in rig.disk.report.splitlines()] == [
        {"row": 1, "contact_sid": None, "outcome": "invalid", "batch": 4, "attempts": 0, "reason": "sid_empty"},
        {"row": 2, "contact_sid": sid(1), "outcome": "added", "batch": 4, "attempts": 1, "code": 200},
        {"row": 3, "contact_sid": sid(1), "outcome": "duplicate", "batch": 4, "attempts": 0, "duplicate_of": 2},
        {"row": 4, "contact_sid": sid(2), "outcome": "unknown", "batch": 4, "attempts": 3, "reason": "timed_out"},
    ]
    assert {outcome: count for outcome, count in rig.disk.done[0].outcomes.items() if count} == {
        Outcome.INVALID: 1,
        Outcome.ADDED: 1,
        Outcome.DUPLICATE: 1,
        Outcome.UNKNOWN: 1,
    }


@pytest.mark.parametrize("deed", ["append", "sync"])
async def test_batch_is_not_done_if_the_disk_refuses(rig: Rig, deed: str) -> None:
    """Lines that are not sure to be there are not claimed, and not counted."""
    rig.disk.refuses = deed
    with pytest.raises(IncompleteError, match=r"No space left on device\. Make room") as caught:
        await rig.collector.record([all_added(one_row(1))])

    assert caught.value.exit_code is ExitCode.INCOMPLETE
    assert not any("finish" in each for each in rig.disk.deeds)
    assert rig.tally.rows == 0


async def test_end_is_committed_before_it_is_told(rig: Rig) -> None:
    """A complete run is so in the journal first; the summary says the same."""
    await rig.collector.record([all_added(one_row(1))])
    rig.summary.unlink()
    rig.disk.refuses = "complete 0"
    with pytest.raises(OSError, match="No space"):
        await rig.collector.finish(ExitCode.COMPLETE, None)

    assert not rig.summary.exists()
    rig.disk.refuses = None
    summary = await rig.collector.finish(ExitCode.COMPLETE, None)

    assert rig.disk.deeds[-1] == "complete 0 (1)"
    assert (summary.complete, summary.exit_code, summary.error) == (True, ExitCode.COMPLETE, None)
    assert rig.summary_on_disk()["complete"] is True


async def test_early_end_is_told_and_is_no_end(rig: Rig) -> None:
    """A run that ended early keeps its counts and says why; it is not complete."""
    summary = await rig.collector.finish(ExitCode.REFUSED, "No such list.")

    assert rig.disk.deeds == ["save_counts (0)"]
    assert (summary.complete, summary.exit_code, summary.error) == (False, ExitCode.REFUSED, "No such list.")
    assert rig.summary_on_disk()["error"] == "No such list."


async def test_summary_is_written_from_time_to_time(rig: Rig) -> None:
    """With the first batch, and then not more often than every few seconds: batches may be many."""

    async def rows_told_after(seconds: float, number: int) -> int:
        rig.now += seconds
        await rig.collector.record([all_added(one_row(number))])
        rows: int = rig.summary_on_disk()["rows"]
        return rows

    assert await rows_told_after(0, 1) == 1
    assert await rows_told_after(SUMMARY_INTERVAL_SECONDS / 2, 2) == 1
    assert await rows_told_after(SUMMARY_INTERVAL_SECONDS / 2, 3) == 3
    assert await rows_told_after(0, 4) == 3


async def test_seconds_are_those_of_all_processes(tmp_path: Path) -> None:
    """The time of a resumed run goes on from what the earlier processes took."""
    rig = Rig(tmp_path, seconds=50.0)
    rig.now += 7.0
    await rig.collector.record([all_added(one_row(1))])

    assert rig.summary_on_disk()["seconds"] == 57.0


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(lambda path: path.mkdir(), id="a directory in its place"),
        pytest.param(lambda path: path.with_suffix(".tmp").mkdir(), id="a directory beside it"),
    ],
)
async def test_summary_that_cannot_be_written_is_one_sentence(rig: Rig, trouble: Callable[[Path], None]) -> None:
    """Trouble with the disk ends the run early, with what to do."""
    trouble(rig.summary)
    with pytest.raises(IncompleteError, match="Make room or mend its permissions"):
        await rig.collector.write_summary()


async def test_secrets_that_the_api_repeats_are_masked(rig: Rig) -> None:
    """Neither the report nor the summary shows a secret, not even in the API's own words."""
    error = ApiError(1002, "bad request", "from the-api-key with the-api-token")
    batch = one_row(1)
    await rig.collector.record([BatchResult(batch, [Verdict(Outcome.REJECTED, 400, error)], [1])])
    await rig.collector.finish(ExitCode.REFUSED, f"The API said: {error.description}")

    shown = rig.disk.report.decode() + rig.summary.read_text()
    assert "the-api" not in shown
    assert shown.count(f"from {MASK} with {MASK}") == 2
    assert rig.disk.done[0].report_end == len(rig.disk.report)


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda path: Path(shutil.copy(path, path.with_suffix(".new"))).replace(path),
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, 100),
    ],
    ids=["removed", "replaced", "cut", "longer"],
)
async def test_a_report_that_somebody_touches_ends_the_run(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    """Lines that are written from then on might stand nowhere: no batch is done any more."""
    path = tmp_path / "report.jsonl"
    report = await ReportFile.open(path)
    await report.append(b"1\n")
    await report.sync()
    harm(path)
    await report.append(b"2\n")
    with pytest.raises(RunDirectoryError, match="was removed, replaced or changed"):
        await report.sync()
    await report.close()


async def test_a_run_is_complete_only_if_its_report_is_whole(rig: Rig) -> None:
    """Before that is said, the report is looked at once more."""
    await rig.collector.record([all_added(one_row(1))])
    rig.disk.refuses = "sync"
    with pytest.raises(IncompleteError):
        await rig.collector.finish(ExitCode.COMPLETE, None)

    assert not any(deed.startswith("complete") for deed in rig.disk.deeds)
