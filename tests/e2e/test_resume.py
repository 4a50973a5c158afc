"""The same command again: resumes what is incomplete, says so of what is complete, refuses what is not the same."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness import (
    Finished,
    ServedSandbox,
    assert_tells_the_truth,
    environment,
    importer,
    importer_here,
    report_of,
    running,
    serving,
    sids_of,
    summary_of,
    write_csv,
)

BATCH_SIZE = 20
ROWS = 2_000


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ServedSandbox]:
    """A sandbox in which everyone can be added, and that takes its time."""
    with serving("latency: {median_seconds: 0.03}") as sandbox:
        yield sandbox


class Begun(NamedTuple):
    """A run that is not complete, and its input."""

    folder: Path
    sids: list[str]

    @property
    def directory(self) -> Path:
        return self.folder / "run"

    @property
    def input(self) -> Path:
        return self.folder / "contacts.csv"

    def again(self, sandbox: ServedSandbox, *options: object, **environ: str) -> Finished:
        """Give the same command again, with whatever differs."""
        return importer_here(*self.command(sandbox), *options, cwd=self.folder, env=environment(**environ))

    def command(self, sandbox: ServedSandbox) -> list[object]:
        return ["run", self.input, *sandbox.run_options(self.directory), "--batch-size", BATCH_SIZE]


def begin(begun: Begun, sandbox: ServedSandbox, end: signal.Signals) -> None:
    """Run until at least 25 batches are reported, and end the process."""
    write_csv(begun.input, begun.sids)
    report = begun.directory / "report.jsonl"
    with running(*begun.command(sandbox), cwd=begun.folder) as process:
        process.wait_for(lambda: report.exists() and len(report_of_so_far(report)) >= 25 * BATCH_SIZE)
        process.send(end)
        process.finish()
    assert len(report_of_so_far(report)) < ROWS


def report_of_so_far(report: Path) -> list[bytes]:
    return report.read_bytes().splitlines()


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory, sandbox: ServedSandbox) -> Begun:
    begun = Begun(tmp_path_factory.mktemp("killed"), sids_of(ROWS, seed=21))
    begin(begun, sandbox, signal.SIGKILL)
    return begun


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory, sandbox: ServedSandbox) -> Begun:
    begun = Begun(tmp_path_factory.mktemp("stopped"), sids_of(ROWS, seed=22))
    begin(begun, sandbox, signal.SIGTERM)
    return begun


@pytest.fixture
def killed(tmp_path: Path, killed_once: Begun) -> Begun:
    """A run that was killed: its own copy, to be treated badly."""
    shutil.copytree(killed_once.folder, tmp_path, dirs_exist_ok=True)
    return killed_once._replace(folder=tmp_path)


@pytest.fixture
def stopped(tmp_path: Path, stopped_once: Begun) -> Begun:
    """A run that was stopped, its state.db closed: its own copy, to be treated badly."""
    shutil.copytree(stopped_once.folder, tmp_path, dirs_exist_ok=True)
    return stopped_once._replace(folder=tmp_path)


def assert_refused(ended: Finished, said: str) -> None:
    """Assert one sentence, exit code 2, and no traceback."""
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("importer: ") == 1


def test_same_command_resumes_and_then_is_complete(killed: Begun, sandbox: ServedSandbox) -> None:
    """A killed run goes on where it was; once it is complete it says so, sends nothing, and exits as it did."""
    before = report_of_so_far(killed.directory / "report.jsonl")

    resumed = importer(*killed.command(sandbox), cwd=killed.folder)
    requests = sandbox.ledger()["requests"]
    again = killed.again(sandbox)

    assert (resumed.code, again.code) == (0, 0), resumed.err
    assert "already complete" in again.err
    assert sandbox.ledger()["requests"] == requests
    kept = report_of_so_far(killed.directory / "report.jsonl")[: len(before)]
    assert sum(old == new for old, new in zip(before, kept, strict=True)) >= 20 * BATCH_SIZE
    assert_tells_the_truth(killed.directory, sandbox, killed.sids)
    assert summary_of(killed.directory)["complete"] is True
    assert importer_here("verify", killed.directory, killed.input, cwd=killed.folder).code == 0


def test_complete_run_keeps_its_exit_code(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A complete run of which some rows are not in the list exits with 1 every time."""
    contacts = write_csv(tmp_path / "contacts.csv", [*sids_of(50, seed=23), "bad"])
    options = sandbox.run_options(tmp_path / "run")
    codes = [importer_here("run", contacts, *options, cwd=tmp_path).code for _ in range(2)]
    requests = sandbox.ledger()["requests"]
    (tmp_path / "run" / "summary.json").unlink()

    third = importer_here("run", contacts, *options, cwd=tmp_path)

    assert [*codes, third.code] == [1, 1, 1]
    assert "already complete" in third.err
    assert summary_of(tmp_path / "run")["exit_code"] == 1
    assert sandbox.ledger()["requests"] == requests


@pytest.mark.parametrize(
    ("rows", "options", "environ", "said"),
    [
        (range(ROWS - 1), [], {}, "size of the input"),
        ([*range(ROWS), *range(5)], [], {}, "size of the input"),
        ([*range(149), 1, *range(150, ROWS)], [], {}, "row 150 is not what was imported"),
        (range(ROWS), ["--list", "0" * 32], {}, "what differs: list."),
        (range(ROWS), ["--batch-size", BATCH_SIZE + 1], {}, "delivery.batch_size"),
        (range(ROWS), ["--column", "1"], {}, "input.column"),
        (range(ROWS), [], {"IMPORTER_INPUT__SID_PATTERN": "[0-9a-f]{32}"}, "input.sid_pattern"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_run_is_refused(
    killed: Begun,
    sandbox: ServedSandbox,
    rows: Iterable[int],
    options: list[object],
    environ: dict[str, str],
    said: str,
) -> None:
    """In the directory of one run, nothing goes on that is not that run; what differs is named, and nothing harmed."""
    write_csv(killed.input, [killed.sids[row] for row in rows])
    before = {path.name: path.read_bytes() for path in killed.directory.iterdir() if path.suffix in {".jsonl", ".json"}}
    requests = sandbox.ledger()["requests"]

    refused = killed.again(sandbox, *options, **environ)

    assert_refused(refused, said)
    assert sandbox.ledger()["requests"] == requests
    assert {name: (killed.directory / name).read_bytes() for name in before} == before


def test_changed_stream_is_refused_with_the_row(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Of a stream only the beginning is known beforehand: the row that has changed, or is missing, is named."""
    sids = sids_of(600, seed=24)
    whole = write_csv(tmp_path / "whole.csv", sids)
    shorter = write_csv(tmp_path / "shorter.csv", sids[:200])
    changed = write_csv(tmp_path / "changed.csv", [*sids[:149], sids_of(1, seed=99)[0], *sids[150:]])
    command = ["run", "-", *sandbox.run_options(tmp_path / "run"), "--batch-size", BATCH_SIZE, "--concurrency", 2]
    report = tmp_path / "run" / "report.jsonl"
    with running(*command, cwd=tmp_path, piped=whole) as process:
        process.wait_for(lambda: report.exists() and len(report_of_so_far(report)) >= 400)
        process.kill()
    before, requests = report_of_so_far(report)[:300], sandbox.ledger()["requests"]

    ended = []
    for stream in (shorter, changed, whole):
        with running(*command, cwd=tmp_path, piped=stream) as process:
            ended.append(process.finish())
            if stream is not whole:
                assert sandbox.ledger()["requests"] == requests

    assert_refused(ended[0], "it ends before row 201")
    assert_refused(ended[1], "row 150 is not what was imported")
    assert ended[2].code == 0, ended[2].err
    assert report_of_so_far(report)[:300] == before
    assert_tells_the_truth(tmp_path / "run", sandbox, sids)


def _flip(report: Path) -> None:
    data = bytearray(report.read_bytes())
    data[1_000] ^= 1
    report.write_bytes(data)


def _cut(report: Path) -> None:
    report.write_bytes(report.read_bytes()[:5_000])


@pytest.mark.parametrize("change", [_flip, _cut, Path.unlink], ids=["flipped", "cut", "missing"])
def test_changed_report_is_refused(killed: Begun, sandbox: ServedSandbox, change: Callable[[Path], None]) -> None:
    """A report that is not what was written is refused, and left as it is."""
    report = killed.directory / "report.jsonl"
    change(report)
    left = report.read_bytes() if report.exists() else None

    refused = killed.again(sandbox)

    assert_refused(refused, "is not what the run wrote")
    assert (report.read_bytes() if report.exists() else None) == left


def _remove(state: Path) -> None:
    for path in state.parent.glob("state.db*"):
        path.unlink()


def _empty(state: Path) -> None:
    _remove(state)
    state.touch()


def _fill_with_garbage(state: Path) -> None:
    state.write_bytes(b"garbage " * 1_000)


def _halve(state: Path) -> None:
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])


def _zero_the_middle(state: Path) -> None:
    data = state.read_bytes()
    state.write_bytes(data[:8_192] + bytes(len(data) - 12_288) + data[-4_096:])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove, "no state.db that tells what it is of"),
        (_empty, "has lost what the run is of"),
        (_fill_with_garbage, "damaged"),
        (_halve, "damaged"),
        (_zero_the_middle, "damaged"),
    ],
)
def test_damaged_state_is_no_silent_restart(
    stopped: Begun, sandbox: ServedSandbox, damage: Callable[[Path], None], said: str
) -> None:
    """Without a sound state.db beside its report a run does not begin again by itself: contacts would be sent twice."""
    report = stopped.directory / "report.jsonl"
    before = report.read_bytes()
    damage(stopped.directory / "state.db")
    requests = sandbox.ledger()["requests"]

    refused = stopped.again(sandbox)

    assert_refused(refused, said)
    assert report.read_bytes() == before
    assert sandbox.ledger()["requests"] == requests


def test_lost_log_of_the_state_is_no_silent_restart(killed: Begun, sandbox: ServedSandbox) -> None:
    """After a kill much of the journal stands in state.db-wal; a directory copied without it is refused."""
    (killed.directory / "state.db-wal").unlink()
    (killed.directory / "state.db-shm").unlink()
    before = (killed.directory / "report.jsonl").read_bytes()

    refused = killed.again(sandbox)

    assert_refused(refused, "state.db")
    assert (killed.directory / "report.jsonl").read_bytes() == before


def test_second_process_is_refused(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A second process on the same directory is refused, and does the first one no harm."""
    sids = sids_of(100, seed=25)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    command = ["run", contacts, *sandbox.run_options(tmp_path / "run"), "--batch-size", BATCH_SIZE]
    with running(*command, "--requests-per-minute", 1, cwd=tmp_path) as first:
        first.wait_for_word("batch_finished")  # now it waits for the quota
        second = importer(*command, cwd=tmp_path)
        assert not first.is_over
        first.send(signal.SIGTERM)
        ended = first.finish()
    resumed = importer_here(*command, cwd=tmp_path)

    assert_refused(second, "another process is at work on this run")
    assert ended.code == 5, ended.err
    assert resumed.code == 0, resumed.err
    assert_tells_the_truth(tmp_path / "run", sandbox, sids)
    assert summary_of(tmp_path / "run")["resent_contacts"] == 0


@pytest.mark.parametrize("left", [["lock"], ["lock", "state.db", "report.jsonl"]], ids=len)
def test_killed_before_anything_was_written(tmp_path: Path, sandbox: ServedSandbox, left: list[str]) -> None:
    """Empty files are what a process that died at once leaves: the run begins."""
    sids = sids_of(30, seed=26)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).touch()

    ended = importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)

    assert ended.code == 0, ended.err
    assert len(report_of(tmp_path / "run")) == 30
