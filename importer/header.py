"""Where the sids stand in a CSV file: its delimiter and its column. Pure functions over the first record."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import NamedTuple

from importer.errors import InputError

DELIMITERS = (",", ";", "\t", "|")


class Layout(NamedTuple):
    """How to find the sid in a record."""

    position: int  # of the sid's cell, from 0
    has_header: bool


def _same_name(cell: str, name: str) -> bool:
    return cell.strip().casefold() == name.strip().casefold()


def find_delimiter(lines: Sequence[str], column: str | int) -> str:
    """Tell the delimiter from the first record: one that yields the wanted column, else the most cells."""

    def fitness(delimiter: str) -> tuple[bool, int]:
        cells = next(csv.reader(lines, delimiter=delimiter), [])
        names_column = isinstance(column, str) and any(_same_name(cell, column) for cell in cells)
        return names_column, len(cells)

    return max(DELIMITERS, key=fitness)  # the first of equals


def locate_column(record: Sequence[str], column: str | int, sid_pattern: re.Pattern[str], where: str) -> Layout:
    """Find the sid's column in the first record, and whether that record is a header.

    Cases: a column number, where a first record with a sid in that column is data; a name that the header has
    once; a name that it does not have, in a file of bare sids.

    Raises InputError, with `where` (the input's name and line), if the column is missing or stands twice.
    """
    if isinstance(column, int):
        if column > len(record):
            raise InputError(f"{where}: there is no column {column}: the first record has {len(record)}.")
        return Layout(column - 1, has_header=not sid_pattern.fullmatch(record[column - 1].strip()))
    found = [index for index, cell in enumerate(record) if _same_name(cell, column)]
    if len(found) == 1:
        return Layout(found[0], has_header=True)
    if found:
        numbers = " and ".join(str(index + 1) for index in found)
        raise InputError(
            f"{where}: columns {numbers} are all called '{column}'; choose one by number (--column {found[0] + 1})."
        )
    with_sid = [index for index, cell in enumerate(record) if sid_pattern.fullmatch(cell.strip())]
    if with_sid and len(record) == 1:
        return Layout(0, has_header=False)
    if with_sid:
        raise InputError(
            f"{where}: no header names a column '{column}', but column {with_sid[0] + 1} holds a sid: "
            f"choose it by its number (--column {with_sid[0] + 1})."
        )
    names = ", ".join(repr(cell.strip()[:40]) for cell in record[:20])
    raise InputError(
        f"{where}: there is no column '{column}'; the columns are {names}. Choose one with --column NAME or NUMBER."
    )
