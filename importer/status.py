"""What became of a run so far: read from its journal, which is never behind."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from importer.errors import RunDirectoryError
from importer.history import History
from importer.model import ExitCode
from importer.recovery import STATE, SUMMARY, is_running
from importer.summary import Summary, summarise


class Status(msgspec.Struct, frozen=True):
    """A summary of this moment, and whether a process is at work."""

    running: bool
    summary: Summary


def status_of(directory: Path) -> Status:
    """Look at a run. Raises RunDirectoryError where there is none."""
    running = is_running(directory)
    with closing(History(directory / STATE)) as history:
        identity, exit_code, tally = history.identity, history.exit_code, history.tally()
    if identity is None:
        raise RunDirectoryError(f"{directory}: the run died before it began; run the same command again.")
    last = _last_summary(directory / SUMMARY)
    complete = exit_code is not None
    ended = last.get("exit_code") if not (complete or running) else None
    return Status(
        running,
        summarise(
            tally,
            complete=complete,
            exit_code=exit_code if complete else ExitCode(ended) if ended in set(ExitCode) else None,
            error=None if complete or running else last.get("error"),
            location=identity.location,
            list_sid=identity.list_sid,
            settings=last.get("settings") or {},
        ),
    )


def _last_summary(path: Path) -> dict[str, Any]:
    """Read what only the summary tells: settings, and why the run ended early."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return content if isinstance(content, dict) else {}
