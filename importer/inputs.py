"""The input's bytes: a file, a pipe or standard input, decompressed.

Knows nothing of CSV. A damaged or cut compressed stream is an error, never an early end of the data.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import select
import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from importer.errors import InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAMAGED_STREAM_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstd.ZstdError)
_HEAD_BYTES = 4096
_SAMPLE_BYTES = 64 * 1024
_SAMPLES = 256
CHUNK_BYTES = 64 * 1024


class Input:
    """An opened input. Its identity is cheap to take: the size and a sample of the content, all of it up to 16 MiB.

    A stream that cannot be rewound (standard input, a pipe) is identified by its first bytes alone.
    """

    def __init__(self, location: str) -> None:
        """Open `location`, a path or `-` for standard input. Raises InputError."""
        self.location = location
        self._raw = _open(location)
        self._opened = os.fstat(self._raw.fileno())
        self.size_bytes = self._opened.st_size if stat.S_ISREG(self._opened.st_mode) else None
        try:
            # Standard input may be a file of which something was read before.
            self._begin = 0 if self.size_bytes is None else self._raw.tell()
            head = _read_head(self._raw)
            sample = hashlib.blake2b(head, digest_size=16)
            if self.size_bytes is not None:
                for position in _sample_positions(self.size_bytes):
                    sample.update(os.pread(self._raw.fileno(), _SAMPLE_BYTES, position))
        except OSError as error:
            self.close()
            raise InputError(f"{self.name}: cannot be read: {error.strerror}.") from error
        if not head:
            self.close()
            raise InputError(f"{self.name}: the input is empty; expected a header and rows of contact sids.")
        self.sample = sample.hexdigest()
        self._head = head

    @property
    def name(self) -> str:
        """The input as messages call it."""
        return "standard input" if self.location == "-" else self.location

    @property
    def stem(self) -> str:
        """The file's name without its endings, safe as part of a directory's name."""
        stem = "stdin" if self.location == "-" else Path(self.location).name.split(".")[0]
        return re.sub(r"[^\w-]+", "-", stem).strip("-") or "input"

    @property
    def is_rewindable(self) -> bool:
        """Whether its bytes can be read more than once."""
        return self.size_bytes is not None

    def stream(self) -> io.BufferedReader:
        """Give the decompressed bytes from the beginning; more than once, side by side, if it is rewindable."""
        is_file = self.is_rewindable
        raw: io.RawIOBase = _File(self._raw, self._begin, self._opened) if is_file else _Pipe(self._head, self._raw)
        for magic, decompress in _FORMATS.items():
            if re.match(magic, self._head, re.DOTALL):
                raw = decompress(io.BufferedReader(raw, CHUNK_BYTES))
                break
        return io.BufferedReader(raw, CHUNK_BYTES)

    def close(self) -> None:
        """Release the file; standard input stays open."""
        self._raw.close()


def _sample_positions(size_bytes: int) -> list[int]:
    """Give where to look: everywhere in a small file, at evenly spaced places of a large one, always at its end."""
    last = max(0, size_bytes - _SAMPLE_BYTES)
    count = min(_SAMPLES, -(-size_bytes // _SAMPLE_BYTES))
    return [last * number // max(1, count - 1) for number in range(count)]


def _open(location: str) -> io.FileIO:
    try:
        if location == "-":
            # An own, unbuffered handle: a thread that waits in it holds no lock that the exit needs.
            return io.FileIO(0, closefd=False)
        return io.FileIO(location)
    except FileNotFoundError:
        raise InputError(f"{location}: no such file.") from None
    except IsADirectoryError:
        raise InputError(f"{location}: is a directory; name a CSV file in it.") from None
    except PermissionError:
        raise InputError(f"{location}: no permission to read it.") from None
    except (OSError, ValueError) as error:
        name = "standard input" if location == "-" else location
        raise InputError(f"{name}: cannot be opened: {error}.") from error


def _read_head(raw: io.FileIO) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := _read(raw, _HEAD_BYTES - len(head))):
        head += chunk
    return head


def _read(raw: io.FileIO, count: int) -> bytes:
    while (data := raw.read(count)) is None:  # of a pipe that does not block: nothing yet, and not the end
        select.select([raw], [], [])
    return data


class _Pipe(io.RawIOBase):
    """Bytes already read, then the rest of the pipe they came from."""

    def __init__(self, head: bytes, rest: io.FileIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            data = _read(self._rest, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _File(io.RawIOBase):
    """A file's bytes, with a position of its own, whoever else reads the file."""

    def __init__(self, file: io.FileIO, begin: int, opened: os.stat_result) -> None:
        self._file = file
        self._position = begin
        self._opened = opened  # what the file was when it was opened

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._file.fileno(), len(buffer), self._position)
        self._position += len(data)
        if not data:
            now = os.fstat(self._file.fileno())
            if (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
                raise OSError(errno.EIO, "somebody changed the file while it was read")
        buffer[: len(data)] = data
        return len(data)


class _Decompressor(Protocol):
    """What bz2 and lzma decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


class _StrictStreams(io.RawIOBase):
    """Concatenated compressed streams, each of them whole.

    The standard library's BZ2File and LZMAFile take whatever follows the first stream and does not
    decompress for the end of the file: a damaged second stream would silently lose the rest of the rows.
    """

    def __init__(self, source: io.BufferedReader, new: Callable[[], _Decompressor]) -> None:
        self._source = source
        self._new = new
        self._stream = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = b""
            if self._stream.eof:
                rest = self._stream.unused_data
                while not (data := rest.lstrip(b"\0")):
                    if not (rest := self._source.read1(CHUNK_BYTES)):
                        return 0
                self._stream = self._new()
            elif self._stream.needs_input and not (data := self._source.read1(CHUNK_BYTES)):
                raise EOFError("the compressed data ends in the middle of a stream")
            try:
                decompressed = self._stream.decompress(data, max_length=len(buffer))
            except (OSError, ValueError) as error:  # how bz2 says that the data is damaged
                raise EOFError(str(error)) from error
            if decompressed:
                buffer[: len(decompressed)] = decompressed
                return len(decompressed)


def _gzip(source: io.BufferedReader) -> io.RawIOBase:
    return gzip.GzipFile(fileobj=source)  # type: ignore[return-value]  # has all that RawIOBase promises


def _zstd(source: io.BufferedReader) -> io.RawIOBase:
    return zstd.ZstdFile(source)  # type: ignore[return-value]  # as above


# Recognised by content, so that a compressed standard input and a misnamed file are read too.
_FORMATS: dict[bytes, Callable[[io.BufferedReader], io.RawIOBase]] = {
    rb"\x1f\x8b\x08": _gzip,
    rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)": lambda source: _StrictStreams(source, bz2.BZ2Decompressor),
    rb"\xfd7zXZ\x00": lambda source: _StrictStreams(source, lzma.LZMADecompressor),
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": _zstd,
}
