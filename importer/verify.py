"""Proves a run's promise: input against report, row by row, and the counts against each other.

Streams: of input and report it holds one batch at a time. Believes nothing that it can look at.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from importer.errors import ImporterError
from importer.history import History
from importer.model import Anomaly, Batch, ContactResult, ExitCode, Outcome, Reason
from importer.recovery import REPORT, STATE, SUMMARY
from importer.report import read_lines
from importer.source import Source
from importer.state import DoneBatch

MAX_SHOWN = 10
_AFTER_SENDING = frozenset({Outcome.ADDED, Outcome.ALREADY_PRESENT, Outcome.REJECTED, Outcome.FAILED, Outcome.UNKNOWN})


class Verification(msgspec.Struct, frozen=True):
    """What a verification came to."""

    rows: int  # of the input that were looked at
    violations: list[str]  # the first ones; none: the report is to be believed
    is_incomplete_only: bool = False  # no other violation than that the run is not complete

    @property
    def holds(self) -> bool:
        """Whether the promise holds."""
        return not self.violations


def unreadable(error: ImporterError) -> Verification:
    """Give what a report is worth whose journal cannot even be read: nothing."""
    return Verification(0, [str(error)])


def verify(directory: Path, source: Source, history: History) -> Verification:
    """Compare everything. Raises ImporterError where the run or the input cannot be read at all."""
    look = _Look(directory, source, history)
    violations = list(islice(look.violations(), MAX_SHOWN))
    return Verification(look.rows, violations, len(violations) == 1 and history.exit_code is None)


class _Look:
    def __init__(self, directory: Path, source: Source, history: History) -> None:
        self._report = directory / REPORT
        self._summary = directory / SUMMARY
        self._source = source
        self._history = history
        self.rows = 0

    def violations(self) -> Iterator[str]:
        """Yield what is wrong, as sentences."""
        if self._history.exit_code is None:
            yield f"The run is not complete: {self._history.tally().rows:,} rows are reported so far."
        yield from self._report_as_a_whole()
        yield from self._rows()
        yield from self._summary_as_a_whole()

    def _report_as_a_whole(self) -> Iterator[str]:
        """The batches' lines tile the report without gap or overlap, and nobody changed a byte of them."""
        if not self._report.is_file():
            yield f"{self._report} is missing, or cannot be read."
            return
        end = checksum = 0
        with self._report.open("rb") as file:
            for done in self._history.done(by_report=True):
                if done.report_start != end:
                    yield f"{STATE}: batch {done.batch:,} does not begin in the report where the one before it ends."
                checksum = zlib.crc32(file.read(done.report_end - end), checksum)
                end = done.report_end
                if checksum != done.report_crc:
                    yield f"The report is not what was written in the lines of batch {done.batch:,}."
                    return
        size = self._report.stat().st_size
        if size > end:
            yield f"The report goes on for {size - end:,} bytes after its last committed line."

    def _rows(self) -> Iterator[str]:
        """Every row of the input has its line."""
        history = self._history.done()
        done = next(history, None)
        for batch in self._source:
            self.rows = batch.last_row
            if done is None or done.batch != batch.number:
                if self._history.exit_code is not None:
                    yield f"Rows {batch.first_row:,} to {batch.last_row:,} are not in the report."
                continue
            yield from self._batch(batch, done)
            done = next(history, None)
        if done is not None:
            yield f"The report has rows from {done.first_row:,} on that the input has not."

    def _batch(self, batch: Batch, done: DoneBatch) -> Iterator[str]:
        if batch.digest != done.digest:
            yield f"Batch {batch.number:,} (rows {batch.first_row:,} to {batch.last_row:,}): the input has changed."
        try:
            lines = read_lines(self._report, done.report_start, done.report_end)
        except (OSError, ValueError) as error:
            yield f"Batch {batch.number:,}: its lines in the report cannot be read: {error}."
            return
        sent = dict(zip(batch.rows, batch.sids, strict=True))
        unsent = {line.row: line for line in batch.unsent}
        expected = iter(range(batch.first_row, batch.last_row + 1))
        for line in lines:
            row = next(expected, None)
            if line.row != row:
                yield f"Batch {batch.number:,}: a line of row {line.row:,} stands where row {row or 'none'} is due."
                return
            if complaint := _complaint(line, batch.number, sent.get(row), unsent.get(row)):
                yield f"Row {row:,}: {complaint}."
        if (row := next(expected, None)) is not None:
            yield f"Row {row:,} of batch {batch.number:,} is not in the report."
        counts = Counter(line.outcome for line in lines)
        if any(counts[outcome] != done.outcomes[outcome] for outcome in Outcome):
            yield f"Batch {batch.number:,}: {STATE} counts other outcomes than the report has."

    def _summary_as_a_whole(self) -> Iterator[str]:
        """The summary says what the journal says."""
        try:
            summary = msgspec.json.decode(self._summary.read_bytes(), type=_Counts)
        except (OSError, msgspec.DecodeError) as error:
            yield f"{self._summary} cannot be read: {error}."
            return
        tally, exit_code = self._history.tally(), self._history.exit_code
        outcomes = {outcome: count for outcome, count in tally.outcomes.items() if count}
        claimed = {outcome: count for outcome, count in summary.outcomes.items() if count}
        if exit_code is None:
            return  # it is written every few seconds, and a kill leaves the one before
        if (summary.rows, claimed, summary.batches) != (tally.rows, outcomes, tally.batches):
            yield f"{self._summary} counts other rows than the report has."
        for name in ("requests", "retries", "throttled", "anomalies", "resent_contacts"):
            if getattr(summary, name) != getattr(tally, name):
                yield f"{self._summary}: {name} is not what {STATE} has counted."
        if exit_code is not None and (not summary.complete or summary.exit_code != exit_code):
            yield f"{self._summary} does not say that the run is complete with exit code {exit_code}."
        if exit_code is not None and tally.rows != self.rows:
            yield f"The input has {self.rows:,} rows, the report {tally.rows:,}."
        if exit_code in {ExitCode.COMPLETE, ExitCode.SOME_NOT_IN_LIST} and exit_code != tally.exit_code():
            yield f"The run's exit code {exit_code} does not follow from its outcomes."


class _Counts(msgspec.Struct):
    complete: bool
    exit_code: int | None
    rows: int
    batches: int
    outcomes: dict[Outcome, int]
    requests: int
    retries: int
    throttled: int
    anomalies: dict[Anomaly, int]
    resent_contacts: int


def _complaint(line: ContactResult, batch: int, sid: str | None, unsent: ContactResult | None) -> str | None:
    """What is wrong with a line, given what the input has in that row: a contact to send, or none."""
    if unsent is not None:
        return None if line == unsent else f"the report has {_shown(line)}, the input calls for {_shown(unsent)}"
    if line.contact_sid != sid:
        return f"the report has the sid {line.contact_sid}, the input {sid}"
    if line.batch != batch:
        return f"the report has it in batch {line.batch}, not {batch}"
    if line.outcome not in _AFTER_SENDING or line.duplicate_of is not None:
        return f"the report says {line.outcome.value} of a contact that was to be sent"
    if line.attempts < 1 and line.reason is not Reason.IN_DOUBT:
        return f"the report says {line.outcome.value} after no attempt"
    return None


def _shown(line: ContactResult) -> str:
    words = [line.outcome.value, line.reason.value if line.reason else "", line.contact_sid or "no sid"]
    if line.duplicate_of:
        words.append(f"of row {line.duplicate_of}")
    return " ".join(word for word in words if word)
