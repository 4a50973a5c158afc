"""What a person sees: the command on a real terminal, with colours and without, and what is said when it goes wrong."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from threading import Thread

import pytest

from tests.harness import (
    IMPORTER,
    LIST,
    ServedSandbox,
    environment,
    importer,
    importer_here,
    running,
    serving,
    sids_of,
    write_csv,
)

ERASE = "\x1b[J"
COLOUR = re.compile(r"\x1b\[[\d;]*(?:3|4|9|10)\d[\d;]*m")
# The second answer lacks an item, which is warned of; the first comes late enough to be waited for.
SCENARIO = "faults: [{requests: [1], delay_seconds: 1.2}, {requests: [2], items: missing}]"


@pytest.fixture
def sandbox() -> Iterator[ServedSandbox]:
    with serving(SCENARIO) as sandbox:
        yield sandbox


class Shown:
    """What the command wrote to its terminal."""

    def __init__(self, code: int, written: str) -> None:
        self.code = code
        self.written = written.replace("\r\n", "\n")

    @property
    def pictures(self) -> list[str]:
        """What stood on the terminal between two changes, as text."""
        return [re.sub(r"\x1b\[[\d;]*\w|\r", "", part) for part in self.written.split(ERASE)]


def on_terminal(*arguments: object, cwd: Path, columns: int = 80, **variables: str) -> Shown:
    """Run the command to its end on a terminal of that width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in environment().items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    read: list[bytes] = []

    def drain() -> None:
        try:
            while chunk := os.read(ours, 65_536):
                read.append(chunk)
        except OSError:  # how Linux says that nobody has the other end open any more
            return

    reader = Thread(target=drain)
    reader.start()
    env |= {"TERM": "xterm-256color"} | variables
    command = [*IMPORTER, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    code = process.wait(timeout=60)
    reader.join()
    os.close(ours)
    return Shown(code, b"".join(read).decode())


def run_on_terminal(sandbox: ServedSandbox, folder: Path, columns: int = 80, **variables: str) -> Shown:
    contacts = write_csv(folder / "contacts.csv", sids_of(300))
    options = [*sandbox.run_options(folder / "run"), "--batch-size", 100, "--concurrency", 1]
    return on_terminal("run", contacts, *options, cwd=folder, columns=columns, **variables)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A whole run on an ordinary terminal."""
    with serving(SCENARIO) as sandbox:
        return run_on_terminal(sandbox, tmp_path_factory.mktemp("shown"))


def test_display_appears_and_is_erased(shown: Shown) -> None:
    """While it runs a terminal shows how far it is; at the end the table stands there, and nothing else."""
    assert shown.code == 0, shown.written
    assert COLOUR.search(shown.written)
    *before, last = shown.pictures
    assert any("rows      0" in picture and "1 in flight" in picture for picture in before)
    assert any("of ≈300" in picture for picture in before)
    assert last.startswith("Finished: 300 rows, all in the list.")
    assert last.endswith("Nothing is left to do.\n")
    assert "now  " not in last


def test_log_lines_stand_above_the_display(shown: Shown) -> None:
    """A warning takes the display's place, whole, and the display is drawn again below it."""
    warned = [picture for picture in shown.pictures if "answer_anomalous" in picture]
    assert len(warned) == 1
    lines = warned[0].splitlines()
    assert "answer_anomalous" in lines[0]
    assert lines[-1].startswith("now ")


def test_narrow_terminal_is_kept_to(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """On 40 columns no line of the display is longer."""
    shown = run_on_terminal(sandbox, tmp_path, columns=40)

    pictures = [picture for picture in shown.pictures[:-1] if "[warning" not in picture]
    assert any("outcomes" in picture for picture in pictures)
    assert max(len(line) for picture in pictures for line in picture.splitlines()) < 40


def test_no_color_is_heeded(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """With NO_COLOR neither display nor log nor table has a colour."""
    shown = run_on_terminal(sandbox, tmp_path, NO_COLOR="1")

    assert ERASE in shown.written
    assert "answer_anomalous" in shown.written
    assert not COLOUR.search(shown.written)


def test_dumb_terminal_gets_log_lines(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A terminal that can do nothing gets lines, as a file does."""
    shown = run_on_terminal(sandbox, tmp_path, TERM="dumb")

    assert shown.code == 0, shown.written
    assert shown.written.count("batch_finished") == 3
    assert "\x1b" not in shown.written
    assert "Finished: 300 rows" in shown.written


def test_debug_logs_stand_above_the_display(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """With --debug all log lines are shown, beside the display."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(300))
    options = [*sandbox.run_options(tmp_path / "run"), "--batch-size", 100]

    shown = on_terminal("--debug", "run", contacts, *options, cwd=tmp_path)

    assert shown.code == 0, shown.written
    assert ERASE in shown.written
    assert shown.written.count("batch_finished") == 3


def test_next_step_of_a_run_works(tmp_path: Path) -> None:
    """What is proposed for the rows that did not get in writes them."""
    with serving("population: {unknown: 0.2}") as sandbox:
        shown = run_on_terminal(sandbox, tmp_path)
    proposed = re.search(r"^  importer (failed .+)$", shown.written, re.MULTILINE)

    assert shown.code == 1
    assert proposed
    written = importer_here(*proposed[1].split(), cwd=tmp_path)
    assert written.code == 0
    assert "they are in not-in-list.csv" in written.err
    assert (tmp_path / "not-in-list.csv").exists()


@pytest.mark.parametrize("command", [["--version"], ["run", "--help"], ["check", "contacts.csv"], ["status", "run"]])
@pytest.mark.parametrize("output", ["full", "closed"])
def test_output_that_takes_nothing_is_told(
    tmp_path: Path, sandbox: ServedSandbox, command: list[str], output: str
) -> None:
    """A full disk or a closed stream behind standard output is one sentence and no success."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(3))
    if "status" in command:
        importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)
    if output == "full":
        with Path("/dev/full").open("wb") as full, running(*command, cwd=tmp_path, stdout=full) as process:
            ended = process.finish()
    else:
        ended = importer(*command, cwd=tmp_path, under=["sh", "-c", 'exec "$0" "$@" >&-'])

    assert ended.code == 5
    assert re.fullmatch(r"importer: standard output: .+\n", ended.err)


def test_closed_streams_spoil_no_run(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Where all three streams are closed, no file of the run takes their place."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(300))
    command = ["run", contacts, *sandbox.run_options(tmp_path / "run"), "--batch-size", 100]

    ended = importer(*command, cwd=tmp_path, under=["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-'])

    assert ended.code == 0
    assert importer_here("verify", tmp_path / "run", cwd=tmp_path).code == 0


def _fail(*_: object) -> None:
    raise LookupError("the token is sandbox-token")


def test_defect_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect is one sentence that names a file with the details, without secrets, for its owner alone; exit 5."""
    monkeypatch.setattr("importer.status.status_of", _fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    ended = importer_here("status", "run", cwd=tmp_path)

    assert ended.code == 5
    assert re.fullmatch(r"importer: A defect of the importer .+LookupError.+Nothing is lost.+\n", ended.err)
    (details,) = tmp_path.glob("importer-defect-*.txt")
    assert str(details) in ended.err
    assert details.stat().st_mode & 0o777 == 0o600
    assert "in _fail" in details.read_text()
    assert "sandbox-token" not in details.read_text()


@pytest.mark.parametrize(("command", "code"), [(["status", "missing"], 2), (["status", "."], 5)])
def test_debug_shows_where_an_error_arose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], code: int
) -> None:
    """With --debug a traceback stands before the sentence, for a user's mistake as for ours."""
    if code == 5:
        monkeypatch.setattr("importer.status.status_of", _fail)

    ended = importer_here("--debug", *command, cwd=tmp_path)

    assert ended.code == code
    assert ended.err.startswith("Traceback")
    assert ended.err.splitlines()[-1].startswith("importer: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sandbox", "--port", "99999"], "--port"),
        (["run", "contacts.csv", "--list", LIST, "--batch-size", "many"], "--batch-size"),
        (["run", "contacts.csv", "--list", LIST, "--run-dir", "contacts.csv"], "choose another path"),
    ],
)
def test_clumsy_command_is_told_what_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Wrong numbers and paths that are something else are the user's to mend, not defects."""
    write_csv(tmp_path / "contacts.csv", sids_of(3))

    ended = importer_here(*arguments, cwd=tmp_path)

    assert ended.code in {2, 5}
    assert said in ended.err
    assert "defect" not in ended.err
