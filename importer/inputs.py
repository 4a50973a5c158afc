"""The input's bytes: a file, a pipe or standard input, decompressed, with a bound on a line's length.

Knows nothing of CSV. A damaged or cut compressed stream is an error, never an early end of the data.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
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

MAX_LINE_BYTES = 1024 * 1024
DAMAGED_STREAM_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstd.ZstdError)
_HEAD_BYTES = 4096
_CHUNK_BYTES = 64 * 1024


class LineTooLongError(Exception):
    """A line of the input exceeds MAX_LINE_BYTES: this is hardly a CSV file."""


class Input:
    """An opened input. Its identity is cheap to take: the size and a sample of the content.

    A stream that cannot be rewound (standard input, a pipe) is identified by its first bytes alone.
    """

    def __init__(self, location: str) -> None:
        """Open `location`, a path or `-` for standard input. Raises InputError."""
        self.location = location
        self._raw = _open(location)
        status = os.fstat(self._raw.fileno())
        self.size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        try:
            head = _read_head(self._raw)
            if not head:
                raise InputError(f"{self.name}: the input is empty; expected a header and rows of contact sids.")
            sample = hashlib.sha256(head)
            if self.size_bytes is not None and self._raw.seekable():
                for part in (1, 2, 3):
                    self._raw.seek(max(0, self.size_bytes * part // 3 - _HEAD_BYTES))
                    sample.update(self._raw.read(_HEAD_BYTES))
                self._raw.seek(len(head))
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error.strerror}.") from error
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

    def stream(self) -> io.BufferedReader:
        """Give the decompressed bytes from the beginning; once only."""
        raw: io.RawIOBase = _Prefixed(self._head, self._raw)
        for magic, decompress in _FORMATS.items():
            if re.match(magic, self._head, re.DOTALL):
                raw = decompress(io.BufferedReader(raw, _CHUNK_BYTES))
                break
        return io.BufferedReader(_BoundedLines(raw), _CHUNK_BYTES)

    def close(self) -> None:
        """Release the file; standard input stays open."""
        self._raw.close()


def _open(location: str) -> io.FileIO:
    if location == "-":
        # An own, unbuffered handle: a thread that waits in it holds no lock that the exit needs.
        return io.FileIO(0, closefd=False)
    try:
        return io.FileIO(location)
    except FileNotFoundError:
        raise InputError(f"{location}: no such file.") from None
    except IsADirectoryError:
        raise InputError(f"{location}: is a directory; name a CSV file in it.") from None
    except PermissionError:
        raise InputError(f"{location}: no permission to read it.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{location}: cannot be opened: {error}.") from error


def _read_head(raw: io.FileIO) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := raw.read(_HEAD_BYTES - len(head))):
        head += chunk
    return head


class _Prefixed(io.RawIOBase):
    """Bytes already read, then the rest of the file they came from."""

    def __init__(self, head: bytes, rest: io.FileIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._head:
            return self._rest.readinto(buffer)
        count = min(len(buffer), len(self._head))
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count


class _BoundedLines(io.RawIOBase):
    """Passes bytes on, and refuses a line without an end before it fills the memory."""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source
        self._line_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._source.readinto(buffer)
        if count:
            chunk = bytes(buffer[:count])
            end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
            self._line_bytes = count - end - 1 if end >= 0 else self._line_bytes + count
            if self._line_bytes > MAX_LINE_BYTES:
                raise LineTooLongError
        return count


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
                data = (self._stream.unused_data or self._source.read1(_CHUNK_BYTES)).lstrip(b"\0")
                if not data and not self._source.peek(1):
                    return 0
                self._stream = self._new()
            elif self._stream.needs_input and not (data := self._source.read1(_CHUNK_BYTES)):
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
