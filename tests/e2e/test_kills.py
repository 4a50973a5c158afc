"""The command, killed at seeded random moments over and over until it finishes. Only the promise is checked."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from pathlib import Path

import pytest

from importer.errors import RunDirectoryError
from importer.history import History
from tests.harness import (
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

BATCH_SIZE = 20
CONCURRENCY = 4
LATENCY = "latency: {median_seconds: 0.04, spread: 0.8}"
REQUEST_SECONDS = 0.055
"""What a request takes with that latency, at least; half as long again where faults have requests repeated."""

IN_FLIGHT = 3 * CONCURRENCY
"""Batches that a kill may find sent and not yet done: with the senders, in the queue of results, with the collector."""

_START_SECONDS = {"at the start": 0.3, "at recovery": 0.0, "at work": 0.0}
"""How long at least a process of this kind is not at work before its moment comes."""

POPULATION = "population: {member: 0.05, unknown: 0.03, refused: 0.02}"
CALM = f"{POPULATION}\n{LATENCY}\n"
ROUGH = f"""{CALM}
api: {{member_data: full, failed_data: sid}}  # or nothing could tell that a short answer is shuffled
faults:
  - {{chance: 0.06, status: 503}}
  - {{chance: 0.05, status: 503, process: before}}
  - {{chance: 0.05, reset: before}}
  - {{chance: 0.05, reset: after}}
  - {{chance: 0.05, items: missing, count: 3}}
  - {{chance: 0.05, items: shuffled}}
  - {{chance: 0.05, item_code: 429, count: 5}}
"""
IMPATIENT = {"IMPORTER_RETRY__INITIAL_WAIT_SECONDS": "0.05", "IMPORTER_RETRY__MAX_WAIT_SECONDS": "0.2"}


class Killed:
    """A run of an input of its own, killed again and again. Remembers what was in doubt after each kill."""

    def __init__(
        self, folder: Path, sandbox: ServedSandbox, seed: int, kills: int, *options: object, piped: bool = False
    ) -> None:
        """Make an input that cannot be finished before the last kill."""
        self._chance = random.Random(seed)
        self._sandbox = sandbox
        self._folder = folder
        self.moments = [self._moment() for _ in range(kills)]
        at_work = sum(max(0.0, seconds - _START_SECONDS[kind]) for kind, seconds in self.moments) + 0.05 * kills
        batch_seconds = REQUEST_SECONDS * (1.5 if sandbox.scenario.faults else 1) / CONCURRENCY
        self.sids = sids_of(300 + int(at_work / batch_seconds) * BATCH_SIZE, seed)
        self.input = write_csv(folder / f"contacts-{seed}.csv", self.sids)
        self.directory = folder / f"run-{seed}"
        self._piped = self.input if piped else None
        self._command = [
            "run",
            "-" if piped else self.input,
            *sandbox.run_options(self.directory),
            "--batch-size",
            BATCH_SIZE,
            "--concurrency",
            CONCURRENCY,
            *options,
        ]
        self.in_doubt: list[set[int]] = []

    def _moment(self) -> tuple[str, float]:
        """Draw when to kill: a time after the process's start, after it holds the directory, or at its requests."""
        kind = self._chance.choices(["at the start", "at recovery", "at work"], [2, 2, 5])[0]
        most = {"at the start": 0.8, "at recovery": 0.05, "at work": 0.3}[kind]
        return kind, self._chance.uniform(0, most)

    def go(self) -> Killed:
        """Kill the run at every moment, and then let it finish."""
        for kind, seconds in self.moments:
            with self._started() as process:
                requests = self._sandbox.ledger()["requests"]
                if kind == "at recovery":
                    process.wait_for(partial(process.has_open, self.directory / "lock"))
                elif kind == "at work":
                    process.wait_for(partial(self._has_more_requests_than, requests))
                time.sleep(seconds)
                assert not process.is_over, f"over before it was killed:\n{process.err}"
                process.kill()
            self.in_doubt.append(self._batches_in_doubt())
            self._tear()
        with self._started() as process:
            ended = process.finish()
        assert ended.code == 1, ended.err
        return self

    @property
    def may_be_resent(self) -> int:
        """Contacts that were in flight at the kills, counted at each."""
        return sum(len(batches) for batches in self.in_doubt) * BATCH_SIZE

    def _has_more_requests_than(self, requests: int) -> bool:
        return bool(self._sandbox.ledger()["requests"] > requests)

    def _started(self) -> AbstractContextManager[Running]:
        return running(*self._command, cwd=self._folder, piped=self._piped, env=environment(**IMPATIENT))

    def _batches_in_doubt(self) -> set[int]:
        """Look into the journal; a process that died young left none."""
        with suppress(RunDirectoryError), closing(History(self.directory / "state.db")) as history:
            return {batch for batch, found in history.unfinished().items() if found.in_doubt}
        return set()

    def _tear(self) -> None:
        """Now and then leave what a loss of power may: bytes after the report's last committed end.

        Only once the run has begun, as its first summary tells: before that nobody writes to the report.
        """
        report = self.directory / "report.jsonl"
        if (self.directory / "summary.json").exists() and self._chance.random() < 0.3:
            with report.open("ab") as file:
                file.write(self._chance.choice([b'{"row":1,"contact_sid":"', b"\0" * 4096, b'{"row":1}\n']))


def assert_keeps_the_promise(killed: Killed, sandbox: ServedSandbox) -> None:
    """Assert that no row is lost or doubled, that the report tells the truth, and that `verify` believes it."""
    verified = importer_here("verify", killed.directory, killed.input, cwd=killed.input.parent)
    assert verified.code == 0, verified.out
    assert_tells_the_truth(killed.directory, sandbox, killed.sids)
    summary = summary_of(killed.directory)
    assert (summary["complete"], summary["exit_code"]) == (True, 1)
    assert all(len(batches) <= IN_FLIGHT for batches in killed.in_doubt)
    assert summary["resent_contacts"] <= killed.may_be_resent


def assert_resends_only_what_was_in_flight(killed: Killed, sandbox: ServedSandbox) -> None:
    """Assert that, without faults, every contact sent again was in flight at a kill, and is counted."""
    ledger = sandbox.ledger()
    resent = summary_of(killed.directory)["resent_contacts"]
    assert ledger["contacts_sent_more_than_once"] <= resent
    assert ledger["contacts_sent"] - len(killed.sids) <= resent
    in_doubt = set().union(*killed.in_doubt)
    again = Counter(line["batch"] for line in report_of(killed.directory) if line["attempts"] > 1)
    assert set(again) <= in_doubt


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """However often it is killed, every row is reported once, and only what was in flight is sent again."""
    with serving(CALM) as sandbox:
        killed = Killed(tmp_path, sandbox, seed=1, kills=6).go()

        assert_keeps_the_promise(killed, sandbox)
        assert_resends_only_what_was_in_flight(killed, sandbox)


def test_kills_amid_faults(tmp_path: Path) -> None:
    """Kills among 503s, resets, missing items and items 429: the report still tells the truth of every row."""
    with serving(ROUGH) as sandbox:
        killed = Killed(tmp_path, sandbox, seed=2, kills=5).go()

        assert_keeps_the_promise(killed, sandbox)


def test_kills_of_a_run_that_reads_standard_input(tmp_path: Path) -> None:
    """A run that is fed the same stream again goes on where it was killed."""
    with serving(CALM) as sandbox:
        killed = Killed(tmp_path, sandbox, seed=3, kills=3, piped=True).go()

        assert_keeps_the_promise(killed, sandbox)
        assert_resends_only_what_was_in_flight(killed, sandbox)


@pytest.mark.parametrize(("scenario", "seed", "kills"), [(CALM, 4, 4), (ROUGH, 5, 3)], ids=["calm", "rough"])
def test_hold_sends_nothing_twice(tmp_path: Path, scenario: str, seed: int, kills: int) -> None:
    """Under `hold` no contact is processed twice, whatever dies when; those in doubt are `unknown`, and no others."""
    with serving(scenario) as sandbox:
        killed = Killed(tmp_path, sandbox, seed, kills, "--on-unknown", "hold").go()

        assert_keeps_the_promise(killed, sandbox)
        assert sandbox.ledger()["contacts_processed_more_than_once"] == 0
        assert summary_of(killed.directory)["resent_contacts"] == 0
        lines = [line for line in report_of(killed.directory) if line.get("reason") == "in_doubt"]
        in_doubt = set().union(*killed.in_doubt)
        assert {line["batch"] for line in lines} <= in_doubt
        if scenario == CALM:
            assert sandbox.ledger()["contacts_sent_more_than_once"] == 0
            assert Counter(line["batch"] for line in lines) == dict.fromkeys(in_doubt, BATCH_SIZE)
            assert Counter(line["outcome"] for line in lines) == {"unknown": len(lines)}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(101, 111))
def test_five_hundred_kills(tmp_path: Path, seed: int) -> None:
    """Fifty kills for each of ten seeds, which take turns in being fault-free, rough, piped and held."""
    kind = ("calm", "rough", "piped", "held", "held and rough")[seed % 5]
    options: Sequence[object] = ("--on-unknown", "hold") if "held" in kind else ()
    with serving(ROUGH if "rough" in kind else CALM) as sandbox:
        killed = Killed(tmp_path, sandbox, seed, 50, *options, piped=kind == "piped").go()

        assert_keeps_the_promise(killed, sandbox)
        ledger, resent = sandbox.ledger(), summary_of(killed.directory)["resent_contacts"]
        print(  # noqa: T201  # what a soak is for
            f"\n{kind}: {len(killed.moments)} kills, {len(killed.sids)} contacts, {resent} resent, "
            f"{ledger['contacts_sent_more_than_once']} sent and "
            f"{ledger['contacts_processed_more_than_once']} processed more than once; "
            f"batches in doubt at a kill: {sorted(Counter(map(len, killed.in_doubt)).items())}"
        )
        if "rough" not in kind:
            assert_resends_only_what_was_in_flight(killed, sandbox)
        if "held" in kind:
            assert ledger["contacts_processed_more_than_once"] == 0
