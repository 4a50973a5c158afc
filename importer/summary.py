"""summary.json: what became of the run so far, for machines. On disk it is whole at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from importer.model import Anomaly, ExitCode, Outcome, Tally


class Summary(msgspec.Struct, frozen=True):
    """The file's content. `exit_code` is None while the run is under way."""

    complete: bool
    exit_code: ExitCode | None
    rows: int  # reported so far
    outcomes: dict[Outcome, int]
    batches: int
    requests: int
    retries: int
    throttled: int
    anomalies: dict[Anomaly, int]
    resent_contacts: int
    seconds: float
    input: str
    list_sid: str
    settings: dict[str, Any]  # secrets masked
    error: str | None = None  # why the run ended early


def summarise(
    tally: Tally,
    *,
    location: str,
    list_sid: str,
    settings: dict[str, Any],
    complete: bool = False,
    exit_code: ExitCode | None = None,
    error: str | None = None,
) -> Summary:
    """Take a snapshot of the counts."""
    return Summary(
        complete=complete,
        exit_code=exit_code,
        rows=tally.rows,
        outcomes=dict(tally.outcomes),
        batches=tally.batches,
        requests=tally.requests,
        retries=tally.retries,
        throttled=tally.throttled,
        anomalies=dict(tally.anomalies),
        resent_contacts=tally.resent_contacts,
        seconds=round(tally.seconds, 3),
        input=location,
        list_sid=list_sid,
        settings=settings,
        error=error,
    )


def write_summary(path: Path, summary: Summary) -> None:
    """Replace the file in one step: a reader, or a crash, sees the old one or the new one. Raises OSError."""
    beside = path.with_suffix(".tmp")
    content = msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
