"""About how many rows an input has, for those who watch a run: counted beside it, from line ends, at next to no cost.

Exact where each line is a row. It never waits, never fails, and never knows the length of a pipe.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile

from importer.errors import InputError
from importer.inputs import DAMAGED_STREAM_ERRORS, Input
from importer.state import Identity

_CHUNK_BYTES = 256 * 1024  # short enough that counting in it keeps nobody else from working
_HEAD_BYTES = 256 * 1024
_DIGITS = 3  # of an estimate
_BEGINNING_BYTES = 4 * 1024 * 1024
_UNREADABLE = (OSError, ValueError, InputError, csv.Error, *DAMAGED_STREAM_ERRORS)


class Total:
    """The number of an input's data rows, as soon as it is known."""

    def __init__(self, identity: Identity) -> None:
        """Count nothing yet."""
        self.rows: int | None = None
        self._identity = identity
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to count, in a thread that holds up nobody's exit; once, however often it is asked for."""
        is_file = self._identity.size_bytes is not None and self._identity.location != "-"
        if self._thread is None and is_file:
            self._thread = threading.Thread(target=self._count, name="total", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Count no further."""
        self._stopped.set()

    def join(self) -> None:
        """Wait until it is counted."""
        if self._thread is not None:
            self._thread.join()

    def _count(self) -> None:
        identity = self._identity
        with suppress(*_UNREADABLE), Path(identity.location).open("rb", buffering=0) as file:
            head = _decompressed_head(identity.location)
            end = b"\n" if b"\n" in head else b"\r"
            if file.read(len(head)) == head:
                file.seek(0)
                lines: float = self._count_lines(iter(partial(file.read, _CHUNK_BYTES), b""), end)
            else:
                # Compressed. To decompress it twice costs too much: the rest is taken to be as the beginning is.
                file.seek(0)
                beginning = file.read(_BEGINNING_BYTES)
                share = len(beginning) / os.fstat(file.fileno()).st_size
                lines = self._count_lines(_decompressed(beginning), end) / share
            if not self._stopped.is_set():
                rows = lines * _rows_per_line(head, identity.encoding, identity.delimiter) - identity.has_header
                self.rows = max(0, int(rows if rows.is_integer() else float(f"{rows:.{_DIGITS}g}")))

    def _count_lines(self, chunks: Iterable[bytes], end: bytes) -> int:
        lines, last = 0, end
        for chunk in chunks:
            if self._stopped.is_set():
                break
            lines += chunk.count(end)
            last = chunk
        return lines + (not last.endswith((end, b"\0")))  # the last line may lack its end


def _decompressed_head(path: str) -> bytes:
    with closing(Input(path)) as source, source.stream() as stream:
        return stream.read(_HEAD_BYTES)


def _decompressed(beginning: bytes) -> Iterator[bytes]:
    """Yield what the first bytes of a compressed file hold."""
    with NamedTemporaryFile() as file:
        file.write(beginning)
        file.flush()
        with suppress(*DAMAGED_STREAM_ERRORS), closing(Input(file.name)) as cut, cut.stream() as stream:
            while chunk := stream.read1(_CHUNK_BYTES):
                yield chunk


def _rows_per_line(head: bytes, encoding: str, delimiter: str) -> float:
    """Tell how many rows a line makes up, by the first lines: fewer than one where there are blank ones, or breaks."""
    lines = list(io.StringIO(head.decode(encoding, "replace"), newline=""))
    rows = sum(1 for record in csv.reader(lines, delimiter=delimiter) if record)
    return rows / max(1, len(lines))
