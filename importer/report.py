"""report.jsonl: one JSON object for each row. Its lines, and the file that they are appended to."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import aiofiles
import aiofiles.os
import msgspec
from aiofiles.threadpool.binary import AsyncFileIO

from importer.errors import RunDirectoryError
from importer.model import ApiError, BatchResult, ContactResult, Outcome

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ContactResult)
_fsync = aiofiles.os.wrap(os.fsync)


class CommonLine(msgspec.Struct, frozen=True, gc=False):
    """A ContactResult of which all but row and sid is JSON already: most contacts of a batch have it in common."""

    row: int
    contact_sid: str
    outcome: msgspec.Raw  # and all that follows it


def lines_of(result: BatchResult, mask: Callable[[str], str] = str) -> list[CommonLine | ContactResult]:
    """Give a line for each row of the batch, in the input's order; `mask` takes secrets out of the API's words."""
    batch = result.batch
    assert len(batch.rows) == len(batch.sids) == len(result.verdicts) == len(result.attempts)  # noqa: S101
    lines: list[CommonLine | ContactResult] = []
    if batch.sids:  # a quote within the sid is escaped, so that it cannot hold the key that is looked for
        _, _, common = _encoder.encode(_line_of(result, 0, mask)).partition(b'"outcome":')
        lines += map(CommonLine, batch.rows, batch.sids, repeat(msgspec.Raw(common.removesuffix(b"}"))))
    for position in {*_others(result.verdicts), *_others(result.attempts)}:
        lines[position] = _line_of(result, position, mask)
    if batch.unsent:
        lines += batch.unsent
        lines.sort(key=attrgetter("row"))
    return lines


def _line_of(result: BatchResult, position: int, mask: Callable[[str], str]) -> ContactResult:
    batch, verdict = result.batch, result.verdicts[position]
    if (error := verdict.error) is not None:
        words = [text and mask(text) for text in (error.message, error.description)]
        error = ApiError(error.code, *words)
    return ContactResult(
        batch.rows[position],
        batch.sids[position],
        verdict.outcome,
        batch.number,
        result.attempts[position],
        verdict.code,
        error,
        verdict.reason,
    )


def _others(values: Sequence[object]) -> list[int]:
    """Positions of all values but those that are as the first; mostly there are none, which is told at a glance."""
    first = values[0] if values else None
    if values.count(first) == len(values):
        return []
    return [position for position, value in enumerate(values) if value is not first]


def encode(lines: Sequence[CommonLine | ContactResult]) -> bytes:
    """Give the lines as they stand in the report, each with its line end."""
    return _encoder.encode_lines(lines)


def read_lines(path: Path, start: int, end: int) -> list[ContactResult]:
    """Read the lines between two places in the report, in bytes. Raises OSError, or ValueError where one is none."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(end - start)
    if len(data) < end - start or not data.endswith(b"\n"):
        raise ValueError(f"{path}: ends within a line")
    return _decoder.decode_lines(data)


def count_outcomes(result: BatchResult) -> dict[Outcome, int]:
    """Count the batch's rows by what became of them."""
    verdicts, others = result.verdicts, _others(result.verdicts)
    counts = Counter({verdicts[0].outcome: len(verdicts) - len(others)} if verdicts else {})
    counts.update(verdicts[position].outcome for position in others)
    counts.update(line.outcome for line in result.batch.unsent)
    return counts


class Appendable(Protocol):
    """A file that grows at its end."""

    async def append(self, data: bytes) -> None:
        """Write at the end. Raises OSError."""
        ...

    async def sync(self) -> None:
        """Let what was written survive a loss of power. Raises OSError."""
        ...


class ReportFile:
    """The report, opened to be appended to; written off the event loop, and past any buffer of ours."""

    def __init__(self, path: Path, file: AsyncFileIO, size: int) -> None:
        """Use `open` instead."""
        self._path = path
        self._file = file
        self._size = size

    @classmethod
    async def open(cls, path: Path) -> ReportFile:
        """Open the file, or create it. Raises OSError."""
        opening = asyncio.create_task(_open(path))
        try:
            file = await asyncio.shield(opening)
            return cls(path, file, os.fstat(file.fileno()).st_size)
        except asyncio.CancelledError:
            with suppress(OSError):
                await (await opening).close()  # nobody else would
            raise

    async def append(self, data: bytes) -> None:
        """Write at the end. Raises OSError, then with a torn end that the next process cuts off."""
        written = 0
        while written < len(data):
            count = await self._file.write(data[written:])
            if not count:
                raise OSError(0, "the disk takes no more", str(self._path))
            written += count
        self._size += written

    async def sync(self) -> None:
        """Let what was written survive a loss of power.

        Raises OSError, or RunDirectoryError where somebody else had a hand in the file: what is written from then on
        might stand nowhere.
        """
        await asyncio.to_thread(self._sync)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        ours = os.fstat(self._file.fileno())
        try:
            theirs = self._path.stat()
        except FileNotFoundError:
            theirs = None
        if theirs is None or not os.path.samestat(ours, theirs) or ours.st_size != self._size:
            raise RunDirectoryError(
                f"{self._path}: was removed, replaced or changed while the run was writing it. Restore it as it "
                "was, or start anew in another directory with --run-dir; contacts that are in the list are then told "
                "already_present."
            )

    async def close(self) -> None:
        """Close the file."""
        await self._file.close()


async def _open(path: Path) -> AsyncFileIO:
    file = await aiofiles.open(path, "ab", buffering=0, opener=_private)
    try:
        await sync_directory(path.parent)
    except OSError:
        await file.close()
        raise
    return file


async def sync_directory(directory: Path) -> None:
    """Let the names of new files survive a loss of power. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        await _fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
