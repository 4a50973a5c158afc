"""What a person reads when all is said: it fits 80 columns, and names the one next step."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest

from importer.check import Finding
from importer.model import Anomaly, ExitCode, Outcome, Reason
from importer.settings import Settings
from importer.status import Status
from importer.summary import Summary
from importer.tables import (
    duration,
    next_step,
    resuming_command,
    show_finding,
    show_next_step,
    show_status,
    show_summary,
)
from tests.harness import LIST

DIRECTORY = Path("runs/contacts-0a1b2c3d")
COMMAND = f"importer run contacts.csv --list {LIST}"
SUMMARY = Summary(
    complete=True,
    exit_code=ExitCode.SOME_NOT_IN_LIST,
    rows=10_000_000,
    outcomes=dict.fromkeys(Outcome, 0) | {Outcome.ADDED: 9_987_655, Outcome.REJECTED: 12_345},
    batches=2_000,
    requests=2_009,
    retries=1,
    throttled=8,
    anomalies={Anomaly.MISSING: 165},
    resent_contacts=20_000,
    seconds=4_019.7,
    input="contacts.csv",
    list_sid=LIST,
    settings=Settings().model_dump(mode="json"),
)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def changed(**fields: Any) -> Summary:
    return msgspec.structs.replace(SUMMARY, **fields)


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_final_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The end of a run on one small screen: what came of it, what it took, where the report is."""
    show_summary(SUMMARY, DIRECTORY)

    out, err = capsys.readouterr()
    assert out == ""
    assert lines_of(err) == [
        "Finished: 12,345 of 10,000,000 rows are not, or may not be, in the list.",
        "added      9,987,655  99.88%",
        "rejected      12,345  0.12%",
        "rows      10,000,000",
        "batches        2,000",
        "requests       2,009  1 retry, 8 throttled",
        "anomaly          165  missing_contact",
        "resent        20,000  contacts in flight when a process died",
        "time       1 h 7 min",
        "Report: runs/contacts-0a1b2c3d/report.jsonl",
    ]


@pytest.mark.parametrize(
    ("fields", "headline"),
    [
        ({"outcomes": {Outcome.ADDED: 5, Outcome.DUPLICATE: 1}, "rows": 6}, "Finished: 6 rows, all in the list."),
        ({"outcomes": {Outcome.UNKNOWN: 1}, "rows": 1}, "Finished: 1 of 1 row are not, or may not be, in the list."),
        ({"outcomes": {}, "rows": 0}, "Finished: there was no row to import."),
        ({"outcomes": {}, "rows": 0, "complete": False}, "Not finished: so far no row."),
        ({"complete": False}, "Not finished: so far 12,345 of 10,000,000 rows are not, or may not be, in the list."),
    ],
)
def test_headline(capsys: pytest.CaptureFixture[str], fields: dict[str, Any], headline: str) -> None:
    """The first line says the most important."""
    show_summary(changed(**fields), DIRECTORY)

    assert lines_of(capsys.readouterr().err)[0] == headline


def test_paths_and_commands_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    """However long they are, and however narrow the terminal, nothing breaks them into lines."""
    directory = Path("/very/long" * 12) / "run [bold]"
    show_summary(SUMMARY, directory)
    show_next_step(SUMMARY, directory, COMMAND)

    lines = lines_of(capsys.readouterr().err)
    assert f"Report: {directory}/report.jsonl" in lines
    assert shlex.split(lines[-1]) == ["importer", "failed", str(directory), "-o", "not-in-list.csv"]
    assert all(len(line) <= 80 for line in lines if str(directory) not in line)


@pytest.mark.parametrize(
    ("fields", "words", "command"),
    [
        ({"exit_code": ExitCode.COMPLETE}, "Nothing is left to do.", ""),
        ({}, "take out the rows that are not in the list", f"importer failed {DIRECTORY} -o not-in-list.csv"),
        ({"input": "-"}, "INPUT being what was piped in", f"importer failed {DIRECTORY} INPUT -o not-in-list.csv"),
        ({"complete": False, "exit_code": ExitCode.THRESHOLD}, "mend that", COMMAND),
        ({"complete": False, "exit_code": ExitCode.REFUSED}, "mend that", COMMAND),
        ({"complete": False, "exit_code": ExitCode.USAGE}, "mend that", COMMAND),
        ({"complete": False, "exit_code": ExitCode.INCOMPLETE}, "goes on where this one ended", COMMAND),
        ({"complete": False, "exit_code": None}, "goes on where this one ended", COMMAND),
        ({"complete": False, "exit_code": None, "input": "-"}, "pipe the same input", COMMAND),
    ],
)
def test_next_step(fields: dict[str, Any], words: str, command: str) -> None:
    """However a run ended, there is one thing to do next, or none."""
    said, proposed = next_step(changed(**fields), DIRECTORY, COMMAND)

    assert words in said
    assert proposed == command


def test_next_step_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that a signal stopped has said how to go on."""
    error = f"Stopped by SIGINT; nothing is lost. Go on with: {COMMAND}"
    show_next_step(changed(complete=False, exit_code=ExitCode.INCOMPLETE, error=error), DIRECTORY, "importer other")

    assert capsys.readouterr().err == ""


def test_status_of_a_stopped_run(capsys: pytest.CaptureFixture[str]) -> None:
    """`status` says why the run ended, and gives the very command that goes on."""
    error = f"Stopped by SIGINT; nothing is lost. Go on with: {COMMAND} --run-dir here"
    summary = changed(complete=False, exit_code=ExitCode.INCOMPLETE, error=error)
    show_status(Status(running=False, summary=summary), DIRECTORY)

    lines = lines_of(capsys.readouterr().out)
    assert lines[0] == f"contacts.csv → list {LIST}: incomplete"
    assert lines[-4:] == [
        "Stopped by SIGINT; nothing is lost.",
        "",
        "Next: give the same command again, it goes on where this one ended:",
        f"  {COMMAND} --run-dir here",
    ]


def test_status_of_a_killed_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run that could not say goodbye, the command is made from what is known of it."""
    show_status(Status(running=False, summary=changed(complete=False, exit_code=None)), DIRECTORY)

    assert lines_of(capsys.readouterr().out)[-1] == f"  {COMMAND} --run-dir {DIRECTORY}"


def test_status_of_a_run_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    """While a process is at work, there is nothing to do."""
    show_status(Status(running=True, summary=changed(complete=False, exit_code=None)), DIRECTORY)

    lines = lines_of(capsys.readouterr().out)
    assert lines[2].startswith("Under way: so far 12,345")
    assert lines[-1].startswith("Report: ")


def test_resuming_command_repeats_what_shapes_the_run() -> None:
    """Settings that are not the default are said as flags, wherever they came from; a name is quoted as it needs."""
    settings = Settings.model_validate(
        {
            "input": {"column": 2, "delimiter": "tab"},
            "delivery": {"requests_per_minute": 60, "concurrency": "auto", "on_unknown": "hold"},
            "run": {"max_failures": "5%"},
        }
    )
    summary = changed(input="my contacts.csv", settings=settings.model_dump(mode="json"))

    assert resuming_command(summary, DIRECTORY) == (
        f"importer run 'my contacts.csv' --list {LIST} --run-dir {DIRECTORY} --column 2 --delimiter tab "
        "--requests-per-minute 60 --concurrency auto --on-unknown hold --max-failures 5%"
    )


def test_resuming_command_without_settings() -> None:
    """A summary that was lost leaves the input, the list and the directory."""
    assert resuming_command(changed(settings={}), DIRECTORY) == f"{COMMAND} --run-dir {DIRECTORY}"


def test_what_check_found(capsys: pytest.CaptureFixture[str]) -> None:
    """`check` tells what a run would meet, with examples of what is bad."""
    finding = Finding(
        rows=1_003,
        to_send=1_000,
        duplicates=1,
        invalid={Reason.SID_EMPTY: 1, Reason.SID_MALFORMED: 1},
        invalid_examples=[(7, None), (1_002, "hello [red]")],
        batches=3,
        requests=3,
        seconds_at_quota=4.0,
    )
    show_finding(finding, "column 2 (contact_sid)", ",")

    assert lines_of(capsys.readouterr().out) == [
        "rows        1,003  sids in column 2 (contact_sid), delimiter ','",
        "to send     1,000",
        "duplicates      1  of an earlier row of their batch: not sent",
        "invalid         1  sid_empty: not sent",
        "invalid         1  sid_malformed: not sent",
        "batches         3",
        "requests        3  at least 4 s at the quota",
        "for example row 7: empty",
        "for example row 1,002: 'hello [red]'",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.6, "1 min 0 s"), (725, "12 min 5 s"), (3_600, "1 h 0 min"), (360_000, "100 h 0 min")],
)
def test_duration(seconds: float, said: str) -> None:
    """Times are said as people say them."""
    assert duration(seconds) == said
