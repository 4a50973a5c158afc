"""The single writer of a run's files: report and summary. Nothing else of the program writes there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiofiles
import structlog
from aiofiles.threadpool.binary import AsyncFileIO

from importer.errors import IncompleteError, RunDirectoryError
from importer.model import BatchResult, ExitCode, Tally
from importer.report import count_outcomes, encode, lines_of
from importer.summary import Summary, summarise, write_summary

SUMMARY_INTERVAL_SECONDS = 2.0


class Collector:
    """Writes what became of each batch, in the order in which they finish. An async context manager."""

    def __init__(
        self,
        directory: Path,
        tally: Tally,
        *,
        location: str,
        list_sid: str,
        settings: dict[str, Any],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Describe the run by `location` (the input), `list_sid` and `settings`, whose secrets are masked."""
        self.report_path = directory / "report.jsonl"
        self.summary_path = directory / "summary.json"
        self._tally = tally
        self._run: dict[str, Any] = {"location": location, "list_sid": list_sid, "settings": settings}
        self._clock = clock or asyncio.get_running_loop().time
        self._began = self._clock()
        self._summary_written_at = float("-inf")
        self._file: AsyncFileIO | None = None
        self._log = structlog.get_logger()

    async def __aenter__(self) -> Self:
        """Create the files. Raises RunDirectoryError or IncompleteError."""
        try:
            self._file = await aiofiles.open(self.report_path, "xb", buffering=0, opener=_open_private)
            await self._write_summary(self.summary())
        except FileExistsError:
            raise RunDirectoryError(
                f"{self.report_path.parent}: already holds a report; choose another directory with --run-dir."
            ) from None
        except OSError as error:
            raise _disk_error(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the report."""
        if self._file is not None:
            await self._file.close()

    async def record(self, result: BatchResult) -> None:
        """Append a batch's lines in one write, and count them. Raises IncompleteError if the disk refuses."""
        assert self._file is not None, "used outside of its context"  # noqa: S101
        lines = encode(lines_of(result))
        outcomes = count_outcomes(result)
        try:
            written = await self._file.write(lines)
            if written != len(lines):
                raise OSError(0, "the disk is full", str(self.report_path))
            self._tally.count_outcomes(outcomes)
            if self._clock() - self._summary_written_at >= SUMMARY_INTERVAL_SECONDS:
                await self._write_summary(self.summary())
        except OSError as error:
            raise _disk_error(error) from error
        self._log.info(
            "batch_finished",
            batch=result.batch.number,
            attempts=max(result.attempts, default=0),
            **{outcome.value: count for outcome, count in outcomes.items() if count},
        )

    async def finish(self, exit_code: ExitCode, error: str | None) -> Summary:
        """Write the summary for the last time; `error` is why the run ended early, None if it is complete."""
        summary = self.summary(exit_code, error, complete=error is None)
        await self._write_summary(summary)
        return summary

    def summary(
        self, exit_code: ExitCode | None = None, error: str | None = None, *, complete: bool = False
    ) -> Summary:
        """Take a snapshot of the run."""
        seconds = self._clock() - self._began
        return summarise(self._tally, seconds=seconds, complete=complete, exit_code=exit_code, error=error, **self._run)

    async def _write_summary(self, summary: Summary) -> None:
        await asyncio.to_thread(write_summary, self.summary_path, summary)
        self._summary_written_at = self._clock()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _disk_error(error: OSError) -> IncompleteError:
    return IncompleteError(
        f"{error.filename or 'The run directory'}: cannot be written: {error.strerror}. "
        "Make room or mend its permissions, then run the same command again."
    )
