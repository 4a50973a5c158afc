"""The commonest errors are counted from the report, which is read only where something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer.model import ApiError, ContactResult, Outcome, Reason
from importer.page.errors import MAX_SHOWN, commonest_errors
from importer.report import encode
from importer.state import DoneBatch
from tests.unit.runs import done_of, sid


def rejected(row: int, message: str, code: int = 400) -> ContactResult:
    return ContactResult(row, sid(row), Outcome.REJECTED, 1, 1, code, ApiError(1002, message))


def written(path: Path, *batches: Sequence[ContactResult]) -> list[DoneBatch]:
    """A report of these batches, and what the journal says of them."""
    done = []
    end = 0
    with path.open("wb") as report:
        for number, lines in enumerate(batches, 1):
            start, end = end, end + report.write(encode(lines))
            counts = {outcome: sum(line.outcome == outcome for line in lines) for outcome in Outcome}
            done.append(done_of(number, start, end, **{outcome.value: count for outcome, count in counts.items()}))
    return done


def test_errors_are_counted_by_what_the_report_says(tmp_path: Path) -> None:
    """Rows are of one kind where outcome, code, reason and the API's words agree, whichever sid these name."""
    lines = [
        rejected(1, f"Contact {sid(1)} does not exist", 404),
        ContactResult(2, sid(2), Outcome.ADDED, 1, 1, 200),
        *(rejected(row, f"Contact {sid(row)} does not exist", 404) for row in range(3, 8)),
        ContactResult(8, None, Outcome.INVALID, 1, 0, reason=Reason.SID_EMPTY),
    ]

    found = commonest_errors(tmp_path / "report", written(tmp_path / "report", lines))

    (first, rows), (second, _) = found.commonest
    assert (first.outcome, first.code, first.error_code) == (Outcome.REJECTED, 404, 1002)
    assert first.message == "Contact … does not exist"
    assert (rows.rows, rows.examples) == (6, [(1, sid(1)), (3, sid(3)), (4, sid(4))])
    assert (second.outcome, second.reason) == (Outcome.INVALID, Reason.SID_EMPTY)
    assert (found.others, found.trouble) == (0, None)


def test_batches_without_errors_are_not_read(tmp_path: Path) -> None:
    """Where the journal counts nothing bad, the report is not even looked at."""
    report = tmp_path / "report"
    done = written(report, [rejected(1, "no")])
    start = done[0].report_end
    with report.open("ab") as file:
        file.write(b"not a line of a report")

    found = commonest_errors(report, [done_of(2, start, start + 10**12, added=5000), *done])

    assert [rows.rows for _, rows in found.commonest] == [1]
    assert found.trouble is None


@given(kinds=st.lists(st.integers(0, 400), min_size=1, max_size=400), max_kept=st.integers(1, 30))
def test_every_row_is_counted_however_many_kinds_there_are(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[int], max_kept: int
) -> None:
    """Only so many kinds are kept; the rows of the others are counted together, and none is lost."""
    report = tmp_path_factory.mktemp("errors") / "report"
    done = written(report, [rejected(row, f"kind {kind}") for row, kind in enumerate(kinds, 1)])

    found = commonest_errors(report, done, max_kept=max_kept)

    assert len(found.commonest) <= min(MAX_SHOWN, 2 * max_kept)
    assert sum(rows.rows for _, rows in found.commonest) + found.others == len(kinds)


def test_what_is_common_is_found_among_a_flood_of_rare_kinds(tmp_path: Path) -> None:
    """A kind that comes late, and again and again, is shown though thousands of rare ones came before."""
    lines = [rejected(row, f"odd {'x' * row}") for row in range(1, 300)]
    lines += [rejected(row, "common" if row % 2 else f"odder {'y' * (row % 290)}") for row in range(300, 1300)]

    found = commonest_errors(tmp_path / "report", written(tmp_path / "report", lines), max_kept=10)

    kind, rows = found.commonest[0]
    assert kind.message == "common"
    assert 450 < rows.rows <= 500


@pytest.mark.parametrize("content", [b"", b"{not json\n" * 30])
def test_damaged_report_is_told(tmp_path: Path, content: bytes) -> None:
    """A report that cannot be read costs the table, not the page."""
    report = tmp_path / "report"
    done = written(report, [rejected(1, "no")])
    report.write_bytes(content)

    found = commonest_errors(report, done)

    assert found.commonest == []
    assert found.trouble is not None
    assert str(report) in found.trouble


def test_missing_report_is_told(tmp_path: Path) -> None:
    """So does a report that is not there."""
    found = commonest_errors(tmp_path / "gone", [done_of(1, 0, 10, unknown=1)])

    assert found.trouble == f"{tmp_path / 'gone'}: cannot be read: No such file or directory"
