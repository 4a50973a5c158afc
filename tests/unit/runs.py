"""Run directories as a run leaves them, without a run: for those who read them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from importer.collector import Collector
from importer.inputs import Input
from importer.job import identify, open_source
from importer.journal import Journal
from importer.model import Batch, BatchResult, Outcome, Tally, Verdict
from importer.recovery import REPORT, STATE, SUMMARY
from importer.report import ReportFile
from importer.settings import Settings
from importer.shutdown import Shutdown
from importer.state import DoneBatch, Identity
from importer.thresholds import Thresholds
from tests.unit.fakes import LIST

IDENTITY = Identity(
    LIST, "in.csv", 10, "sample", 2, 0, has_header=True, delimiter=",", encoding="utf-8", sid_pattern=".*"
)


def sid(number: int) -> str:
    return f"{number:032x}"


def done_of(batch: int, start: int, end: int, crc: int = 0, **outcomes: int) -> DoneBatch:
    """A finished batch of one row."""
    counts = dict.fromkeys(Outcome, 0) | {Outcome(name): count for name, count in outcomes.items()}
    return DoneBatch(batch, batch, batch, b"digest", start, end, crc, counts)


def one_row(number: int, cell: str | None = None) -> Batch:
    """A batch of one row."""
    return Batch(number, number, number, [number], [cell or sid(number)])


def all_added(batch: Batch) -> BatchResult:
    count = len(batch.sids)
    return BatchResult(batch, [Verdict(Outcome.ADDED, code=200)] * count, [1] * count)


def finished_run(
    folder: Path,
    cells: Sequence[str],
    *,
    batch_size: int = 3,
    result_of: Callable[[Batch], BatchResult] = all_added,
    order: Callable[[list[BatchResult]], list[BatchResult]] = list,
    is_complete: bool = True,
) -> Path:
    """The directory of a run over these cells; `order` is that in which batches were finished."""
    path = folder / "in.csv"
    path.write_text("contact_sid\n" + "".join(f"{cell}\n" for cell in cells))
    directory = folder / "run"
    directory.mkdir()
    settings = Settings.model_validate({"delivery": {"batch_size": batch_size}})
    with closing(Input(str(path))) as source:
        batches = open_source(source, settings.input, batch_size)
        identity = identify(source, batches, LIST, settings)
        results = order([result_of(batch) for batch in batches])
    asyncio.run(_write(directory, identity, results, is_complete))
    return directory


async def _write(directory: Path, identity: Identity, results: Sequence[BatchResult], is_complete: bool) -> None:
    tally = Tally()
    journal = Journal(directory / STATE)
    report = await ReportFile.open(directory / REPORT)
    await journal.begin(identity)
    collector = Collector(
        report,
        journal,
        directory / SUMMARY,
        tally,
        Thresholds(None, tally),
        Shutdown(1),
        end=(0, 0),
        location=identity.location,
        list_sid=LIST,
        settings={},
    )
    tally.requests = len(results)
    await collector.record(results)
    if is_complete:
        await collector.finish(tally.exit_code(), None)
    await report.close()
    await journal.close()
