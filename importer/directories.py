"""Where runs lie: what a run's directory is called, and which runs lie beside it. Reads, and never writes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from importer.errors import ImporterError, SettingsError
from importer.history import History
from importer.inputs import Input
from importer.recovery import STATE, SUMMARY, is_running
from importer.settings import Settings
from importer.state import Identity

_PLACEHOLDERS = ("{stem}", "{date}")
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_RECENT_SECONDS = 120.0
_DATES = re.compile(r"(?=(\d{4}-\d\d-\d\d))")


class Place(msgspec.Struct, frozen=True):
    """Where a run's files go, and where to look for runs beside it."""

    directory: Path
    home: Path  # holds the runs of all nights, at whatever depth
    roots: Sequence[Path]  # those whose subdirectories are the runs of all nights
    instead_of: Path | None = None  # where they would go, had the run not been begun under another date


class Begun(msgspec.Struct, frozen=True):
    """A run that is not complete, and at which nobody is at work."""

    directory: Path
    identity: Identity
    at: float  # when it was begun, in seconds of the wall clock


def today(now: datetime | None = None) -> str:
    """Give the local date, such as 2026-11-23."""
    return (now or datetime.now(UTC)).astimezone().date().isoformat()


def expand(pattern: Path, stem: str, date: str) -> Path:
    """Put stem and date into a directory's pattern. Raises SettingsError where it holds other braces."""

    def value_of(match: re.Match[str]) -> str:
        found = match[0]
        if found in _PLACEHOLDERS:
            return stem if found == "{stem}" else date
        wrong = f"stray '{found}'" if len(found) == 1 else f"unknown {found}"
        raise SettingsError(f"--run-dir: {wrong} in '{pattern}'; it may hold {' and '.join(_PLACEHOLDERS)}.")

    return Path(_BRACES.sub(value_of, str(pattern)))


def beside(directory: Path) -> Place:
    """Give the place of a run whose directory is as it is."""
    return Place(directory, _parent(directory), [_parent(directory)])


def locate(pattern: Path, source: Input, list_sid: str, date: str) -> Place:
    """Find the directory of a run of this input into this list.

    A new day is a new directory, but the run that is to be begun in it may have been begun under another date: killed
    before midnight, started again after it. Then it goes on where it was. Raises SettingsError.
    """
    directory = expand(pattern, source.stem, date)
    place = Place(directory, _home(pattern), _roots(pattern, source.stem, directory))
    # The little that is known of a stream beforehand may be the same every night.
    if not source.is_rewindable or _was_begun(directory):
        return place
    for other in _under_other_dates(pattern, source.stem, date):
        with suppress(ImporterError):  # told of where runs beside this one are looked for
            past = None if _is_of_no_interest(other, list_sid) else _incomplete(other)
            if past and (past.list_sid, past.size_bytes, past.sample) == (list_sid, source.size_bytes, source.sample):
                return msgspec.structs.replace(place, directory=other, instead_of=directory)
    return place


def _under_other_dates(pattern: Path, stem: str, date: str) -> list[Path]:
    """Give what the pattern is under other dates, as far as its first dated part is there; the newest first."""
    parts = pattern.parts
    first = next((index for index, part in enumerate(parts) if "{date}" in part), None)
    if first is None:
        return []
    parent = expand(Path(*parts[:first]), stem, date)
    dates = {
        found
        for name in _names_in(parent)
        for found in _DATES.findall(name)
        if found != date and expand(Path(parts[first]), stem, found).name == name
    }
    return [expand(pattern, stem, each) for each in sorted(dates, reverse=True)]


def unfinished(place: Place, list_sid: str) -> Iterator[Begun | ImporterError]:
    """Yield the other runs into this list that are not complete and not under way; an error for one not readable."""
    own = place.directory.resolve()
    for root in place.roots:
        for directory in sorted(root / name for name in _names_in(root)):
            if _is_of_no_interest(directory, list_sid) or directory.is_symlink() or directory.resolve() == own:
                continue
            try:
                if found := _look(directory, list_sid):
                    yield found
            except ImporterError as error:
                yield error


def recent_starts(place: Place, but: Path, settings: Settings, now: float | None = None) -> list[float]:
    """Give the times of the last minutes' requests of all runs `but` one that had the same quota, for that one.

    They are in seconds of the wall clock. Runs that are under way keep to a share of their own.
    """
    quota = _quota(settings.model_dump(mode="json"))
    since = (time.time() if now is None else now) - _RECENT_SECONDS
    starts: list[float] = []
    for root in place.roots:
        for directory in (root / name for name in _names_in(root)):
            if directory == but or _changed_at(directory / SUMMARY) < since or is_running(directory):
                continue
            summary = _summary(directory)
            if summary is not None and _quota(summary.settings) == quota:
                with suppress(ImporterError), closing(History(directory / STATE)) as history:
                    starts += history.recent_starts()
    return starts


def is_complete(directory: Path) -> bool:
    """Whether there is a run, and nothing left to do of it."""
    if _is_run(directory):
        with suppress(ImporterError), closing(History(directory / STATE)) as history:
            return history.exit_code is not None
    return False


class _Summary(msgspec.Struct):
    """What of a summary tells whether the run is of interest."""

    complete: bool
    list_sid: str
    settings: dict[str, dict[str, Any]]


def _quota(settings: Mapping[str, Mapping[str, Any]]) -> object:
    return settings.get("api"), settings.get("delivery", {}).get("requests_per_minute")


def _summary(directory: Path) -> _Summary | None:
    try:
        return msgspec.json.decode((directory / SUMMARY).read_bytes(), type=_Summary)
    except (OSError, msgspec.MsgspecError):
        return None


def _is_of_no_interest(directory: Path, list_sid: str) -> bool:
    """Whether it is no run, or one that its summary calls complete or of another list: which spares its journal."""
    if not _is_run(directory):
        return True
    summary = _summary(directory)
    return summary is not None and (summary.complete or summary.list_sid != list_sid)


def _look(directory: Path, list_sid: str) -> Begun | None:
    with closing(History(directory / STATE)) as history:
        identity, exit_code = history.identity, history.exit_code
        first = next(history.done(by_report=True), None)
    if identity is None or identity.list_sid != list_sid or exit_code is not None or is_running(directory):
        return None
    return Begun(directory, identity, first.at if first else _changed_at(directory / STATE))


def _is_run(directory: Path) -> bool:
    try:
        return (directory / STATE).is_file()
    except OSError:  # not ours to look into
        return False


def _was_begun(directory: Path) -> bool:
    """Whether there is a run, even if it cannot be read."""
    if _is_run(directory):
        with suppress(ImporterError), closing(History(directory / STATE)) as history:
            return history.identity is not None
        return True
    return False


def _incomplete(directory: Path) -> Identity | None:
    with closing(History(directory / STATE)) as history:
        return None if history.exit_code is not None else history.identity


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _home(pattern: Path) -> Path:
    parts = pattern.parts
    first = next((index for index, part in enumerate(parts) if "{" in part), None)
    return _parent(pattern) if first is None else Path(*parts[:first])


def _roots(pattern: Path, stem: str, directory: Path) -> list[Path]:
    above = _parent(pattern)
    return _under_other_dates(above, stem, "") or [_parent(directory)]


def _parent(path: Path) -> Path:
    return path.parent if path.name not in {"", ".."} else path.resolve().parent


def _names_in(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except OSError:  # not there yet, or not ours to read
        return []
