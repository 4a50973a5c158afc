"""Whatever is changed in the files of a run, or in its input, is found: nothing is believed that can be looked at."""

from __future__ import annotations

import json
import re
import sqlite3
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from importer import cli
from importer.model import ApiError, Batch, BatchResult, Outcome, Reason, Verdict
from importer.past import open_past
from importer.recovery import REPORT, STATE, SUMMARY
from importer.verify import MAX_SHOWN, Verification, verify
from tests.unit.runs import finished_run, sid

CELLS = [sid(1), sid(2), "junk", sid(1), *map(sid, range(3, 11))]
VERDICTS = [
    Verdict(Outcome.ADDED, 200),
    Verdict(Outcome.ALREADY_PRESENT, 409, ApiError(1008)),
    Verdict(Outcome.REJECTED, 400, ApiError(1002, "Invalid parameter")),
    Verdict(Outcome.UNKNOWN, reason=Reason.TIMED_OUT),
    Verdict(Outcome.FAILED, reason=Reason.NOT_CONNECTED),
]


def judged(batch: Batch) -> BatchResult:
    """Give each contact one of the verdicts that there are."""
    return BatchResult(batch, [VERDICTS[row % len(VERDICTS)] for row in batch.rows], [1] * len(batch.sids))


def finished_backwards(results: list[BatchResult]) -> list[BatchResult]:
    return results[::-1]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run with outcomes of every kind, whose batches were finished in another order."""
    return finished_run(tmp_path, CELLS, result_of=judged, order=finished_backwards)


def verified(directory: Path, location: Path | None = None) -> Verification:
    with open_past(directory, str(location) if location else None) as past:
        return verify(directory, past.source(), past.history)


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / REPORT).read_bytes().splitlines()]


def rewrite(directory: Path, change: Callable[[list[dict[str, Any]]], Iterable[dict[str, Any]]]) -> None:
    """Change lines of the report, and nothing else."""
    lines = change(lines_of(directory))
    (directory / REPORT).write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def forge(directory: Path, change: Callable[[list[dict[str, Any]]], Iterable[dict[str, Any]]]) -> None:
    """Change lines of the report, and make their places and checksums in the journal fit."""
    rewrite(directory, change)
    report = (directory / REPORT).read_bytes()
    ends: dict[int, tuple[int, int]] = {}
    end = start = 0
    for line in report.splitlines(keepends=True):
        start, end = end, end + len(line)
        batch = json.loads(line)["batch"]
        ends[batch] = (ends.get(batch, (start, 0))[0], end)
    with closing(sqlite3.connect(directory / STATE)) as db, db:
        for batch, (begin, finish) in sorted(ends.items()):
            place = (-begin - 1, -finish - 1, zlib.crc32(report[:finish]), batch)
            db.execute("UPDATE done SET report_start = ?, report_end = ?, report_crc = ? WHERE batch = ?", place)
        db.execute("UPDATE done SET report_start = -report_start - 1, report_end = -report_end - 1")


def execute(statement: str) -> Callable[[Path], None]:
    """Change the journal."""

    def change(directory: Path) -> None:
        with closing(sqlite3.connect(directory / STATE)) as db, db:
            assert db.execute(statement).rowcount

    return change


def summary(**changes: Any) -> Callable[[Path], None]:
    """Change the summary."""

    def change(directory: Path) -> None:
        content = json.loads((directory / SUMMARY).read_bytes())
        (directory / SUMMARY).write_text(json.dumps(content | changes))

    return change


def line(number: int, **changes: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Change the line of one row."""
    return lambda lines: [each | changes if each["row"] == number else each for each in lines]


def swapped(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def doubled(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [lines[0], lines[1], *lines[1:]]


def shortened(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [lines[0], *lines[2:]]


def input_changed(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        path = directory.parent / "in.csv"
        path.write_text("".join(f"{text}\n" for text in change(path.read_text().splitlines())))

    return changed


def report_changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        report = directory / REPORT
        report.write_bytes(change(report.read_bytes()))

    return changed


def replaced_by_a_directory(directory: Path) -> None:
    (directory / REPORT).unlink()
    (directory / REPORT).mkdir()


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a line deleted": (lambda run: rewrite(run, shortened), "is not what was written in the lines of batch"),
    "a line doubled": (lambda run: rewrite(run, doubled), "is not what was written in the lines of batch"),
    "two lines swapped": (lambda run: rewrite(run, swapped), "is not what was written in the lines of batch"),
    "an outcome changed": (lambda run: rewrite(run, line(5, outcome="rejected")), "is not what was written"),
    "a sid changed": (lambda run: rewrite(run, line(5, contact_sid=sid(99))), "is not what was written"),
    "a row changed": (lambda run: rewrite(run, line(5, row=6)), "is not what was written"),
    "a code changed": (lambda run: rewrite(run, line(1, code=201)), "is not what was written"),
    "cut within a line": (report_changed(lambda content: content[:-5]), "is not what was written"),
    "cut after a line": (lambda run: rewrite(run, lambda lines: lines[:-1]), "is not what was written"),
    "emptied": (report_changed(lambda _: b""), "is not what was written"),
    "garbage at the end": (report_changed(lambda content: content + b"junk"), "goes on for 4 bytes after"),
    "a line at the end": (report_changed(lambda content: content + content[:99]), "goes on for 99 bytes after"),
    "the report missing": (lambda run: (run / REPORT).unlink(), "is missing"),
    "the report a directory": (replaced_by_a_directory, "cannot be read"),
    "forged: a line deleted": (lambda run: forge(run, shortened), "is not in the report|stands where row"),
    "forged: a line doubled": (lambda run: forge(run, doubled), "stands where row"),
    "forged: two lines swapped": (lambda run: forge(run, swapped), "stands where row"),
    "forged: an outcome": (lambda run: forge(run, line(5, outcome="rejected")), "counts other outcomes"),
    "forged: a sid": (
        lambda run: forge(run, line(5, contact_sid=sid(99))),
        f"has the sid {sid(99)}, the input {sid(3)}",
    ),
    "forged: no sid": (lambda run: forge(run, line(5, contact_sid=None)), f"has the sid None, the input {sid(3)}"),
    "forged: a row": (lambda run: forge(run, line(5, row=44)), "a line of row 44 stands where row 5 is due"),
    "forged: a batch": (lambda run: forge(run, line(11, batch=1)), "batch"),
    "forged: never sent": (lambda run: forge(run, line(5, attempts=0)), "after no attempt"),
    "forged: a duplicate": (lambda run: forge(run, line(5, outcome="duplicate")), "of a contact that was to be sent"),
    "forged: a duplicate of": (lambda run: forge(run, line(5, duplicate_of=1)), "of a contact that was to be sent"),
    "forged: an invalid row sent": (lambda run: forge(run, line(3, outcome="added")), "the input calls for invalid"),
    "forged: a duplicate sent": (lambda run: forge(run, line(4, outcome="added")), "the input calls for duplicate"),
    "forged: another duplicate": (lambda run: forge(run, line(4, duplicate_of=2)), "the input calls for duplicate"),
    "forged: another reason": (lambda run: forge(run, line(3, reason="sid_empty")), "the input calls for invalid"),
    "forged: no outcome": (lambda run: forge(run, line(5, outcome="perhaps")), "cannot be read"),
    "a batch dropped": (execute("DELETE FROM done WHERE batch = 2"), "does not begin in the report where"),
    "the last batch dropped": (execute("DELETE FROM done WHERE batch = 4"), "does not begin in the report where"),
    "the last written batch dropped": (execute("DELETE FROM done WHERE batch = 1"), "after its last committed line"),
    "all batches dropped": (execute("DELETE FROM done"), "Rows 1 to 5 are not in the report"),
    "outcomes moved": (execute("UPDATE done SET added = added + 1, failed = failed - 1"), "counts other outcomes"),
    "a digest changed": (execute("UPDATE done SET digest = x'00' WHERE batch = 2"), r"Batch 2 .*the input has changed"),
    "a checksum changed": (execute("UPDATE done SET report_crc = 1 WHERE batch = 2"), "is not what was written"),
    "a place changed": (execute("UPDATE done SET report_start = 0 WHERE batch = 1"), "does not begin in the report"),
    "not complete": (
        execute("UPDATE run SET exit_code = NULL"),
        "The run is not complete: 12 rows are reported so far",
    ),
    "another exit code": (execute("UPDATE run SET exit_code = 0"), "exit code 0 does not follow from its outcomes"),
    "counts of the journal": (execute("UPDATE run SET counts = NULL"), "requests is not what state.db has counted"),
    "a row of the input changed": (
        input_changed(lambda rows: [*rows[:4], sid(99), *rows[5:]]),
        "the input has changed",
    ),
    "a row of the input less": (input_changed(lambda rows: rows[:-1]), "has rows from 12 on that the input has not"),
    "a row of the input more": (input_changed(lambda rows: [*rows, sid(99)]), "the input has changed"),
    "many rows more": (input_changed(lambda rows: [*rows, *map(sid, range(20, 30))]), "are not in the report"),
    "many rows less": (input_changed(lambda rows: rows[:5]), "has rows from 6 on that the input has not"),
    "two rows of the input swapped": (
        input_changed(lambda rows: [rows[0], rows[2], rows[1], *rows[3:]]),
        "the input has changed",
    ),
    "summary: rows": (summary(rows=13), "counts other rows than the report has"),
    "summary: batches": (summary(batches=5), "counts other rows than the report has"),
    "summary: outcomes": (summary(outcomes={"added": 11}), "counts other rows than the report has"),
    "summary: requests": (summary(requests=99), "requests is not what state.db has counted"),
    "summary: retries": (summary(retries=99), "retries is not what state.db has counted"),
    "summary: throttled": (summary(throttled=99), "throttled is not what state.db has counted"),
    "summary: anomalies": (summary(anomalies={"foreign_item": 1}), "anomalies is not what state.db has counted"),
    "summary: resent": (summary(resent_contacts=99), "resent_contacts is not what state.db has counted"),
    "summary: complete": (summary(complete=False), "does not say that the run is complete with exit code 1"),
    "summary: exit code": (summary(exit_code=0), "does not say that the run is complete with exit code 1"),
    "summary: not JSON": (lambda run: (run / SUMMARY).write_text("{"), "cannot be read"),
    "summary: missing": (lambda run: (run / SUMMARY).unlink(), "cannot be read"),
}
"""What is done to a run, and what is said of it."""


def test_honest_run_holds(run: Path) -> None:
    """With outcomes of every kind, and batches in any order."""
    found = verified(run)

    assert found.violations == []
    assert found.rows == len(CELLS)
    assert {line["outcome"] for line in lines_of(run)} == set(Outcome)


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_found(run: Path, tampering: str) -> None:
    """The complaint says what is wrong, and where."""
    tamper, said = TAMPERINGS[tampering]
    tamper(run)
    violations = verified(run).violations

    assert [violation for violation in violations if re.search(said, violation)], violations


@pytest.mark.parametrize("tampering", [None, "a line deleted", "forged: a sid", "a batch dropped", "summary: rows"])
def test_exit_code_tells(
    run: Path, tampering: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 if the report is to be believed, 1 if not."""
    if tampering is not None:
        TAMPERINGS[tampering][0](run)
    monkeypatch.setattr("sys.argv", ["importer", "verify", str(run)])
    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == (0 if tampering is None else 1)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_moved_input_can_be_named(run: Path) -> None:
    """The input may lie elsewhere by now."""
    moved = (run.parent / "in.csv").rename(run.parent / "moved.csv")

    assert verified(run, moved).holds


def test_run_without_its_end_does_not_hold(tmp_path: Path) -> None:
    """Though all that is there be true; and it is said whether that is all that is wrong."""
    run = finished_run(tmp_path, CELLS, is_complete=False)

    found, said = verified(run), "The run is not complete: 12 rows are reported so far."

    assert said in found.violations
    assert found.is_incomplete_only == (found.violations == [said])


def test_complaints_are_few(tmp_path: Path) -> None:
    """However much is wrong."""
    run = finished_run(tmp_path, [sid(number) for number in range(200)])
    input_changed(lambda rows: [rows[0], *(sid(1000 + number) for number in range(200))])(run)

    assert len(verified(run).violations) == MAX_SHOWN


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """Nearly twice as many batches are verified in the same memory."""

    def peak_bytes(batches: int) -> int:
        folder = tmp_path / str(batches)
        folder.mkdir()
        run = finished_run(folder, [sid(number) for number in range(5 * batches)], batch_size=5)
        verified(run)
        tracemalloc.start()
        found = verified(run)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.holds
        return peak

    few, many = peak_bytes(2000), peak_bytes(3600)

    assert many < 1.05 * few
