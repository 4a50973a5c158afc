"""Lines are those of the text, however it comes in; and the place that is reached in it is told to the byte."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from importer.errors import InputError
from importer.inputs import Input
from importer.lines import MAX_ROW_BYTES, Lines, RowTooLongError, UndecodableError, is_plain, split_lines
from importer.model import Place
from importer.records import Records, plain_cells
from tests.builders import opened, piped

TEXTS = st.text(alphabet='ab,"\n\r\x0b\x0c\x1c\x85\u2028é\0', max_size=40)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "shift_jis", "latin-1"])


class Pieces(io.RawIOBase):
    """A stream that gives its bytes in pieces of these sizes, again and again."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = sizes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._sizes.pop(0)
        self._sizes.append(size)
        data = self._data.read(min(size, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def lines_of(data: bytes, sizes: list[int], encoding: str = "utf-8") -> Lines:
    return Lines(io.BufferedReader(Pieces(data, sizes)), encoding, count().__next__)


@given(TEXTS)
@example("a\x0b")
@example("a\x0bb\x0b")
@example("a\r")
@example("\r\n\r\n")
def test_lines_are_split_as_a_file_is(text: str) -> None:
    """Only LF, CR LF and CR end a line, whatever else Python takes for an end."""
    assert list(io.StringIO(text, newline="")) == split_lines(text)


@given(TEXTS, st.lists(st.integers(1, 7), min_size=1, max_size=4), ENCODINGS)
def test_lines_are_those_of_the_text(text: str, sizes: list[int], encoding: str) -> None:
    """In whatever pieces its bytes come."""
    data = text.encode(encoding, "replace")
    expected = list(io.TextIOWrapper(io.BytesIO(data), encoding, newline=""))

    assert expected == list(lines_of(data, sizes, encoding))


@given(TEXTS, st.lists(st.integers(1, 7), min_size=1, max_size=4), st.sampled_from([b"\xff", b"\xc3", b"\xe2\x82"]))
def test_lines_before_a_wrong_byte_are_given(text: str, sizes: list[int], bad: bytes) -> None:
    """All whole ones, and then the error: what is cut short is never given for a line."""
    whole = list(io.StringIO(text, newline=""))
    if whole and not whole[-1].endswith(("\n", "\r")):
        whole.pop()
    lines = lines_of(text.encode() + bad, sizes)
    before: list[str] = []
    with pytest.raises(UndecodableError, match=f"the byte 0x{bad[0]:02x} is not utf-8"):
        before.extend(lines)

    assert whole == before
    assert len(whole) == lines.count


@given(TEXTS, st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 12), st.integers(0, 3))
def test_place_is_exact(text: str, sizes: list[int], taken: int, back: int) -> None:
    """It is where the lines end that were taken, with the digest of all before it, even if some are put back."""
    lines = lines_of(text.encode(), sizes)
    first = list(islice(lines, taken))
    lines.put_back(first[len(first) - back :])
    read = "".join(first[: len(first) - back] if back <= len(first) else []).encode()
    place = lines.place()

    assert place in {None, Place(len(read), max(0, len(first) - back), hashlib.sha256(read).digest())}
    assert place is not None or back


@given(TEXTS, st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(0, 12))
def test_reading_goes_on_at_a_place(text: str, sizes: list[int], taken: int) -> None:
    """What comes after it is what came after it; if a byte before it is another one, nothing comes."""
    data = text.encode()
    lines = lines_of(data, sizes)
    first = list(islice(lines, taken))
    place = lines.place()
    assert place is not None
    again = Lines.after(place, io.BufferedReader(Pieces(data, sizes)), "utf-8", count().__next__)
    assert again is not None
    at = place.offset // 2
    other = data[:at] + bytes([data[at] ^ 1 if data else 0]) + data[at + 1 :] if data else b""

    assert len(first) == again.count
    assert list(lines) == list(again)
    if place.offset:
        assert Lines.after(place, io.BufferedReader(Pieces(other, sizes)), "utf-8", int) is None
        assert Lines.after(place, io.BufferedReader(Pieces(data[: place.offset - 1], sizes)), "utf-8", int) is None


@given(TEXTS, st.integers(0, 2), st.sampled_from([",", ";"]))
def test_cells_of_plain_text(text: str, position: int, delimiter: str) -> None:
    """Where a text is plain, cutting its lines at the delimiters gives the cells of the CSV parser."""
    records = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = split_lines(text)
    if is_plain(lines, text):
        expected = [record[position].strip() if position < len(record) else None for record in records]

        assert expected == plain_cells(lines, delimiter, position)


@given(
    st.lists(st.text(alphabet='ab,"\n\r\u2028é ', max_size=20), min_size=1, max_size=6),
    st.integers(0, 2),
    st.integers(1, 5),
    st.lists(st.integers(1, 4), max_size=20),
)
def test_cells_are_those_of_the_records(parts: list[str], position: int, piece: int, counts: list[int]) -> None:
    """Plain stretches, quoted ones and errors, in whatever pieces they are read: the cells are the parser's."""
    data = ("x,y\n" + "\n".join(parts)).encode()

    def cells_or_error(read: Callable[[Records], Iterator[str | None]]) -> tuple[list[str | None], str]:
        got: list[str | None] = []
        with piped(data, piece) as source:
            records = Records(source, encoding="utf-8", delimiter=",", column=1)
            try:
                got.extend(read(records))
            except InputError as error:
                return got, str(error)
        return got, ""

    def by_records(records: Records) -> Iterator[str | None]:
        for record in records:
            yield record[position].strip() if position < len(record) else None

    def by_cells(records: Records) -> Iterator[str | None]:
        sizes = iter(counts)
        while cells := records.cells(next(sizes, 3), position):
            yield from cells

    assert cells_or_error(by_records)[1] == cells_or_error(by_cells)[1]
    assert cells_or_error(by_records)[0] == cells_or_error(by_cells)[0][: len(cells_or_error(by_records)[0])]


@contextmanager
def _zeros() -> Iterator[Input]:
    with closing(Input("/dev/zero")) as source:
        yield source


@contextmanager
def _bomb() -> Iterator[Input]:
    with opened(gzip.compress(bytes(50_000_000), 1)) as source:
        yield source


@pytest.mark.parametrize("endless", [_zeros, _bomb], ids=["device", "compressed"])
def test_a_row_without_an_end_is_refused_early(endless: Callable[[], AbstractContextManager[Input]]) -> None:
    """A reader that finishes no row is given MAX_ROW_BYTES at most, in bounded memory."""
    with endless() as source:
        lines = Lines(source.stream(), "utf-8", lambda: 0)
        tracemalloc.start()
        with pytest.raises(RowTooLongError):
            next(iter(lines))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 4 * MAX_ROW_BYTES


def test_rows_may_go_on_for_ever() -> None:
    """A reader that finishes rows is never refused, however much it reads."""
    with opened(b"x" * 99 + b"\n" + b"abc\n" * (MAX_ROW_BYTES // 2)) as source:
        lines = Lines(source.stream(), "utf-8", count().__next__)

        assert sum(1 for _ in lines) == 1 + MAX_ROW_BYTES // 2
