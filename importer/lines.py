"""The lines of an input, decoded a chunk at a time, and how far in its bytes they reach.

Knows nothing of CSV but that a row without an end must not fill the memory.
"""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from operator import length_hint

from importer.inputs import CHUNK_BYTES
from importer.model import Place

MAX_ROW_BYTES = 2 * 1024 * 1024
_LONGEST_BLANK = len("\r\n")
_EXACT = {"utf-8", "ascii", "iso8859-1", "cp1252"}
"""Encodings whose decoded text, encoded again, is byte for byte what it was, wherever one begins to decode."""


class UndecodableError(Exception):
    """A byte of the text is not in its encoding."""


class RowTooLongError(Exception):
    """A row of the input exceeds MAX_ROW_BYTES: this is hardly a CSV file."""


class Lines:
    """The lines of a stream, each with its end: LF, CR LF or CR.

    An iterator's read-ahead would hide how far it is, so all lines come from one list: that of the present chunk.
    """

    def __init__(self, stream: io.BufferedReader, encoding: str, finished: Callable[[], int]) -> None:
        """Read nothing yet. `finished` is a number that changes with every row that the reader has finished.

        Raises LookupError or ValueError where there is no such encoding of text.
        """
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # the one that tells encodings of text from others
        self._stream = stream
        self._finished = finished
        self._last_finished = finished()
        self._row_bytes = 0
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._encoding = encoding
        self._is_exact = codecs.lookup(encoding).name in _EXACT
        self._rest = ""  # the beginning of a line that has not ended yet
        self._ended = False
        self._error: UndecodableError | None = None
        self._lines: list[str] = []
        self._remaining: Iterator[str] = iter(self._lines)
        self._loaded = 0  # lines, up to the end of the present chunk
        self._bytes_before = 0  # the present chunk
        self._chunk = b""
        self._hash = hashlib.sha256()  # of the bytes before the present chunk
        self._is_plain = False

    @classmethod
    def after(cls, place: Place, stream: io.BufferedReader, encoding: str, finished: Callable[[], int]) -> Lines | None:
        """Go on after a place of an earlier reading; None if what comes before it is not byte for byte as it was."""
        lines = cls(stream, encoding, finished)
        while missing := place.offset - lines._bytes_before:
            data = stream.read1(min(missing, CHUNK_BYTES))
            if not data:
                return None
            lines._bytes_before += len(data)
            lines._hash.update(data)
        lines._loaded = place.lines
        return lines if lines._hash.digest() == place.digest else None

    def __iter__(self) -> Iterator[str]:
        """Yield what is left. Raises UndecodableError, and what the stream raises."""
        return chain.from_iterable(self._chunks())

    @property
    def count(self) -> int:
        """How many lines were taken."""
        return self._loaded - length_hint(self._remaining)

    def plain(self, count: int) -> list[str]:
        """Take up to `count` lines of which each is a record for itself: no quote and no blank line is near them.

        An empty list says nothing of what comes.
        """
        return list(islice(self._remaining, count)) if self._has_more() and self._is_plain else []

    def put_back(self, lines: list[str]) -> None:
        """Let lines that were taken be taken again."""
        self._lines = [*lines, *self._remaining]
        self._remaining = iter(self._lines)
        self._is_plain = False

    def place(self) -> Place | None:
        """Tell how far the lines that were taken reach; None where that cannot be told in bytes."""
        if not self._is_exact:
            return None
        ahead = "".join(self._lines[len(self._lines) - length_hint(self._remaining) :])
        taken = len(self._chunk) - len(ahead.encode(self._encoding))
        if taken < 0:  # lines of an earlier chunk were put back
            return None
        digest = self._hash.copy()
        digest.update(self._chunk[:taken])
        return Place(self._bytes_before + taken, self.count, digest.digest())

    def _chunks(self) -> Iterator[Iterator[str]]:
        while self._has_more():
            yield self._remaining

    def _has_more(self) -> bool:
        """Whether a line is left in the present chunk, which is the next one if need be."""
        while not length_hint(self._remaining):
            if self._error is not None:
                raise self._error
            if self._ended:
                return False
            self._load(self._read())
        return True

    def _load(self, text: str) -> None:
        if self._is_exact:
            self._bytes_before += len(self._chunk)
            self._hash.update(self._chunk)
            self._chunk = text.encode(self._encoding)
        self._lines = split_lines(text)
        self._remaining = iter(self._lines)
        self._loaded += len(self._lines)
        self._is_plain = is_plain(self._lines, text)

    def _read(self) -> str:
        """Read on, up to the end of a line."""
        data = self._stream.read1(CHUNK_BYTES)
        self._watch_row(len(data))
        text = self._rest + self._decode(data)
        self._ended = not data
        if self._ended and self._error is None:
            end = len(text)
        else:
            # A CR at the very end may be the first half of a line's end, unless nothing follows.
            end = 1 + max(text.rfind("\n"), text.rfind("\r", 0, None if self._error else -1))
        self._rest = text[end:]
        return text[:end]

    def _watch_row(self, more_bytes: int) -> None:
        if (finished := self._finished()) != self._last_finished:
            self._last_finished, self._row_bytes = finished, 0
        self._row_bytes += more_bytes
        if self._row_bytes > MAX_ROW_BYTES:
            raise RowTooLongError

    def _decode(self, data: bytes) -> str:
        """Decode; what cannot be is an error that has to wait until the lines before it are taken."""
        begun = len(self._decoder.getstate()[0])
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            self._error = UndecodableError(f"the byte 0x{error.object[error.start]:02x} is not {self._encoding}")
            return self._decoder.decode(data[: max(0, error.start - begun)])


def split_lines(text: str) -> list[str]:
    """Split after LF, CR LF and CR, and nowhere else."""
    lines = text.splitlines(keepends=True)
    if len(lines) == text.count("\n") + (not text.endswith("\n")):
        return lines
    # Something else ends a line too, for Python: a lone CR, a form feed, a line separator, …
    return list(io.StringIO(text, newline=""))


def is_plain(lines: Sequence[str], text: str) -> bool:
    """Whether each line is a record, and its cells stand between delimiters as they are.

    That is: nothing in their text is quoted, no line is blank, and no cell can be too long.
    """
    return '"' not in text and len(text) <= 2 * CHUNK_BYTES and min(map(len, lines), default=0) > _LONGEST_BLANK
