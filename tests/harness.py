"""The installed command in a process of its own, or in this one; a sandbox beside it; and inputs for them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from io import BytesIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from unittest.mock import patch

import pytest
import structlog

from importer.cli import main
from importer.sandbox import DEFAULT_LIST, Sandbox, Scenario, Standing

IMPORTER = [sys.executable, "-W", "error", "-m", "importer"]
LIST = DEFAULT_LIST
UNTHROTTLED = "100000000"
_CREDENTIALS = {
    "EXOTEL_ACCOUNT_SID": "sandbox",
    "EXOTEL_API_KEY": "sandbox-key",
    "EXOTEL_API_TOKEN": "sandbox-token",
}


def environment(**more: str) -> dict[str, str]:
    """Our own environment without settings of the importer, with the sandbox's credentials."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("IMPORTER_", "EXOTEL_"))}
    return kept | _CREDENTIALS | {"PYTHONUNBUFFERED": "1"} | more


def importer(*arguments: object, cwd: Path, under: Sequence[str] = (), **more: Any) -> Finished:
    """Run the command to its end, in a process of its own. `under` is a program that starts it."""
    options: dict[str, Any] = {"env": environment()} | ({} if "input" in more else {"stdin": subprocess.DEVNULL}) | more
    command = [*under, *IMPORTER, *map(str, arguments)]
    ended = subprocess.run(command, cwd=cwd, capture_output=True, timeout=100, check=False, **options)
    return Finished(ended.returncode, ended.stdout, ended.stderr)


def importer_here(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Finished:
    """Run the command to its end in this process: where neither signals nor pipes nor limits are at stake."""
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, env or environment(), clear=True))
        stack.enter_context(patch.object(sys, "argv", ["importer", *map(str, arguments)]))
        stack.enter_context(chdir(cwd))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        stack.callback(structlog.reset_defaults)
        for number, handler in handlers.items():
            stack.callback(signal.signal, number, handler)
        with pytest.raises(SystemExit) as ended:
            main()
    return Finished(ended.value.code, *(stream.buffer.getvalue() for stream in (out, err)))


def start(*arguments: object, cwd: Path, **more: Any) -> subprocess.Popen[bytes]:
    """Start the command, to be killed."""
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL} | pipes | {"env": environment()} | more
    return subprocess.Popen([*IMPORTER, *map(str, arguments)], cwd=cwd, **options)


class Finished:
    """What a command left on its outputs, and its exit code."""

    def __init__(self, code: object, out: bytes, err: bytes) -> None:
        self.code = code
        self.raw = out
        self.out = out.decode()
        self.err = err.decode()


class Running:
    """A command under way. Its outputs go to files, so that it never waits for us to read them."""

    def __init__(self, process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes]) -> None:
        self._process = process
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    @property
    def out(self) -> str:
        """What stands on standard output so far."""
        return _content(self._out).decode()

    @property
    def err(self) -> str:
        """What stands on standard error so far."""
        return _content(self._err).decode()

    def wait_for(self, holds: Callable[[], object]) -> bool:
        """Wait until something holds, or the command is over; tells whether it holds."""
        wait_until(lambda: holds() or self.is_over)
        return bool(holds())

    def wait_for_word(self, text: str) -> None:
        """Wait until a text stands on standard error."""
        assert self.wait_for(lambda: text in self.err), self.err

    def has_open(self, path: Path) -> bool:
        """Whether the command holds a file open: its run directory's lock, and it is past its own start."""
        with suppress(OSError):  # the process, or a file, is gone meanwhile
            return path in [link.readlink() for link in Path(f"/proc/{self.pid}/fd").iterdir()]
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the command, as a loss of power would; nothing if it is over."""
        self._process.kill()
        self._process.wait()

    def finish(self, timeout_seconds: float = 60) -> Finished:
        """Wait for the command's end."""
        code = self._process.wait(timeout_seconds)
        return Finished(code, _content(self._out), _content(self._err))


@contextmanager
def running(*arguments: object, cwd: Path, piped: Path | None = None, **more: Any) -> Iterator[Running]:
    """Start the command, with a file piped into it if there is one; at the end it is over, whatever it takes."""
    with TemporaryFile() as out, TemporaryFile() as err:
        cat = subprocess.Popen(["cat", piped], stdout=subprocess.PIPE) if piped else None
        streams: dict[str, Any] = {"stdout": out, "stderr": err} | ({"stdin": cat.stdout} if cat else {})
        process = start(*arguments, cwd=cwd, **(streams | more))
        if cat and cat.stdout:
            cat.stdout.close()
        try:
            yield Running(process, out, err)
        finally:
            process.kill()
            process.wait()
            if cat:
                cat.kill()
                cat.wait()


def wait_until(holds: Callable[[], object], timeout_seconds: float = 60) -> None:
    """Look again and again until something holds."""
    until = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def _content(file: IO[bytes]) -> bytes:
    return os.pread(file.fileno(), 1 << 30, 0)


class ServedSandbox:
    """A sandbox that a thread of this process serves. What it knows is asked for over HTTP, as by anyone."""

    def __init__(self, url: str, scenario: Scenario) -> None:
        self.url = url
        self.scenario = scenario

    def ledger(self) -> dict[str, Any]:
        """What truly happened."""
        with urllib.request.urlopen(f"{self.url}/_ledger") as answer:
            ledger: dict[str, Any] = json.load(answer)
        return ledger

    def added(self) -> list[str]:
        """The contacts that were added to the list, in lower case."""
        with urllib.request.urlopen(f"{self.url}/_ledger/lists/{LIST}/contacts") as answer:
            text: str = answer.read().decode()
        return text.split()

    def run_options(self, directory: Path) -> list[object]:
        """The options of a run into this sandbox, unthrottled."""
        return ["--list", LIST, "--base-url", self.url, "--run-dir", directory, "--requests-per-minute", UNTHROTTLED]


@contextmanager
def serving(scenario: str = "") -> Iterator[ServedSandbox]:
    """Serve a sandbox with a scenario in YAML."""
    sandbox = Sandbox(Scenario.from_text(scenario))
    begun: Future[tuple[str, Callable[[], object]]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with sandbox.serve() as url:
            begun.set_result((url, partial(asyncio.get_running_loop().call_soon_threadsafe, over.set)))
            await over.wait()

    with ThreadPoolExecutor(1, "sandbox") as thread:
        served = thread.submit(asyncio.run, serve())
        url, end = begun.result(timeout=10)
        try:
            yield ServedSandbox(url, sandbox.scenario)
        finally:
            end()
            served.result()


def sids_of(count: int, seed: int = 1) -> list[str]:
    """Distinct sids, made up."""
    chance = random.Random(seed)
    return [f"{chance.getrandbits(128):032x}" for _ in range(count)]


def write_csv(path: Path, sids: Iterable[str]) -> Path:
    """Write an input of two columns."""
    lines = (f"Person {number},{sid}\n" for number, sid in enumerate(sids, 1))
    path.write_text("name,contact_sid\n" + "".join(lines))
    return path


def report_of(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's report."""
    return [json.loads(line) for line in (directory / "report.jsonl").read_text().splitlines()]


def summary_of(directory: Path) -> dict[str, Any]:
    """A run's summary."""
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return summary


def assert_tells_the_truth(directory: Path, sandbox: ServedSandbox, sids: list[str]) -> None:
    """Assert that each row stands in the report once, and that the report says of each what truly happened."""
    lines = report_of(directory)
    added = set(sandbox.added())
    standing = sandbox.scenario.population.standing

    assert sorted(line["row"] for line in lines) == list(range(1, len(sids) + 1))
    for line in lines:
        assert line["contact_sid"] == sids[line["row"] - 1]
        match line["outcome"]:
            case "added":
                assert line["contact_sid"] in added
            case "already_present":
                assert line["contact_sid"] in added or standing(line["contact_sid"]) is Standing.MEMBER
            case "rejected":
                assert standing(line["contact_sid"]) in {Standing.UNKNOWN, Standing.REFUSED}
            case "failed":
                assert line["contact_sid"] not in added
            case outcome:
                assert outcome == "unknown"
    outcomes = Counter(line["outcome"] for line in lines)
    claimed = {outcome: count for outcome, count in summary_of(directory)["outcomes"].items() if count}
    assert outcomes == claimed
