"""The report's lines: one JSON object for each row. Encodes them; never touches a file."""

from __future__ import annotations

from collections import Counter

import msgspec

from importer.model import BatchResult, ContactResult, Outcome

_encoder = msgspec.json.Encoder()


def lines_of(result: BatchResult) -> list[ContactResult]:
    """Give a line for each row of the batch, in the input's order."""
    batch = result.batch
    lines = [
        ContactResult(row, sid, verdict.outcome, batch.number, attempts, verdict.code, verdict.error, verdict.reason)
        for row, sid, verdict, attempts in zip(batch.rows, batch.sids, result.verdicts, result.attempts, strict=True)
    ]
    if batch.unsent:
        lines += batch.unsent
        lines.sort(key=lambda line: line.row)
    return lines


def encode(lines: list[ContactResult]) -> bytes:
    """Give the lines as they stand in the report, each with its line end."""
    return _encoder.encode_lines(lines)


def count_outcomes(result: BatchResult) -> dict[Outcome, int]:
    """Count the batch's rows by what became of them."""
    counts = Counter(verdict.outcome for verdict in result.verdicts)
    counts.update(line.outcome for line in result.batch.unsent)
    return counts
