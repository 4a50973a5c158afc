"""Removes the directories of runs that ended long ago: whole runs, and nothing but what a run has written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from importer.errors import ImporterError, RunDirectoryError, SettingsError, disk_error
from importer.history import History
from importer.recovery import LOCK, REPORT, STATE, SUMMARY, DirectoryLock, is_running

_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_DEPTH = 3  # nightly/{date}/{stem}, and one more
# What tells that it is a run goes late: a removal that is cut short is taken up by the next. The lock goes last.
_FILES = (
    REPORT,
    SUMMARY,
    str(Path(SUMMARY).with_suffix(".tmp")),
    STATE,
    f"{STATE}-wal",
    f"{STATE}-shm",
    f"{STATE}-journal",
    LOCK,
)


def parse_age(text: str) -> float:
    """Read an age such as 30d, in seconds. Raises SettingsError."""
    match = re.fullmatch(r"([0-9]{1,6})([hdw])", text.strip())
    if match is None:
        raise SettingsError(f"--older-than: '{text}' is no age; give hours, days or weeks, such as 12h, 30d or 8w.")
    return int(match[1]) * _HOURS[match[2]] * 3600.0


def prune(
    folder: Path, *, age_seconds: float, incomplete: bool = False, dry_run: bool = False, now: float
) -> Iterator[str]:
    """Remove the runs below a folder that ended longer ago than that, and yield a line for each that is of interest.

    A run that is under way stays, and so does what no run has written. Raises RunDirectoryError or IncompleteError.
    """
    if _is_run(folder):
        raise RunDirectoryError(f"{folder}: is itself the directory of a run; name the directory that the runs lie in.")
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise RunDirectoryError(f"{folder}: cannot be read: {error.strerror}.") from None
    for directory in _runs_below(folder, _DEPTH):
        try:
            end = _End.of(directory)
            if now - end.at <= age_seconds:
                continue
            if is_running(directory):
                yield f"kept {directory}: under way"
            elif not (end.is_complete or incomplete):
                yield f"kept {directory}: not complete; --incomplete removes it too"
            elif dry_run:
                yield f"would remove {directory} ({end})"
            elif left := _remove(directory, end):
                yield f"removed the run in {directory} ({end}), and kept what is not of it: {', '.join(left)}"
            else:
                _remove_empty(directory.parent, folder)
                yield f"removed {directory} ({end})"
        except ImporterError as error:
            yield f"kept {directory}: {error}"


class _End(NamedTuple):
    """How a run ended."""

    at: float  # the last time that something was done, in seconds of the wall clock
    is_complete: bool

    def __str__(self) -> str:
        day = datetime.fromtimestamp(self.at, UTC).astimezone().date()
        return f"ended {day}" if self.is_complete else f"not complete, last at work {day}"

    @staticmethod
    def of(directory: Path) -> _End:
        """Read it. Raises ImporterError."""
        with closing(History(directory / STATE)) as history:
            is_complete, at = history.exit_code is not None, max((done.at for done in history.done()), default=0.0)
        try:
            return _End(at or (directory / STATE).stat().st_mtime, is_complete)
        except OSError as error:
            raise disk_error(error, directory) from error


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError:  # not ours to look into
        return
    for each in found:
        if each.is_symlink() or not each.is_dir():
            continue
        if _is_run(each):
            yield each
        elif depth > 1:
            yield from _runs_below(each, depth - 1)


def _is_run(directory: Path) -> bool:
    try:
        return (directory / STATE).is_file() and not any((directory / name).is_symlink() for name in (STATE, LOCK))
    except OSError:
        return False


def _remove(directory: Path, end: _End) -> list[str]:
    """Remove a run, and give the names of what is not of it. Raises ImporterError."""
    try:
        with DirectoryLock(directory):
            if _End.of(directory) != end:
                raise RunDirectoryError("somebody has gone on with it.")
            for path in (directory / name for name in _FILES):
                if path.is_symlink() or path.is_file():
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # it holds what is not of a run
                directory.rmdir()
            return sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    except OSError as error:
        raise disk_error(error, directory) from error


def _remove_empty(directory: Path, folder: Path) -> None:
    """Remove what was made for the run alone, such as the directory of its day."""
    with suppress(OSError):  # as soon as one holds anything else
        while directory != folder:
            directory.rmdir()
            directory = directory.parent
