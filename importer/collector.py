"""The single writer of report and summary, and the one that says that batches are done."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog

from importer.errors import disk_error
from importer.model import BatchResult, ExitCode, Tally
from importer.report import Appendable, count_outcomes, encode, lines_of
from importer.shutdown import Shutdown
from importer.state import DoneBatch
from importer.summary import Summary, summarise, write_summary
from importer.thresholds import Thresholds

SUMMARY_INTERVAL_SECONDS = 2.0


class DoneWriter(Protocol):
    """The part of the journal that the collector writes to."""

    async def finish(self, batches: Sequence[DoneBatch], tally: Tally) -> None:
        """Say that batches are done."""
        ...

    async def complete(self, exit_code: ExitCode, tally: Tally) -> None:
        """Say that every row is reported."""
        ...

    async def save_counts(self, tally: Tally) -> None:
        """Keep the counts of a run that ends early."""
        ...


class Collector:
    """Writes what became of batches, in the order in which they finish."""

    def __init__(
        self,
        report: Appendable,
        journal: DoneWriter,
        summary_path: Path,
        tally: Tally,
        thresholds: Thresholds,
        shutdown: Shutdown,
        *,
        end: tuple[int, int],
        location: str,
        list_sid: str,
        settings: dict[str, Any],
        mask: Callable[[str], str] = str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Append to a report whose committed part has the length and the checksum of `end`.

        `location` (the input), `list_sid` and `settings`, whose secrets are masked, describe the run in its summary.
        `mask` takes secrets out of the API's own words, should it repeat them.
        """
        self._report = report
        self._journal = journal
        self._summary_path = summary_path
        self._tally = tally
        self._thresholds = thresholds
        self._shutdown = shutdown
        self._end, self._checksum = end
        self._run: dict[str, Any] = {"location": location, "list_sid": list_sid, "settings": settings}
        self._mask = mask
        self._clock = clock or asyncio.get_running_loop().time
        self._began = self._clock() - tally.seconds
        self._summary_written_at = float("-inf")
        self._log = structlog.get_logger()

    async def record(self, results: Sequence[BatchResult]) -> None:
        """Append the lines of some batches, and count them. Raises IncompleteError if the disk refuses."""
        done = []
        for result in results:  # one after the other: the memory holds the lines of a single batch
            lines = encode(lines_of(result, self._mask))
            try:
                await self._report.append(lines)
            except OSError as error:
                raise disk_error(error, self._summary_path.parent) from error
            done.append(self._done(result, lines))
        await self._sync()
        self._tally.seconds = self._clock() - self._began
        # Only now: the journal must never claim lines that the disk may lose.
        await self._journal.finish(done, self._tally)
        for result, each in zip(results, done, strict=True):
            self._tally.count_outcomes(each.outcomes)
            if (too_much := self._thresholds.watch(result)) is not None:
                self._shutdown.request(too_much)
            counts = {outcome.value: count for outcome, count in each.outcomes.items() if count}
            self._log.info("batch_finished", batch=each.batch, **counts)
        if self._clock() - self._summary_written_at >= SUMMARY_INTERVAL_SECONDS:
            await self.write_summary()

    async def finish(self, exit_code: ExitCode, error: str | None) -> Summary:
        """Commit how the run ended, and say so in the summary; `error` tells why it ended early, if it did."""
        self._tally.seconds = self._clock() - self._began
        if error is None:
            await self._sync()  # once more: nobody had a hand in the report since
            await self._journal.complete(exit_code, self._tally)
        else:
            await self._journal.save_counts(self._tally)
        return await self.write_summary(exit_code, error)

    async def write_summary(self, exit_code: ExitCode | None = None, error: str | None = None) -> Summary:
        """Replace summary.json by one of this moment. Raises IncompleteError if the disk refuses."""
        summary = self.summary(exit_code, error)
        try:
            await asyncio.to_thread(write_summary, self._summary_path, summary)
        except OSError as refused:
            raise disk_error(refused, self._summary_path) from refused
        self._summary_written_at = self._clock()
        return summary

    def summary(self, exit_code: ExitCode | None = None, error: str | None = None) -> Summary:
        """Take a snapshot of the run."""
        complete = exit_code is not None and error is None
        error = error and self._mask(error)
        self._tally.seconds = self._clock() - self._began
        return summarise(self._tally, complete=complete, exit_code=exit_code, error=error, **self._run)

    async def _sync(self) -> None:
        try:
            await self._report.sync()
        except OSError as error:
            raise disk_error(error, self._summary_path.parent) from error

    def _done(self, result: BatchResult, lines: bytes) -> DoneBatch:
        start, self._end = self._end, self._end + len(lines)
        self._checksum = zlib.crc32(lines, self._checksum)
        batch = result.batch
        return DoneBatch(
            batch=batch.number,
            first_row=batch.first_row,
            last_row=batch.last_row,
            digest=batch.digest,
            report_start=start,
            report_end=self._end,
            report_crc=self._checksum,
            outcomes=count_outcomes(result),
            end=batch.end,
        )
