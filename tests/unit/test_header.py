"""The delimiter and the sid's column are found, or a person is told why they are not."""

from __future__ import annotations

import re

import pytest

from importer.errors import InputError
from importer.header import Layout, find_delimiter, locate_column
from tests.builders import SID_PATTERN, sid

PATTERN = re.compile(SID_PATTERN)


@pytest.mark.parametrize(
    ("lines", "column", "delimiter"),
    [
        pytest.param(["contact_sid\n"], "contact_sid", ",", id="one column"),
        pytest.param(["name,contact_sid\n"], "contact_sid", ",", id="comma"),
        pytest.param(["name;contact_sid\r\n"], "contact_sid", ";", id="semicolon"),
        pytest.param(["name\tcontact_sid\n"], "contact_sid", "\t", id="tab"),
        pytest.param(["name|contact_sid"], "contact_sid", "|", id="bar"),
        pytest.param(["a,b,c,d;contact_sid\n"], "contact_sid", ";", id="the column rules, not the most cells"),
        pytest.param(["a,b;c;d\n"], "contact_sid", ";", id="without the column, the most cells"),
        pytest.param(["a,b;c\n"], "contact_sid", ",", id="the first of equals"),
        pytest.param(["a;b;c,d\n"], 2, ";", id="by number, the most cells"),
        pytest.param([f"{sid(1)};x\n"], 1, ";", id="no header"),
        pytest.param(['"a,b,c";" Contact_SID "\n'], "contact_sid", ";", id="quoted delimiters, case and space"),
        pytest.param(['"Full\n', 'name";contact_sid\n'], "contact_sid", ";", id="a line break in the first cell"),
        pytest.param(['5" pipe;contact_sid\n', 'x,y,"z\n'], "contact_sid", ";", id="a stray quote"),
        pytest.param(["\n"], "contact_sid", ",", id="nothing to go by"),
    ],
)
def test_delimiter_is_the_one_that_yields_the_column(lines: list[str], column: str | int, delimiter: str) -> None:
    """A delimiter that yields the wanted column is found, else the one that yields the most cells."""
    found = find_delimiter(lines, column)

    assert delimiter == found


@pytest.mark.parametrize(
    ("record", "column", "layout"),
    [
        pytest.param(["name", "contact_sid"], "contact_sid", Layout(1, True), id="name"),
        pytest.param(["name", " Contact_SID\t"], "contact_sid", Layout(1, True), id="case and space in the file"),
        pytest.param(["name", "contact_sid"], " CONTACT_SID ", Layout(1, True), id="case and space in the setting"),
        pytest.param(["STRASSE"], "straße", Layout(0, True), id="case beyond ASCII"),
        pytest.param(["contact_sid", sid(1)], "contact_sid", Layout(0, True), id="a column called like a sid"),
        pytest.param([sid(1)], "contact_sid", Layout(0, False), id="bare sids"),
        pytest.param([f"  {sid(1).upper()} "], "contact_sid", Layout(0, False), id="bare sids, space around them"),
        pytest.param(["a", "b"], 2, Layout(1, True), id="number, with header"),
        pytest.param(["a", sid(1)], 2, Layout(1, False), id="number, without header"),
        pytest.param([sid(1), "b"], 2, Layout(1, True), id="number, a sid in another column"),
    ],
)
def test_column_is_found(record: list[str], column: str | int, layout: Layout) -> None:
    """A column is found by its name in whatever case, by its number, or as the only one of bare sids."""
    found = locate_column(record, column, PATTERN, "x.csv, line 1")

    assert layout == found


@pytest.mark.parametrize(
    ("record", "column", "message"),
    [
        pytest.param(
            ["id", "name"],
            "contact_sid",
            "x.csv, line 1: there is no column 'contact_sid'; the columns are 'id', 'name'. "
            "Choose one with --column NAME or NUMBER.",
            id="missing",
        ),
        pytest.param(
            ["sid", "x", "SID "],
            "sid",
            "x.csv, line 1: columns 1 and 3 are all called 'sid'; choose one by number (--column 1).",
            id="twice",
        ),
        pytest.param(
            ["x", sid(1)],
            "contact_sid",
            "x.csv, line 1: no header names a column 'contact_sid', but column 2 holds a sid: "
            "choose it by its number (--column 2).",
            id="no header, many columns",
        ),
        pytest.param(
            ["a", "b"], 3, "x.csv, line 1: there is no column 3: the first record has 2.", id="number too large"
        ),
        pytest.param(
            ["\x1b[2Ja"],
            "sid",
            "x.csv, line 1: there is no column 'sid'; the columns are '\\x1b[2Ja'. "
            "Choose one with --column NAME or NUMBER.",
            id="control characters do not reach the terminal",
        ),
    ],
)
def test_missing_column_is_explained(record: list[str], column: str | int, message: str) -> None:
    """A column that is not there, or stands twice, is one sentence: where, what, and what to do next."""
    with pytest.raises(InputError) as caught:
        locate_column(record, column, PATTERN, "x.csv, line 1")

    assert message == str(caught.value)


def test_a_long_header_is_not_shown_in_full() -> None:
    """The message of a missing column stays readable, however many and long the columns are."""
    with pytest.raises(InputError) as caught:
        locate_column(["x" * 5000] * 5000, "sid", PATTERN, "x.csv, line 1")

    assert len(str(caught.value)) < 1200
