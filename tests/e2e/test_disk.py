"""A disk that is full, read-only or in the way: one clear error, and the same command goes on when there is room."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import (
    Finished,
    ServedSandbox,
    assert_tells_the_truth,
    importer,
    importer_here,
    running,
    serving,
    sids_of,
    summary_of,
    write_csv,
)

BATCH_SIZE = 20


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ServedSandbox]:
    """A sandbox in which everyone can be added."""
    with serving() as sandbox:
        yield sandbox


def no_file_beyond(limit_bytes: int) -> list[str]:
    """Give what starts a command so that each of its files is refused beyond a size, as by a full disk."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))"
    return [sys.executable, "-c", f"import os, resource, sys; {limit}; os.execv(sys.argv[1], sys.argv[1:])"]


def command_for(sandbox: ServedSandbox, contacts: Path, directory: Path, *options: object) -> list[object]:
    return ["run", contacts, *sandbox.run_options(directory), "--batch-size", BATCH_SIZE, *options]


def assert_one_clear_error(ended: Finished, said: str) -> None:
    """Assert exit code 5, one sentence that says what and where, and no traceback."""
    assert ended.code == 5, ended.err
    assert ended.err.count("importer: ") == 1, ended.err
    sentence = next(line for line in ended.err.splitlines() if line.startswith("importer: "))
    assert said in sentence
    assert "run the same command again" in sentence
    assert "Traceback" not in ended.err


def assert_finished(ended: Finished, directory: Path, sandbox: ServedSandbox, sids: list[str]) -> None:
    """Assert that the run is complete, with the promise kept."""
    assert ended.code == 0, ended.err
    assert_tells_the_truth(directory, sandbox, sids)
    verified = importer_here("verify", directory, cwd=directory.parent)
    assert verified.code == 0, verified.out


def test_less_and_less_full_disk(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Wherever a limit strikes, what was done stays done, and nothing is sent that was not written down before."""
    sids = sids_of(2_000, seed=31)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    run = tmp_path / "run"
    sent_before = sandbox.ledger()["contacts_sent"]
    reported = 0
    for limit_bytes in (300, 5_000, 50_000, 150_000):
        ended = importer(*command_for(sandbox, contacts, run), cwd=tmp_path, under=no_file_beyond(limit_bytes))
        assert_one_clear_error(ended, "run")
        if (run / "summary.json").exists():
            assert summary_of(run)["complete"] is False
        lines = (run / "report.jsonl").read_bytes().splitlines() if (run / "report.jsonl").exists() else []
        assert len(lines) >= reported
        reported = len(lines) // BATCH_SIZE * BATCH_SIZE

    ended = importer_here(*command_for(sandbox, contacts, run), cwd=tmp_path)

    assert_finished(ended, run, sandbox, sids)
    assert sandbox.ledger()["contacts_sent"] - sent_before - len(sids) <= summary_of(run)["resent_contacts"]


def test_report_torn_by_a_full_disk(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A batch whose lines find room only in part is not done: its torn lines are cut, and it is sent again."""
    sids = sids_of(1_000, seed=32)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    run = tmp_path / "run"
    command = command_for(sandbox, contacts, run, "--batch-size", 1_000)

    ended = importer(*command, cwd=tmp_path, under=no_file_beyond(80_000))

    assert_one_clear_error(ended, str(run))
    assert (run / "report.jsonl").stat().st_size == 80_000
    assert summary_of(run)["rows"] == 0
    assert summary_of(run)["exit_code"] == 5
    assert_finished(importer_here(*command, cwd=tmp_path), run, sandbox, sids)
    assert summary_of(run)["resent_contacts"] == 1_000


def test_summary_cannot_be_written(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Something in the place of the summary is an error that names it, and no harm."""
    sids = sids_of(40, seed=33)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    run = tmp_path / "run"
    (run / "summary.tmp").mkdir(parents=True)

    ended = importer_here(*command_for(sandbox, contacts, run), cwd=tmp_path)
    (run / "summary.tmp").rmdir()

    assert_one_clear_error(ended, "summary")
    assert_finished(importer_here(*command_for(sandbox, contacts, run), cwd=tmp_path), run, sandbox, sids)


def test_file_in_the_place_of_the_directory(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A run directory that is a file is an error that names it; the file is left alone."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(40, seed=34))
    (tmp_path / "run").write_text("mine")

    for directory in (tmp_path / "run", tmp_path / "run" / "inner"):
        assert_one_clear_error(importer_here(*command_for(sandbox, contacts, directory), cwd=tmp_path), str(directory))

    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")
def test_directory_without_permission(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A run directory that may not be written to is an error that names it."""
    sids = sids_of(40, seed=35)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    run = tmp_path / "run"
    run.mkdir(mode=0o500)

    ended = importer_here(*command_for(sandbox, contacts, run), cwd=tmp_path)
    run.chmod(0o700)

    assert_one_clear_error(ended, str(run))
    assert_finished(importer_here(*command_for(sandbox, contacts, run), cwd=tmp_path), run, sandbox, sids)


@contextmanager
def mounted(directory: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a tiny file system of its own; gives what changes its options. Skips the test where that is not allowed."""
    directory.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=50", "tmpfs", directory)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a file system")
    try:
        yield lambda options: _run("mount", "-o", f"remount,{options}", directory)
    finally:
        _run("umount", directory)


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def test_truly_full_disk(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """On a file system that is truly full, and read-only after that, the run waits for room and finishes in it."""
    sids = sids_of(3_000, seed=36)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    with mounted(tmp_path / "disk", "16k") as remount:
        run = tmp_path / "disk" / "run"
        command = command_for(sandbox, contacts, run)
        for size in ("16k", "64k", "300k"):
            remount(f"size={size}")
            assert_one_clear_error(importer(*command, cwd=tmp_path), str(run))
        remount("size=20m,ro")
        assert_one_clear_error(importer(*command, cwd=tmp_path), "ead-only")
        told = importer_here("status", run, "--json", cwd=tmp_path)
        remount("size=20m,rw")

        assert_finished(importer_here(*command, cwd=tmp_path), run, sandbox, sids)
        remount("ro")
        verified = importer_here("verify", run, cwd=tmp_path)

    assert told.code == 0, told.err
    assert json.loads(told.out)["complete"] is False
    assert verified.code == 0, verified.out + verified.err


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, sandbox: ServedSandbox) -> Path:
    """The directory of a complete run of which many rows are not in the list."""
    folder = tmp_path_factory.mktemp("imported")
    contacts = write_csv(folder / "contacts.csv", [*sids_of(20, seed=37), *["bad"] * 2_000])
    assert importer_here(*command_for(sandbox, contacts, folder / "run"), cwd=folder).code == 1
    return folder / "run"


@pytest.mark.parametrize("earlier", [None, b"from an earlier time\n"])
def test_failed_leaves_no_torn_file(tmp_path: Path, imported: Path, earlier: bytes | None) -> None:
    """`failed -o` on a full disk leaves what was there before, or nothing; and then works."""
    output = tmp_path / "failed.csv"
    if earlier is not None:
        output.write_bytes(earlier)
    before = list(tmp_path.iterdir())

    ended = importer("failed", imported, "-o", output, cwd=tmp_path, under=no_file_beyond(10_000))

    assert_one_clear_error(ended, str(output))
    assert list(tmp_path.iterdir()) == before
    assert earlier is None or output.read_bytes() == earlier
    assert importer_here("failed", imported, "-o", output, cwd=tmp_path).code == 0
    assert len(output.read_bytes().splitlines()) == 2_001


def test_failed_to_a_full_standard_output(tmp_path: Path, imported: Path) -> None:
    """A standard output that takes no more is an error too, and no traceback."""
    with Path("/dev/full").open("wb") as full, running("failed", imported, cwd=tmp_path, stdout=full) as process:
        ended = process.finish()

    assert_one_clear_error(ended, "standard output")


def test_failed_never_replaces_a_device(tmp_path: Path, imported: Path) -> None:
    """`failed -o` writes into a pipe or a device; it does not put a file in its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as cat:
        ended = importer("failed", imported, "-o", pipe, cwd=tmp_path)
        still_a_pipe = stat.S_ISFIFO(pipe.stat().st_mode)
        if not still_a_pipe:
            cat.kill()
        out, _ = cat.communicate()

    assert still_a_pipe
    assert ended.code == 0, ended.err
    assert len(out.splitlines()) == 2_001


@pytest.mark.parametrize("gone", ["disk", "reader"])
def test_log_that_nobody_takes(tmp_path: Path, sandbox: ServedSandbox, gone: str) -> None:
    """A log on a full disk, or into a pipe that nobody reads any more, ends no run and changes no exit code."""
    sids = sids_of(100, seed=38 if gone == "disk" else 39)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    if gone == "disk":
        log = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, log = os.pipe()
        os.close(reading)

    with running(*command_for(sandbox, contacts, tmp_path / "run"), cwd=tmp_path, stderr=log) as process:
        os.close(log)
        ended = process.finish()

    assert_finished(ended, tmp_path / "run", sandbox, sids)
