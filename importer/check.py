"""Reads an input to its end and counts what a run would do. Sends nothing, writes nothing."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from importer.model import Outcome, Reason
from importer.rate import FIRST_GUESS
from importer.source import Source

_EXAMPLES = 3


class Finding(msgspec.Struct, frozen=True):
    """What a run of this input would meet."""

    rows: int
    to_send: int
    duplicates: int
    invalid: dict[Reason, int]
    invalid_examples: list[tuple[int, str | None]]  # row and cell
    batches: int
    requests: int
    seconds_at_quota: float


def check(source: Source, requests_per_minute: float | Literal["auto"]) -> Finding:
    """Read everything. Raises InputError where it cannot be read on."""
    rows = to_send = duplicates = batches = requests = 0
    invalid: Counter[Reason] = Counter()
    examples: list[tuple[int, str | None]] = []
    for batch in source:
        batches += 1
        requests += bool(batch.sids)
        rows = batch.last_row
        to_send += len(batch.sids)
        for line in batch.unsent:
            duplicates += line.outcome is Outcome.DUPLICATE
            if line.reason is not None:
                invalid[line.reason] += 1
                if len(examples) < _EXAMPLES:
                    examples.append((line.row, line.contact_sid))
    rate = FIRST_GUESS if requests_per_minute == "auto" else requests_per_minute
    seconds = max(0, requests - 1) * 60 / rate
    return Finding(rows, to_send, duplicates, dict(invalid), examples, batches, requests, seconds)
