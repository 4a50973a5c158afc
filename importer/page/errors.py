"""The commonest reasons for which rows are not in the list, read from the report; bounded, however long that is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from importer.model import IN_THE_LIST, ContactResult, Outcome, Reason
from importer.report import read_lines
from importer.state import DoneBatch

MAX_SHOWN = 20
_MAX_KEPT = 1000
_MAX_EXAMPLES = 3
_MAX_CHARACTERS = 300
_NAMES = re.compile(r"[0-9a-fA-F]{32}|\d{5,}")


class Kind(msgspec.Struct, frozen=True):
    """What a row's line says of why it is not in the list. A message is told without sids and long numbers."""

    outcome: Outcome
    code: int | None
    reason: Reason | None
    error_code: int | None
    message: str


class Found(msgspec.Struct):
    """The rows of one kind."""

    rows: int = 0
    examples: list[tuple[int, str | None]] = msgspec.field(default_factory=list)  # row and sid


class Errors(msgspec.Struct):
    """What was found."""

    commonest: list[tuple[Kind, Found]]
    others: int  # rows of kinds too rare to be kept or shown
    trouble: str | None = None  # why the report cannot be read to its end


def commonest_errors(report: Path, batches: Iterable[DoneBatch], *, max_kept: int = _MAX_KEPT) -> Errors:
    """Count the kinds. Only batches are read that have such a row, one at a time."""
    kinds: dict[Kind, Found] = {}
    others = 0
    trouble = None
    try:
        for batch in batches:
            if all(outcome in IN_THE_LIST for outcome, count in batch.outcomes.items() if count):
                continue
            for line in read_lines(report, batch.report_start, batch.report_end):
                if line.outcome not in IN_THE_LIST:
                    _count(kinds, line)
                if len(kinds) > 2 * max_kept:  # what is common comes again
                    rare = _by_rows(kinds)[max_kept:]
                    others += sum(found.rows for _, found in rare)
                    for kind, _ in rare:
                        del kinds[kind]
    except (OSError, ValueError) as error:
        trouble = f"{report}: cannot be read: {getattr(error, 'strerror', None) or error}"
    ordered = _by_rows(kinds)
    others += sum(found.rows for _, found in ordered[MAX_SHOWN:])
    return Errors(ordered[:MAX_SHOWN], others, trouble)


def _count(kinds: dict[Kind, Found], line: ContactResult) -> None:
    error = line.error
    words = ": ".join(text for text in (error.message, error.description) if text) if error else ""
    kind = Kind(
        line.outcome,
        line.code,
        line.reason,
        error.code if error else None,
        _shortened(_NAMES.sub("…", words)),
    )
    found = kinds.setdefault(kind, Found())
    found.rows += 1
    if len(found.examples) < _MAX_EXAMPLES:
        found.examples.append((line.row, line.contact_sid and _shortened(line.contact_sid)))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"


def _by_rows(kinds: dict[Kind, Found]) -> list[tuple[Kind, Found]]:
    return sorted(kinds.items(), key=lambda item: -item[1].rows)
