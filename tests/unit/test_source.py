"""Batches tile the input's rows once and in order, hold no sid twice, and are cut the same way every time."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importer.errors import InputError
from importer.inputs import Input
from importer.model import Batch, ContactResult, Outcome, Reason
from importer.source import MAX_CELL_SHOWN, MAX_ROWS_PER_CONTACT, CsvSource
from tests.builders import (
    COMPRESSIONS,
    SID_PATTERN,
    SOURCE_DEFAULTS,
    bare,
    batches_of,
    error_of,
    opened,
    piped,
    sid,
    sids_of,
)


class Written(NamedTuple):
    """A CSV as the standard library's writer writes it, and how it is to be read."""

    text: str
    settings: dict[str, Any]
    first_data_record: int  # 1 after a header, 0 without


DELIMITERS = [",", ";", "\t", "|"]
cells = st.one_of(
    st.integers(0, 12).map(sid),
    st.integers(0, 12).map(lambda number: sid(number).upper()),
    st.integers(0, 12).map(lambda number: f" {sid(number)}\t"),
    st.sampled_from(["", " ", "x", "a\nb", "a\r\nb", 'say "hi"', ";,|\t", "é€😀", sid(1)[:-1], sid(1) + "0"]),
    st.text(st.characters(codec="utf-8"), max_size=5),
)
rows = st.lists(st.lists(cells, max_size=4), max_size=60)


@st.composite
def written(draw: st.DrawFn) -> Written:
    delimiter = draw(st.sampled_from(DELIMITERS))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting: Literal[0, 1] = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    header = draw(st.permutations(["Name", draw(st.sampled_from(["contact_sid", " Contact_SID "])), "x y"]))
    with_header = draw(st.booleans())
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    text.write(end * draw(st.integers(0, 2)))
    # The first record tells whether there is a header: a sid in the column by number is data.
    writer.writerow(header if with_header else ["a", sid(0), "b"])
    for row in draw(rows):
        writer.writerow(row)
        text.write(end * draw(st.sampled_from([0, 0, 0, 1, 2])))
    column: str | int = "contact_sid" if with_header else 2
    found = delimiter if draw(st.booleans()) or not with_header else None
    batch_size = draw(st.sampled_from([1, 2, 3, 7, 5000]))
    return Written(
        text.getvalue(),
        SOURCE_DEFAULTS
        # A pattern that anything matches, so that no first batch is refused.
        | {"column": column, "delimiter": found, "batch_size": batch_size, "sid_pattern": f"{SID_PATTERN}|x|é€😀"},
        1 if with_header else 0,
    )


def meant(example: Written, delimiter: str, position: int) -> list[str | None]:
    """The cells in the sid's column, row by row, as the csv module reads them; None where there is no cell."""
    reader = csv.reader(io.StringIO(example.text, newline=""), delimiter=delimiter, strict=True)
    records = [record for record in reader if record][example.first_data_record :]
    return [record[position].strip() if position < len(record) else None for record in records]


def cut(source: Input, **options: Any) -> list[Batch] | str:
    """The batches, or what is said where the first one matches nothing."""
    try:
        return list(CsvSource(source, **options))
    except InputError as error:
        if "no sid stands in" not in str(error):
            raise
        return str(error).removeprefix(source.name)


@given(example=written())
@settings(max_examples=150)
def test_batches_tile_the_rows(example: Written) -> None:
    """Every row stands in one batch, in order, sent or with the reason why not, as the csv module reads it."""
    with opened(example.text) as source:
        batched = CsvSource(source, **example.settings)
        expected = meant(example, batched.delimiter, batched.position)
    with opened(example.text) as source:
        batches = cut(source, **example.settings)
    if isinstance(batches, str):  # the first batch is empty
        return
    pattern = re.compile(example.settings["sid_pattern"])
    size = example.settings["batch_size"]
    next_row = 1
    for number, batch in enumerate(batches, 1):
        sent = dict(zip(batch.rows, batch.sids, strict=True))
        unsent = {line.row: line for line in batch.unsent}

        assert (number, next_row) == (batch.number, batch.first_row)
        assert sorted([*batch.rows, *(line.row for line in batch.unsent)]) == list(
            range(batch.first_row, batch.last_row + 1)
        )
        assert sorted(batch.rows) == list(batch.rows)
        assert len(batch.sids) <= size
        assert batch.last_row - batch.first_row < size * MAX_ROWS_PER_CONTACT
        assert len(batch.sids) == len({each.lower() for each in batch.sids})
        for row in range(batch.first_row, batch.last_row + 1):
            cell = expected[row - 1]
            if cell is None:
                assert ContactResult(row, None, Outcome.INVALID, number, 0, reason=Reason.ROW_TOO_SHORT) == unsent[row]
            elif not cell:
                assert ContactResult(row, None, Outcome.INVALID, number, 0, reason=Reason.SID_EMPTY) == unsent[row]
            elif not pattern.fullmatch(cell):
                assert ContactResult(row, cell, Outcome.INVALID, number, 0, reason=Reason.SID_MALFORMED) == unsent[row]
            elif row in sent:
                assert cell == sent[row]
            else:
                first = unsent[row].duplicate_of
                assert ContactResult(row, cell, Outcome.DUPLICATE, number, 0, duplicate_of=first) == unsent[row]
                assert first is not None
                assert first < row
                assert cell.lower() == sent[first].lower()
        next_row = batch.last_row + 1
    full = [batch for batch in batches[:-1] if len(batch.sids) < size]

    assert len(expected) == next_row - 1
    assert [size * MAX_ROWS_PER_CONTACT] * len(full) == [batch.last_row - batch.first_row + 1 for batch in full]


@given(example=written())
@settings(max_examples=30)
def test_batches_are_the_same_from_wherever_they_are_read(example: Written) -> None:
    """Again, from a pipe, or compressed in any way: the same batches."""
    data = example.text.encode()
    ways: list[AbstractContextManager[Input]] = [opened(data), piped(data, 100)]
    ways += [opened(compress(data)) for compress in COMPRESSIONS.values()]
    with opened(data) as source:
        expected = cut(source, **example.settings)
    for way in ways:
        with way as source:
            found = cut(source, **example.settings)

        assert expected == found


@given(example=written(), count=st.integers(1, 5))
@settings(max_examples=30)
def test_batches_depend_on_the_beginning_alone(example: Written, count: int) -> None:
    """What follows a full batch has no bearing on it: rows put after the end leave all batches but the last alone."""
    end = "\r\n" if "\r\n" in example.text else "\n" if "\n" in example.text else "\r"
    with opened(example.text) as source:
        before = cut(source, **example.settings)
    with opened(f"{example.text}{end}" + f"{sid(99)}{end}" * count) as source:
        after = cut(source, **example.settings)
    if isinstance(before, str) or isinstance(after, str):
        return

    assert before[:-1] == after[: max(0, len(before) - 1)]


@pytest.mark.parametrize(
    ("data", "options", "sids"),
    [
        pytest.param(bare(1, 2), {}, [1, 2], id="bare sids"),
        pytest.param(bare(1, 2).replace("\n", "\r\n"), {"column": 1}, [1, 2], id="bare sids by number, CRLF"),
        pytest.param("\ufeff" + bare(1, 2), {}, [1, 2], id="bare sids after a byte order mark"),
        pytest.param(f"\ufeffcontact_sid\n{sid(1)}", {}, [1], id="header after a byte order mark, no last line end"),
        pytest.param(f"a;CONTACT_SID \nx; {sid(1)} \n", {}, [1], id="case and space"),
        pytest.param(f'"a\r\nb"\tcontact_sid\nx\t"{sid(1)}"\n', {}, [1], id="a line break in the header"),
        pytest.param(f"a|b\nx|{sid(1)}|extra\n", {"column": 2}, [1], id="by number, extra columns"),
        pytest.param(f"x;{sid(1)}\ny;{sid(2)}\n", {"column": 2}, [1, 2], id="by number, no header"),
        pytest.param(f"a,b\n{sid(1)},x\n", {"column": "a", "delimiter": ","}, [1], id="delimiter set"),
        pytest.param("contact_sid\n", {}, [], id="a header alone"),
        pytest.param("contact_sid", {}, [], id="a header alone without line end"),
        pytest.param(f"contact_sid\n{sid(1)}\n".encode("utf-16"), {"encoding": "utf-16"}, [1], id="another encoding"),
    ],
)
def test_sids_are_found(data: bytes | str, options: dict[str, Any], sids: list[int]) -> None:
    """The sids are found in all the kinds of files that the settings promise to read."""
    assert list(map(sid, sids)) == sids_of(data, **options)


def test_rows_that_are_not_sent_have_a_reason() -> None:
    """A row without a usable sid is invalid and says why; blank lines and the header are no rows."""
    data = f"name,contact_sid\n\na,{sid(1)}\nb\nc,\nd,   \n\ne,{sid(2)[:-1]}\nf,{'x' * 1000}\n"
    [batch] = batches_of(data)

    assert list(batch.rows) == [1]
    assert [
        (2, None, Reason.ROW_TOO_SHORT),
        (3, None, Reason.SID_EMPTY),
        (4, None, Reason.SID_EMPTY),
        (5, sid(2)[:-1], Reason.SID_MALFORMED),
        (6, "x" * MAX_CELL_SHOWN, Reason.SID_MALFORMED),
    ] == [(line.row, line.contact_sid, line.reason) for line in batch.unsent]


def test_a_sid_is_sent_once_in_whatever_case_it_is_written() -> None:
    """A sid that stands in an earlier row of the batch is a duplicate of it; in the next batch it is sent again."""
    data = f"contact_sid\n{sid(1)}\n{sid(1).upper()}\n{sid(2)}\n{sid(1)}\n {sid(2)}\n"
    first, second = batches_of(data, batch_size=2)

    assert [sid(1), sid(2)] == list(first.sids)
    assert [ContactResult(2, sid(1).upper(), Outcome.DUPLICATE, 1, 0, duplicate_of=1)] == list(first.unsent)
    assert [sid(1), sid(2)] == list(second.sids)


def test_invalid_rows_do_not_fill_the_memory() -> None:
    """However many rows are not sent, a batch has a bounded number of them."""
    data = bare(1) + "x\n" * 250
    batches = batches_of(data, batch_size=10)

    assert [(batch.first_row, batch.last_row, len(batch.sids)) for batch in batches] == [
        (1, 100, 1),
        (101, 200, 0),
        (201, 251, 0),
    ]


@pytest.mark.parametrize(
    ("data", "options", "error"),
    [
        pytest.param(
            "name,contact_sid\na,1\nb,\nc,2\nd,3\ne,4\n",
            {},
            "no sid stands in column 2 (contact_sid) of the first 5 rows: for example '1', '2', '3'. Choose the column "
            f"with --column, or set input.sid_pattern (now {SID_PATTERN}).",
            id="another kind of id",
        ),
        pytest.param(
            "contact_sid;a\n;x\n;y\n",
            {},
            "no sid stands in column 1 (contact_sid) of the first 2 rows: its cells are empty. Choose the column "
            f"with --column, or set input.sid_pattern (now {SID_PATTERN}).",
            id="empty cells",
        ),
        pytest.param(
            f"x\n{sid(1)}\n",
            {"column": 1, "sid_pattern": "[0-9]+"},
            f"no sid stands in column 1 (x) of the first 1 rows: for example '{sid(1)}'. Choose the column "
            "with --column, or set input.sid_pattern (now [0-9]+).",
            id="another pattern",
        ),
        pytest.param(
            "contact_sid\n" + "\x1b[2J\n" * 100,
            {"batch_size": 2},
            "no sid stands in column 1 (contact_sid) of the first 20 rows: for example '\\x1b[2J', '\\x1b[2J', "
            f"'\\x1b[2J'. Choose the column with --column, or set input.sid_pattern (now {SID_PATTERN}).",
            id="control characters do not reach the terminal",
        ),
    ],
)
def test_a_first_batch_without_a_sid_stops(data: str, options: dict[str, Any], error: str) -> None:
    """An input in whose first batch no row matches the pattern is one error that shows a sample."""
    assert error == error_of(data, **options)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        pytest.param(b'"never closed\n', ", lines 1002 to 1003: a quote in the row", id="unclosed quote"),
        pytest.param(b'"a"b\n', ", line 1002: not valid CSV", id="stray text"),
        pytest.param(b"\xff\n", ", line 1002: the byte 0xff", id="wrong byte"),
    ],
)
def test_batches_before_an_error_are_given(bad: bytes, said: str) -> None:
    """What stands before the place from where the input cannot be read on is still cut into batches."""
    data = f"contact_sid\n{bare(*range(1000))}".encode() + bad + b"x\n"
    before: list[Batch] = []
    with opened(data) as source, pytest.raises(InputError) as caught:
        before.extend(CsvSource(source, **(SOURCE_DEFAULTS | {"batch_size": 100})))

    assert [(number * 100 + 1, number * 100 + 100) for number in range(10)] == [
        (batch.first_row, batch.last_row) for batch in before
    ]
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("column", "has_header", "rows"),
    [(1, None, 2), (1, True, 1), (1, False, 2)],
)
def test_header_is_as_it_was_told_before(column: int, has_header: bool | None, rows: int) -> None:
    """Whether there is a header is found, or known from before."""
    [batch] = batches_of(bare(1, 2), column=column, has_header=has_header)

    assert rows == batch.last_row


@pytest.mark.parametrize(
    ("data", "column", "name"),
    [(f"a,contact_sid\nx,{sid(1)}\n", "contact_sid", "column 2 (contact_sid)"), (bare(1), "contact_sid", "column 1")],
)
def test_column_is_named(data: str, column: str, name: str) -> None:
    """Messages name the column by number, and by name where it has one."""
    with opened(data) as source:
        assert name == CsvSource(source, **(SOURCE_DEFAULTS | {"column": column})).column


@pytest.mark.parametrize("compress", [bytes, *COMPRESSIONS.values()], ids=["plain", *COMPRESSIONS])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_reading_goes_on_after_any_batch(compress: Callable[[bytes], bytes], encoding: str) -> None:
    """Where the input up to a batch's end is what it was, the batches after it are cut as if all had been."""
    rows = "".join(f'"Renée, {number}\r\n",{sid(number)},\u20ac\r\n\r\n' for number in range(40))
    with opened(compress(f"name,contact_sid,more\r\n{rows}".encode(encoding))) as source:
        options = SOURCE_DEFAULTS | {"batch_size": 3, "encoding": encoding}
        batches = list(CsvSource(source, **options))
        for number, batch in enumerate(batches, 1):
            again = CsvSource(source, **options)
            assert batch.end is not None
            assert again.skip(batch.number, batch.last_row, batch.end)
            assert batches[number:] == list(again)


def test_only_what_is_unchanged_is_skipped() -> None:
    """If a byte is another one, or the bytes cannot be read twice, all is read as if nothing had been asked."""
    data = f"contact_sid\n{bare(*range(30))}".encode()
    with opened(data) as source:
        batches = list(CsvSource(source, **(SOURCE_DEFAULTS | {"batch_size": 10})))
    end = batches[1].end
    assert end is not None
    for at in (0, 15, end.offset - 1):
        with opened(data[:at] + b"X" + data[at + 1 :]) as source:
            other, fresh = (CsvSource(source, **(SOURCE_DEFAULTS | {"batch_size": 10, "column": 1})) for _ in range(2))
            assert not other.skip(2, 20, end)
            assert list(fresh) == list(other)
    with piped(data) as source:
        pipe = CsvSource(source, **(SOURCE_DEFAULTS | {"batch_size": 10}))
        assert not pipe.skip(2, 20, end)
        assert batches == list(pipe)


def test_no_place_is_told_where_bytes_do_not_tell_it() -> None:
    """An encoding whose bytes mean other things in other places is read from the beginning every time."""
    with opened(f"contact_sid\n{bare(1, 2)}".encode("utf-16")) as source:
        assert [batch.end for batch in CsvSource(source, **(SOURCE_DEFAULTS | {"encoding": "utf-16"}))] == [None]
