"""What every benchmark needs: made-up inputs, a sandbox on the other core, and whole processes, measured."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from importer.sandbox import DEFAULT_LIST

BATCH_SIZE = 5000
CONCURRENCY = 4
# Nothing remembered: every round finds the same empty list, and the sandbox stays as fast.
_SCENARIO = "ledger: {remember_contacts: false}\npopulation: {unknown: 0.002, refused: 0.001}\n"
_ENVIRONMENT = {
    "EXOTEL_ACCOUNT_SID": "sandbox",
    "EXOTEL_API_KEY": "sandbox-key",
    "EXOTEL_API_TOKEN": "sandbox-token",
}


class Measured(NamedTuple):
    """What one process took."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


class Sandbox(NamedTuple):
    """A sandbox that is being served."""

    url: str

    @property
    def call(self) -> str:
        """The address of the bulk call."""
        return f"{self.url}/v2/accounts/sandbox/lists/{DEFAULT_LIST}/contacts"

    def requests(self) -> int:
        """How many requests came so far."""
        with urllib.request.urlopen(f"{self.url}/_ledger") as answer:
            return int(json.load(answer)["requests"])


def chunks(rows: int, *, quoted: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield the text of as many rows, a batch at a time, and their sids."""
    chance = random.Random(5)
    note = '"hello, {}"' if quoted else "hello {}"
    for start in range(0, rows, BATCH_SIZE):
        count = min(BATCH_SIZE, rows - start)
        digits = chance.randbytes(16 * count).hex()
        sids = [digits[at : at + 32] for at in range(0, 32 * count, 32)]
        text = "".join(f"Person {start + n},{sid},Pune,{note.format(n)}\n" for n, sid in enumerate(sids))
        yield text, sids


HEADER = "name,contact_sid,city,note\n"


def write_input(path: Path, rows: int, *, quoted: bool = False) -> Path:
    """Write a CSV file of four columns."""
    with path.open("w") as table:
        table.write(HEADER)
        table.writelines(text for text, _ in chunks(rows, quoted=quoted))
    return path


def write_bodies(path: Path, rows: int) -> Path:
    """Write the requests' bodies that the same rows make, one a line."""
    with path.open("w") as bodies:
        for _, sids in chunks(rows, quoted=False):
            bodies.write(json.dumps({"contact_references": [{"contact_sid": sid} for sid in sids]}) + "\n")
    return path


@contextmanager
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """Serve the sandbox on the last core."""
    scenario = folder / "scenario.yaml"
    scenario.write_text(_SCENARIO)
    command = [sys.executable, "-m", "importer", "sandbox", "--port", "0", "--scenario", str(scenario)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=_pin(last=True),  # noqa: PLW1509  # single-threaded here
    )
    assert process.stdout is not None
    try:
        yield Sandbox(process.stdout.readline().decode().strip())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def importer_command(source: str | Path, folder: Path, sandbox: Sandbox) -> list[str]:
    """Give the command that imports, unthrottled, as anybody would type it."""
    options = {
        "--list": DEFAULT_LIST,
        "--base-url": sandbox.url,
        "--run-dir": str(folder / "run"),
        "--log-level": "warning",
        "--requests-per-minute": "1000000000",
        "--concurrency": str(CONCURRENCY),
    }
    return [sys.executable, "-m", "importer", "run", str(source), *(word for pair in options.items() for word in pair)]


def measure(command: list[str], log: Path, stdin: IO[bytes] | None = None) -> Measured:
    """Run a contender as a whole process, on all cores but the last."""
    began = time.perf_counter()
    process = _start(command, log, stdin)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1}:
        sys.exit(f"{' '.join(command)} exited with {process.returncode}:\n{log.read_text()[-2000:]}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def seconds_to_first_request(command: list[str], log: Path, sandbox: Sandbox) -> float:
    """Start the command, kill it when its first request has come, and tell how long that took."""
    before, began = sandbox.requests(), time.perf_counter()
    process = _start(command, log)
    while sandbox.requests() == before:
        if process.poll() is not None:
            sys.exit(f"{' '.join(command)} ended without a request:\n{log.read_text()[-2000:]}")
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    process.kill()
    process.wait()
    return seconds


def kill_after(command: list[str], log: Path, sandbox: Sandbox, requests: int) -> None:
    """Run the importer for so many requests, and kill it."""
    until = sandbox.requests() + requests
    process = _start(command, log)
    while process.poll() is None and sandbox.requests() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()


def _start(command: list[str], log: Path, stdin: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=os.environ | _ENVIRONMENT,
            preexec_fn=_pin(last=False),  # noqa: PLW1509  # single-threaded here
        )


def _pin(*, last: bool) -> Callable[[], None] | None:
    """Give what keeps a child on the last core, or off it, where that can be."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    mine = cores[-1:] if last else cores[:-1]
    return (lambda: os.sched_setaffinity(0, mine)) if mine else None
