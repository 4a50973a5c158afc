"""`check` counts what a run would do, sends nothing, and says what is wrong in one sentence with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from importer.check import Finding, check
from importer.cli import main
from importer.inputs import Input
from importer.model import Reason
from importer.source import CsvSource
from tests.builders import SOURCE_DEFAULTS, bare, opened, sid

DATA = f"name,contact_sid\na,{sid(1)}\nb\nc,x\nd,{sid(1).upper()}\ne,\nf,y\n" + "".join(
    f"g,{sid(number)}\n" for number in range(2, 8)
)


def found(data: str, batch_size: int, requests_per_minute: float) -> Finding:
    with opened(data) as source:
        return check(CsvSource(source, **(SOURCE_DEFAULTS | {"batch_size": batch_size})), requests_per_minute)


def test_everything_is_counted() -> None:
    """Rows, contacts, duplicates, invalid rows with examples, batches, and the time at the quota."""
    finding = found(DATA, batch_size=3, requests_per_minute=30)

    assert (
        Finding(
            rows=12,
            to_send=7,
            duplicates=1,
            invalid={Reason.ROW_TOO_SHORT: 1, Reason.SID_MALFORMED: 2, Reason.SID_EMPTY: 1},
            invalid_examples=[(2, None), (3, "x"), (5, None)],
            batches=3,
            requests=3,
            seconds_at_quota=4.0,
        )
        == finding
    )


@pytest.mark.parametrize(
    ("rows", "batch_size", "requests_per_minute", "seconds"),
    [(0, 10, 30, 0), (1, 10, 30, 0), (11, 10, 30, 2), (100, 10, 1, 540), (100, 1, 60_000, 0.099)],
)
def test_time_at_the_quota(rows: int, batch_size: int, requests_per_minute: float, seconds: float) -> None:
    """The first request starts at once, and each other one waits for its turn."""
    finding = found("contact_sid\n" + bare(*range(rows)), batch_size, requests_per_minute)

    assert seconds == pytest.approx(finding.seconds_at_quota)


def test_a_batch_without_contacts_is_no_request() -> None:
    """Where nothing is to be sent, no request is counted."""
    finding = found(bare(1) + "x\n" * 15, batch_size=1, requests_per_minute=30)

    assert (finding.rows, finding.batches, finding.requests) == (16, 3, 1)


@pytest.fixture
def importer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    inputs: list[Input] = []

    class Kept(Input):
        """What a process that ends need not close, and a test must."""

        def __init__(self, location: str) -> None:
            super().__init__(location)
            inputs.append(self)

    monkeypatch.setattr("importer.inputs.Input", Kept)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contacts.csv").write_text(DATA)
    yield monkeypatch
    for each in inputs:
        each.close()


def _run(importer: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    importer.setattr(sys, "argv", ["importer", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_finding_as_json(importer: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints one JSON object on standard output, and nothing else."""
    code = _run(importer, "check", "contacts.csv", "--json", "--batch-size", "3")
    out, err = capsys.readouterr()

    assert (code or 0, err) == (0, "")
    assert found(DATA, 3, 30) == msgspec.json.decode(out, type=Finding)


def test_finding_for_people(importer: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it, a table with an example of what is invalid."""
    code = _run(importer, "check", "contacts.csv", "--list", sid(9))
    out, _ = capsys.readouterr()

    assert (code or 0) == 0
    for words in ["sids in column 2 (contact_sid), delimiter ','", "sid_malformed", "for example row 3: 'x'"]:
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(["missing.csv"], "missing.csv: no such file.", id="no file"),
        pytest.param(["."], ".: is a directory; name a CSV file in it.", id="directory"),
        pytest.param(["contacts.csv", "--column", "sid"], "contacts.csv, line 1: there is no column 'sid';", id="name"),
        pytest.param(["contacts.csv", "--column", "7"], "contacts.csv, line 1: there is no column 7:", id="number"),
        pytest.param(
            ["contacts.csv", "--column", "0"],
            "command line: input.column must be a name, or a number from 1, got '0'.",
            id="column 0",
        ),
        pytest.param(["contacts.csv", "--column", "name"], "contacts.csv: no sid stands in column 1", id="no sids"),
        pytest.param(["contacts.csv", "--delimiter", "x"], "command line: input.delimiter must be", id="delimiter"),
        pytest.param(["contacts.csv", "--encoding", "x"], "input.encoding: Python knows no text", id="encoding"),
        pytest.param(["contacts.csv", "--encoding", "utf-16"], "contacts.csv, line 1: ", id="wrong encoding"),
        pytest.param(
            ["contacts.csv", "--batch-size", "5001"],
            "command line: delivery.batch_size must be less than or equal to 5000, got 5001.",
            id="batch size",
        ),
        pytest.param(["contacts.csv", "--config", "x.yaml"], "x.yaml: no such file; --config names a", id="config"),
        pytest.param(["contacts.csv", "--list", "a/b"], "--list: 'a/b' is no list sid;", id="list"),
    ],
)
def test_a_mistake_is_one_sentence(
    importer: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    """A mistake that a person can make ends with exit code 2 and one sentence, and never with a traceback."""
    code = _run(importer, "check", *arguments)
    out, err = capsys.readouterr()

    assert (code, out) == (2, "")
    assert err.startswith(f"importer: {complaint}")
    assert "Traceback" not in err
    assert err.count("\n") == 1
