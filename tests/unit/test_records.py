"""The records of a CSV input are what the standard library says; where it cannot be read on, the line is exact."""

from __future__ import annotations

import codecs
import os
import threading
import tracemalloc
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from importer.errors import ImporterError, InputError, SettingsError
from importer.inputs import Input
from importer.lines import MAX_ROW_BYTES
from importer.records import MAX_CELL_CHARACTERS, Records
from tests.builders import COMPRESSIONS, bare, error_of, opened, sid, standard_input


@contextmanager
def recorded(data: bytes | str, **options: Any) -> Iterator[Records]:
    with opened(data) as source:
        yield Records(source, **({"encoding": "utf-8", "delimiter": None, "column": 1} | options))


def records_of(data: bytes | str, **options: Any) -> list[list[str]]:
    with recorded(data, **options) as records:
        return [records.first, *records]


@pytest.mark.parametrize(
    ("data", "records"),
    [
        pytest.param("a,b\nc,d\n", [["a", "b"], ["c", "d"]], id="LF"),
        pytest.param("a,b\r\nc,d\r\n", [["a", "b"], ["c", "d"]], id="CRLF"),
        pytest.param("a,b\rc,d\r", [["a", "b"], ["c", "d"]], id="CR"),
        pytest.param("a,b\r\nc,d\ne,f\rg,h", [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]], id="mixed, no last end"),
        pytest.param("\n\r\n\na,b\n\n\r\n\rc,d\n\n", [["a", "b"], ["c", "d"]], id="blank lines"),
        pytest.param('"a\nb","c\r\nd"\ne,f\n', [["a\nb", "c\r\nd"], ["e", "f"]], id="line breaks in cells"),
        pytest.param('"a\n\n\nb",c\n', [["a\n\n\nb", "c"]], id="blank lines in a cell"),
        pytest.param('"a ""b"" c","d,e"\n', [['a "b" c', "d,e"]], id="quotes and delimiters in cells"),
        pytest.param('5" pipe,x\ny,z\n', [['5" pipe', "x"], ["y", "z"]], id="a quote within a cell"),
        pytest.param("a\nb,c\n,,,\n", [["a"], ["b", "c"], ["", "", "", ""]], id="ragged"),
        pytest.param('""\nx\n', [[""], ["x"]], id="an empty cell is no blank line"),
        pytest.param("a,\0b\n", [["a", "\0b"]], id="NUL"),
        pytest.param("a,\u2028b\x0bc\x85d\n", [["a", "\u2028b\x0bc\x85d"]], id="only CR and LF end a line"),
    ],
)
def test_records_are_those_of_the_file(data: str, records: list[list[str]]) -> None:
    """Line ends of every kind, quoted line breaks, blank lines and ragged rows are read as they are meant."""
    assert records == records_of(data)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", "é,b\n".encode()),
        ("utf-8", codecs.BOM_UTF8 + "é,b\n".encode()),
        ("UTF8", codecs.BOM_UTF8 + "é,b\n".encode()),
        ("u8", codecs.BOM_UTF8 + '"é",b\n'.encode()),
        ("utf-8", codecs.BOM_UTF8 + "\r\n\né,b\n".encode()),
        ("utf-8", b"\n" + codecs.BOM_UTF8 + "é,b\n".encode()),
        ("utf-8-sig", codecs.BOM_UTF8 + "é,b\n".encode()),
        ("utf-16", "é,b\n".encode("utf-16")),
        ("utf-16", codecs.BOM_UTF16_BE + "é,b\n".encode("utf-16-be")),
        ("utf-16-le", "\ufeffé,b\r\n".encode("utf-16-le")),
        ("utf-16-be", '\ufeff"é",b\n'.encode("utf-16-be")),
        ("utf-32", "é,b\n".encode("utf-32")),
        ("cp1252", "é,b\n".encode("cp1252")),
        ("cp037", "é,b\n".encode("cp037")),
    ],
)
def test_encodings_and_byte_order_marks(encoding: str, data: bytes) -> None:
    """A byte order mark is no part of the first cell, whatever the encoding is called."""
    assert records_of(data, encoding=encoding) == [["é", "b"]]


@pytest.mark.parametrize(("encoding", "has_mark"), [("utf-8", False), ("utf-8-sig", True), ("utf-16-le", False)])
def test_a_byte_order_mark_is_remembered(encoding: str, has_mark: bool) -> None:
    """Whoever copies the input knows whether a byte order mark stood before it."""
    with recorded("a,b\n".encode(encoding)) as records:
        assert has_mark == records.has_mark


@pytest.mark.parametrize("encoding", ["klingon", "", "rot13", "utf-8\0", "utf-8\ud800"])
def test_an_unknown_encoding_is_a_wrong_setting(encoding: str) -> None:
    """An encoding that there is not is an error that names the setting."""
    with opened("a\n") as source, pytest.raises(SettingsError) as caught:
        Records(source, encoding=encoding, delimiter=None, column=1)

    assert f"input.encoding: Python knows no text encoding {encoding!r}." == str(caught.value)


@pytest.mark.parametrize("blank", ["\n", "\r\n\r\n\n", "\ufeff", "\ufeff\n\n"])
def test_only_blank_lines_are_an_error(blank: str) -> None:
    """A file without a single record is said to be one."""
    assert error_of(blank) == "the input has only blank lines; expected rows of contact sids."


def test_first_record_can_be_put_back() -> None:
    """A first record that is no header is read again, once and in its place."""
    with recorded("a\nb\nc\n") as records:
        records.put_back_first()

        assert list(records) == [["a"], ["b"], ["c"]]


def test_text_is_kept_as_it_stands() -> None:
    """The text of a record has its own quotes, line breaks and line end, and no other record's."""
    texts = ["a,b\r\n", '"c\n\n ""d""",e\n', "f,\n", "g"]
    with recorded("\ufeff\n" + "\n\r\n".join(texts), keep_text=True) as records:
        kept = [records.text]
        kept += [records.text for _ in records]

    assert texts == kept


GOOD = f"name,contact_sid\nx,{sid(1)}\n"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(
            f'{GOOD}y,"{sid(2)}\nz,{sid(3)}\n',
            "lines 3 to 4: a quote in the row that begins in line 3 is never closed. Mend the file and start again.",
            id="unclosed quote",
        ),
        pytest.param(
            f'{GOOD}y,"{sid(2)}',
            "line 3: a quote in the row that begins in line 3 is never closed. Mend the file and start again.",
            id="unclosed quote in the last line",
        ),
        pytest.param(
            '"name,contact_sid\nx,y\n',
            "lines 1 to 2: a quote in the row that begins in line 1 is never closed. Mend the file and start again.",
            id="unclosed quote in the header",
        ),
        pytest.param(
            f'{bare(1, 2)}"abc\n',
            "line 3: a quote in the row that begins in line 3 is never closed. Mend the file and start again.",
            id="unclosed quote among bare sids",
        ),
        pytest.param(
            f'\n\r\n{GOOD}\n\n"a\n\r\nb",{sid(2)}\n\ny,"c\nd" e\n',
            "lines 11 to 12: not valid CSV: ',' expected after '\"'. Mend the file and start again.",
            id="stray text after a quote, after blank lines and line breaks in cells",
        ),
        pytest.param(
            f'{GOOD}"x"y,{sid(2)}\n',
            "line 3: not valid CSV: ',' expected after '\"'. Mend the file and start again.",
            id="stray text after a quote",
        ),
        pytest.param(
            f'name;contact_sid\n"x" ;{sid(2)}\n',
            "line 2: not valid CSV: ';' expected after '\"'. Mend the file and start again.",
            id="a blank after a quote",
        ),
        pytest.param(
            f"{GOOD}{'x,y' * 1000}\n" * 20 + f'x,"{"y" * (MAX_CELL_CHARACTERS + 1)}"\n',
            f"line 61: a cell has more than {MAX_CELL_CHARACTERS:,} characters: a quote opened here is hardly ever "
            "closed. Mend the file and start again.",
            id="huge cell",
        ),
        pytest.param(
            GOOD + "\n" * 7 + "x" * (MAX_ROW_BYTES + 200_000),
            f"line 10: the row that begins here is longer than {MAX_ROW_BYTES:,} bytes. Is this a CSV file?",
            id="line without an end",
        ),
        pytest.param(
            "x" * (MAX_ROW_BYTES + 200_000),
            f"line 1: the row that begins here is longer than {MAX_ROW_BYTES:,} bytes. Is this a CSV file?",
            id="first line without an end",
        ),
        pytest.param(
            GOOD + '"' + '","\n' * (MAX_ROW_BYTES // 4 + 100_000),
            f"line 3: the row that begins here is longer than {MAX_ROW_BYTES:,} bytes. Is this a CSV file?",
            id="row of small cells without an end",
        ),
    ],
)
def test_error_names_the_line(data: str, error: str) -> None:
    """What is not CSV is one error, with the line in which the bad row begins."""
    assert error == error_of(data)


def test_a_long_first_line_is_no_error() -> None:
    """A header may be as long as any other row."""
    assert records_of("x" * 200_000 + ",b\n") == [["x" * 200_000, "b"]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("encoding", "bad"),
    [
        ("utf-8", b"\xe9"),  # as cp1252 has it
        ("utf-8", b"\xe2\x82"),  # the beginning of a character
        ("utf-8", b"\xed\xa0\x80"),  # half of a character of UTF-16
        ("utf-16-le", b"\x00\xdc"),
        ("utf-16-be", b"\xdc\x00"),
        ("cp1252", b"\x81"),
        ("shift_jis", b"\x82\x20"),
        ("ascii", b"\xc3"),
    ],
)
@pytest.mark.parametrize("before_bytes", [0, 8150, 8192, 65_500, 65_536, 131_072])
def test_line_of_a_byte_that_is_not_in_the_encoding(encoding: str, bad: bytes, end: str, before_bytes: int) -> None:
    """The line of a wrong byte is exact, wherever in the chunks of reading it lies, and the byte is shown."""
    sign = {"ascii": "e", "shift_jis": "ア"}.get(encoding, "€")
    wrong = []
    for shift in range(0, 90, 29):
        line = f"x{sign * 9},{sid(1)}{end}".encode(encoding)
        first = f"n{'x' * shift},contact_sid{end}".encode(encoding)
        number = before_bytes // len(line)
        data = first + line * number + "xy".encode(encoding) + bad + line * 3
        error = error_of(data, encoding=encoding)
        if not error.startswith(f"line {number + 2}: the byte 0x") or f"is not {encoding}. Set input.enc" not in error:
            wrong.append((shift, error))

    assert wrong == []


@settings(max_examples=25)
@given(
    lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters='\r\n",'), max_size=30), max_size=100),
    repeat=st.integers(1, 30),
    end=st.sampled_from(["\n", "\r\n"]),
)
@example(lines=["€" * 29], repeat=20, end="\r\n")
def test_line_of_a_wrong_byte_in_any_text(lines: list[str], repeat: int, end: str) -> None:
    """Whatever the lines before it are, blank ones included, the line of a wrong byte is exact."""
    text = "".join(f"{line}{end}" for line in ["contact_sid", *lines * repeat])
    error = error_of(text.encode() + b"xx\xff\n", sid_pattern=".*")

    assert f"line {len(lines) * repeat + 2}: the byte 0xff is not utf-8. Set input.encoding to what the file has." == (
        error
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "shift_jis", "gb18030"])
def test_characters_across_the_chunks_of_reading(encoding: str) -> None:
    """A character whose bytes lie in two chunks is read as one."""
    for shift in range(4):
        rows = [["x" * shift + "語" * 20, str(number)] for number in range(1500)]
        text = "".join(",".join(row) + "\r\n" for row in rows)

        assert rows == records_of(text.encode(encoding), encoding=encoding, delimiter=",")


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_damaged_compression_is_explained(name: str) -> None:
    """Compressed data that ends too early is said to, with the line up to which it was read."""
    whole = COMPRESSIONS[name](GOOD.encode()) + COMPRESSIONS[name](f"y,{sid(2)}\n".encode() * 5_000)
    error = error_of(whole[:-1])

    assert error.startswith("after line ")
    assert "the compressed data is damaged or cut short (" in error
    assert error.endswith("Get the file again.")


def test_a_failing_device_is_explained() -> None:
    """An input that suddenly cannot be read on is one error with the line, and no traceback."""
    terminal, program = os.openpty()
    tty.setraw(program)

    def write() -> None:
        with os.fdopen(program, "wb", buffering=0) as device:
            for number in range(1000):
                device.write(bare(number).encode())

    writer = threading.Thread(target=write)
    writer.start()
    with standard_input(terminal):
        os.close(terminal)
        records = Records(Input("-"), encoding="utf-8", delimiter=None, column="contact_sid")
        with pytest.raises(InputError) as caught:
            list(records)
        writer.join()

    assert str(caught.value) == "standard input, after line 1000: cannot be read on: Input/output error."


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: "\r\n" * 200_000 + "contact_sid\n", id="blank lines before the header"),
        pytest.param(lambda: "contact_sid\n" + "\r\n" * 200_000, id="blank lines after the header"),
        pytest.param(lambda: f"contact_sid,x\n{sid(1)},{'y' * 100_000}\n" * 300, id="wide cells"),
        pytest.param(lambda: f"contact_sid{',ab' * 20_000}\n" * 6, id="many cells"),
        pytest.param(lambda: "contact_sid\n" + '"' + '","\n' * 1_000_000, id="an endless row"),
        pytest.param(lambda: 'contact_sid\n"' + "xyz\n" * 2_000_000, id="an endless cell"),
        pytest.param(lambda: "contact_sid\n" + "x" * 20_000_000, id="an endless line"),
        pytest.param(lambda: '"contact_sid\n' + "x\n" * 3_000_000, id="an endless header"),
    ],
)
def test_memory_is_bounded_whatever_the_input(make: Callable[[], str]) -> None:
    """However long lines, cells, rows or stretches of blank lines are, little of them is held at a time."""
    with opened(make()) as source:
        tracemalloc.start()
        try:
            records = Records(source, encoding="utf-8", delimiter=None, column="contact_sid")
            while records.take(5000):
                pass
        except ImporterError:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 9_000_000


def test_text_without_line_ends_is_refused_in_any_encoding() -> None:
    """Bytes that look like line ends within other characters do not hide that a row has no end."""
    error = error_of(("\u0a0a\u0d0d" * (MAX_ROW_BYTES // 2)).encode("utf-16-le"), encoding="utf-16-le")

    assert error.startswith("line 1: the row that begins here is longer than ")
