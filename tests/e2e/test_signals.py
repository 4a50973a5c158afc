"""SIGINT and SIGTERM, wherever a run may be waiting: it ends soon, says how to go on, and that does go on."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.harness import (
    UNTHROTTLED,
    Finished,
    Running,
    ServedSandbox,
    assert_tells_the_truth,
    environment,
    importer_here,
    report_of,
    running,
    serving,
    sids_of,
    summary_of,
    write_csv,
)

SOON_SECONDS = 10
"""Far more than an end takes, even on a busy machine, and less than every wait and grace that it must not sit out."""

BATCH_SIZE = 20


@pytest.fixture
def sids() -> list[str]:
    return sids_of(100)


@pytest.fixture
def contacts(tmp_path: Path, sids: list[str]) -> Path:
    return write_csv(tmp_path / "contacts.csv", sids)


def command_for(sandbox: ServedSandbox, input_: object, directory: Path, *options: object) -> list[object]:
    return ["run", input_, *sandbox.run_options(directory), "--batch-size", BATCH_SIZE, *options]


def stop(process: Running, number: signal.Signals = signal.SIGTERM) -> Finished:
    """Send the signal, and wait for the end that is due soon."""
    process.send(number)
    return process.finish(SOON_SECONDS)


def resume(ended: Finished, folder: Path, *options: object, number: signal.Signals = signal.SIGTERM) -> Finished:
    """Give the very command that a stopped process says goes on with the run."""
    assert ended.code == 5, ended.err
    assert "Traceback" not in ended.err
    sentence = rf"^importer: Stopped by {number.name}; nothing is lost\. Go on with: importer (.+)$"
    said = re.search(sentence, ended.err, re.MULTILINE)
    assert said, ended.err
    return importer_here(*shlex.split(said[1]), *options, cwd=folder)


def assert_stopped(directory: Path) -> None:
    """Assert that the files say how the run ended, and that nobody holds the directory any more."""
    summary = summary_of(directory)
    assert (summary["complete"], summary["exit_code"]) == (False, 5)
    assert "Stopped by" in summary["error"]
    with closing(sqlite3.connect(directory / "state.db")) as db:
        assert db.execute("SELECT coalesce(max(report_end), 0) FROM done").fetchone() == (
            (directory / "report.jsonl").stat().st_size,
        )


def test_signals_at_random_moments(tmp_path: Path) -> None:
    """Stopped again and again, a run sends nothing twice: what is in flight may finish, and is reported."""
    chance = random.Random(7)
    sids = sids_of(2_400)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    run = tmp_path / "run"
    with serving("latency: {median_seconds: 0.04, spread: 0.8}") as sandbox:
        command = command_for(sandbox, contacts, run)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            with running(*command, cwd=tmp_path) as process:
                process.wait_for(lambda: process.has_open(run / "lock"))
                time.sleep(chance.uniform(0, 0.4))
                ended = stop(process, number)
            assert ended.code == 5, ended.err
            assert f"Stopped by {number.name}" in ended.err
        ended = importer_here(*command, cwd=tmp_path)
        ledger = sandbox.ledger()

        assert ended.code == 0, ended.err
        assert_tells_the_truth(run, sandbox, sids)
    assert ledger["contacts_sent"] == len(sids)
    assert summary_of(run)["resent_contacts"] == 0
    assert importer_here("verify", run, contacts, cwd=tmp_path).code == 0


def test_stopped_while_waiting_for_the_quota(tmp_path: Path, sids: list[str], contacts: Path) -> None:
    """A run that may not send for a minute does not sit it out."""
    with serving() as sandbox:
        command = command_for(sandbox, contacts, tmp_path / "run", "--requests-per-minute", 1)
        with running(*command, cwd=tmp_path) as process:
            process.wait_for_word("batch_finished")
            ended = stop(process)
        assert_stopped(tmp_path / "run")
        assert len(report_of(tmp_path / "run")) == BATCH_SIZE
        assert summary_of(tmp_path / "run")["requests"] == sandbox.ledger()["requests"] == 1

        resumed = resume(ended, tmp_path, "--requests-per-minute", UNTHROTTLED)

        assert resumed.code == 0, resumed.err
        assert sandbox.ledger()["contacts_sent"] == len(sids)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("{requests: [1], status: 503, headers: {Retry-After: '50'}}", "retry_scheduled"),
        ("{requests: [1], status: 429, headers: {Retry-After: '50'}}", "quota_paused"),
    ],
    ids=["back-off", "pause"],
)
def test_stopped_while_the_api_has_it_wait(
    tmp_path: Path, sids: list[str], contacts: Path, fault: str, word: str
) -> None:
    """Neither a back-off nor a pause that the API asked for is sat out."""
    with serving(f"faults: [{fault}]") as sandbox:
        with running(*command_for(sandbox, contacts, tmp_path / "run", "--concurrency", 1), cwd=tmp_path) as process:
            process.wait_for_word(word)
            ended = stop(process, signal.SIGINT)
        assert_stopped(tmp_path / "run")

        resumed = resume(ended, tmp_path, number=signal.SIGINT)

        assert resumed.code == 0, resumed.err
        assert_tells_the_truth(tmp_path / "run", sandbox, sids)


def test_what_is_in_flight_may_finish(tmp_path: Path, sids: list[str], contacts: Path) -> None:
    """A request that is answered within the grace is reported, and is not sent again."""
    with serving("faults: [{requests: [1], delay_seconds: 1}]") as sandbox:
        with running(*command_for(sandbox, contacts, tmp_path / "run", "--concurrency", 1), cwd=tmp_path) as process:
            process.wait_for(lambda: sandbox.ledger()["contacts_sent"])
            ended = stop(process)
        assert_stopped(tmp_path / "run")
        assert [line["row"] for line in report_of(tmp_path / "run")] == list(range(1, BATCH_SIZE + 1))

        assert resume(ended, tmp_path).code == 0
        assert sandbox.ledger()["contacts_sent"] == len(sids)
        assert summary_of(tmp_path / "run")["resent_contacts"] == 0


def test_grace_is_limited(tmp_path: Path, sids: list[str], contacts: Path) -> None:
    """A request that is not answered within the grace is given up: its contacts are in doubt, and counted as such."""
    with serving("faults: [{requests: [1], delay_seconds: 50}]") as sandbox:
        command = command_for(sandbox, contacts, tmp_path / "run", "--concurrency", 1)
        graced = environment(IMPORTER_RUN__SHUTDOWN_GRACE_SECONDS="0.5")
        with running(*command, cwd=tmp_path, env=graced) as process:
            process.wait_for(lambda: sandbox.ledger()["contacts_sent"])
            ended = stop(process)
        assert_stopped(tmp_path / "run")
        assert report_of(tmp_path / "run") == []

        assert resume(ended, tmp_path).code == 0
        assert_tells_the_truth(tmp_path / "run", sandbox, sids)
        assert sandbox.ledger()["contacts_sent_more_than_once"] == BATCH_SIZE
        assert summary_of(tmp_path / "run")["resent_contacts"] == BATCH_SIZE


@pytest.mark.parametrize("head", [0, 2_000], ids=["at once", "in the middle"])
def test_stopped_while_standard_input_is_silent(tmp_path: Path, head: int) -> None:
    """A pipe that neither brings anything nor ends holds up no stop; the same stream goes on."""
    sids = sids_of(max(head, 100))
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    with serving() as sandbox, _pipe(tmp_path) as (reading, writing):
        command = command_for(sandbox, "-", tmp_path / "run")
        with running(*command, cwd=tmp_path, stdin=reading) as process:
            if head:
                os.write(writing, contacts.read_bytes()[:50_000])
                process.wait_for_word("batch_finished")
            else:
                process.wait_for(lambda: _sleeps_in_a_read(process.pid))
            ended = stop(process)
        assert ended.code == 5, ended.err
        assert "nothing is lost. Go on with: importer run -" in ended.err

        with running(*command, cwd=tmp_path, piped=contacts) as process:
            resumed = process.finish()

        assert resumed.code == 0, resumed.err
        assert sandbox.ledger()["contacts_sent"] == len(sids)
        assert_tells_the_truth(tmp_path / "run", sandbox, sids)


@contextmanager
def _pipe(folder: Path) -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def _sleeps_in_a_read(pid: int) -> bool:
    """Whether the process waits for a pipe; that of standard input is the only one it reads before it begins."""
    try:
        return "pipe_read" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False


def test_stopped_during_recovery(tmp_path: Path, sids: list[str], contacts: Path) -> None:
    """A long look at what an earlier process left holds up no stop."""
    with serving() as sandbox:
        command = command_for(sandbox, contacts, tmp_path / "run", "--requests-per-minute", 1)
        with running(*command, cwd=tmp_path) as process:
            process.wait_for_word("batch_finished")
            stop(process)
        report, state = tmp_path / "run" / "report.jsonl", tmp_path / "run" / "state.db"
        end = report.stat().st_size
        _set_report_end(state, 40 << 30)  # of holes, which take long to read and no room
        os.truncate(report, 40 << 30)

        with running(*command, cwd=tmp_path) as process:
            process.wait_for(lambda: process.has_open(report))
            ended = stop(process)

        assert ended.code == 5
        _set_report_end(state, end)
        os.truncate(report, end)
        assert resume(ended, tmp_path, "--requests-per-minute", UNTHROTTLED).code == 0
        assert_tells_the_truth(tmp_path / "run", sandbox, sids)


def _set_report_end(state: Path, end: int) -> None:
    with closing(sqlite3.connect(state, isolation_level=None)) as db:
        db.execute("UPDATE done SET report_end = ?", (end,))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_leaves_at_once(tmp_path: Path, sids: list[str], contacts: Path, number: signal.Signals) -> None:
    """A second signal waits for nothing, says so by its exit code, and still nothing is lost."""
    with serving("faults: [{requests: [2], delay_seconds: 50}]") as sandbox:
        with running(*command_for(sandbox, contacts, tmp_path / "run"), cwd=tmp_path) as process:
            process.wait_for(lambda: sandbox.ledger()["contacts_sent"] == len(sids))
            began = time.monotonic()
            while not process.is_over:  # two that come together may arrive as one
                process.send(number)
                time.sleep(0.05)
            ended = process.finish()
        assert time.monotonic() - began < SOON_SECONDS
        assert ended.code == 128 + number
        assert "Traceback" not in ended.err

        resumed = importer_here(*command_for(sandbox, contacts, tmp_path / "run"), cwd=tmp_path)

        assert resumed.code == 0, resumed.err
        assert_tells_the_truth(tmp_path / "run", sandbox, sids)
        ledger = sandbox.ledger()
        assert ledger["contacts_sent_more_than_once"] <= summary_of(tmp_path / "run")["resent_contacts"]


def test_signal_to_a_complete_run(tmp_path: Path, contacts: Path) -> None:
    """A signal while a process finds out that all is done: whatever it says, the run stays complete."""
    with serving() as sandbox:
        command = command_for(sandbox, contacts, tmp_path / "run")
        importer_here(*command, cwd=tmp_path)
        with running(*command, cwd=tmp_path) as process:
            process.wait_for(lambda: process.has_open(tmp_path / "run" / "lock"))
            ended = stop(process)
        again = importer_here(*command, cwd=tmp_path)

    assert ended.code in {0, 5, -signal.SIGTERM}, ended.err
    assert again.code == 0
    assert "already complete" in again.err
    assert summary_of(tmp_path / "run")["complete"] is True


def test_sigterm_ends_any_command(tmp_path: Path) -> None:
    """It is listened for from the start: nothing else ends the first process of a container."""
    silent = tmp_path / "silent.csv"
    os.mkfifo(silent)
    with running("check", silent, cwd=tmp_path) as process, silent.open("wb"):  # opens once it is read
        ended = stop(process)

    assert ended.code == 128 + signal.SIGTERM
