"""Journal and report beside a model of them: in whichever order batches, deaths and resumes come, they agree."""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from importer.collector import Collector
from importer.history import History, Unfinished
from importer.journal import Journal
from importer.model import Batch, BatchResult, ContactResult, ExitCode, Outcome, Tally, Verdict
from importer.recovery import REPORT, STATE, SUMMARY, recover
from importer.report import ReportFile, count_outcomes, encode, lines_of
from importer.shutdown import Shutdown
from importer.state import DoneBatch, Identity
from importer.threads import Worker
from importer.thresholds import Thresholds
from tests.integration.deaths import InlineLoop, call_inline, files_of

BATCHES = 10
IDENTITY = Identity(
    "list", "in.csv", 1, "sample", 2, 0, has_header=True, delimiter=",", encoding="utf-8", sid_pattern=""
)

outcomes = st.sampled_from([Outcome.ADDED, Outcome.REJECTED, Outcome.UNKNOWN])


def batch_of(number: int) -> Batch:
    """Three rows, of which the last one is not sent."""
    first = 3 * number - 2
    unsent = [ContactResult(first + 2, None, Outcome.INVALID, number, 0)]
    return Batch(number, first, first + 2, [first, first + 1], [f"{first:032x}", f"{first + 1:032x}"], unsent)


class Intend(msgspec.Struct, frozen=True):
    batch: int


class Withdraw(msgspec.Struct, frozen=True):
    intent: int


class Note(msgspec.Struct, frozen=True):
    batch: int
    known: bytes


class Finish(msgspec.Struct, frozen=True):
    batches: tuple[int, ...]
    outcome: Outcome

    @property
    def results(self) -> list[BatchResult]:
        return [BatchResult(batch_of(number), [Verdict(self.outcome)] * 2, [1, 1]) for number in self.batches]


Deed = Intend | Withdraw | Note | Finish


class Model(msgspec.Struct, frozen=True):
    """What must be on the disk. A deed makes another one."""

    intents: dict[int, int] = {}
    known: dict[int, bytes] = {}
    finished: tuple[Finish, ...] = ()
    requests: int = 0

    def after(self, deed: Deed, number: int) -> Model:
        """The model once it is done; a new intent has this number."""
        match deed:
            case Intend(batch):
                return msgspec.structs.replace(self, intents=self.intents | {number: batch}, requests=number)
            case Withdraw(intent):
                return msgspec.structs.replace(self, intents=_without(self.intents, intent))
            case Note(batch, known):
                intents = _without(self.intents, *(key for key, of in self.intents.items() if of == batch))
                return msgspec.structs.replace(self, intents=intents, known=self.known | {batch: known})
            case Finish(batches):
                intents = _without(self.intents, *(key for key, of in self.intents.items() if of in batches))
                left = _without(self.known, *batches)
                return msgspec.structs.replace(self, intents=intents, known=left, finished=(*self.finished, deed))

    @property
    def remaining(self) -> list[int]:
        """Batches that are not done."""
        done = {number for deed in self.finished for number in deed.batches}
        return [number for number in range(1, BATCHES + 1) if number not in done]

    @property
    def report(self) -> bytes:
        """The lines of all that is done."""
        return b"".join(encode(lines_of(result)) for deed in self.finished for result in deed.results)

    @property
    def done(self) -> list[DoneBatch]:
        """What the journal must say of it."""
        rows: list[DoneBatch] = []
        report = b""
        for deed in self.finished:
            for result in deed.results:
                start, batch = len(report), result.batch
                report += encode(lines_of(result))
                counts = dict.fromkeys(Outcome, 0) | count_outcomes(result)
                place = (start, len(report), zlib.crc32(report))
                rows.append(DoneBatch(batch.number, batch.first_row, batch.last_row, batch.digest, *place, counts))
        return rows

    @property
    def unfinished(self) -> dict[int, Unfinished]:
        """What the next process must be told."""
        in_doubt = set(self.intents.values())
        return {
            number: Unfinished(batch_of(number).digest, self.known.get(number), number in in_doubt)
            for number in in_doubt | self.known.keys()
        }

    def differs_from(self, directory: Path, history: History) -> str:
        """Tell what on the disk is not as it must be, if anything."""
        counts = history.tally()
        done = sorted(self.done, key=lambda row: row.batch)
        end = (len(self.report), zlib.crc32(self.report))
        checks = {
            "intents": (self.intents, _intents_in(directory / STATE)),
            "unfinished": (self.unfinished, history.unfinished()),
            "done": (done, list(history.done())),
            "done in the report's order": (self.done, list(history.done(by_report=True))),
            "end": (end, history.report_end),
            "report": (self.report, (directory / REPORT).read_bytes()[: end[0]]),
            "rows": (3 * len(done), counts.rows),
            "batches": (len(done), counts.batches),
            "outcomes": (sum(row.outcomes[Outcome.ADDED] for row in done), counts.outcomes[Outcome.ADDED]),
            "requests": (True, counts.requests >= self.requests),
        }
        return "".join(f"{name}: {must} {found}\n" for name, (must, found) in checks.items() if must != found)


def _intents_in(state: Path) -> dict[int, int]:
    """What nobody but the journal needs to know: whether a batch is in doubt because of one request or of two."""
    with closing(sqlite3.connect(state)) as db:
        return dict(db.execute("SELECT number, batch FROM intent"))


def _without(values: dict[int, Any], *keys: int) -> dict[int, Any]:
    return {key: value for key, value in values.items() if key not in keys}


class Life:
    """One process with its parts."""

    @classmethod
    async def begin(cls, directory: Path) -> Life:
        """Begin as a run does."""
        life = cls()
        life.directory = directory
        life.journal = Journal(directory / STATE, wall_clock=lambda: 0.0)
        with closing(History(directory / STATE)) as history:
            past = recover(directory, IDENTITY, history)
            life.tally, end = history.tally(), history.report_end
        life.report = await ReportFile.open(directory / REPORT)
        if past is None:
            await life.journal.begin(IDENTITY)
        life.collector = Collector(
            life.report,
            life.journal,
            directory / SUMMARY,
            life.tally,
            Thresholds(None, life.tally),
            Shutdown(1),
            end=end,
            location="in.csv",
            list_sid="list",
            settings={},
        )
        return life

    directory: Path
    journal: Journal
    tally: Tally
    report: ReportFile
    collector: Collector

    async def do(self, deed: Deed, number: int) -> None:
        """Do it."""
        match deed:
            case Intend(batch):
                self.tally.requests = number
                await self.journal.intend(batch_of(batch), self.tally)
            case Withdraw(intent):
                await self.journal.withdraw(intent)
            case Note(batch, known):
                await self.journal.note(batch_of(batch), known, self.tally)
            case Finish():
                await self.collector.record(deed.results)

    async def end(self) -> None:
        """Close the files."""
        await self.report.close()
        await self.journal.close()


class JournalAndReport(RuleBasedStateMachine):
    """Processes come and go; some die in the middle of what they do."""

    _life: Life

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        memory = Path("/dev/shm")  # noqa: S108  # a folder with a name of its own is made in it
        folder = TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self._folder = Path(self._stack.enter_context(folder))
        self._stack.enter_context(patch.object(Worker, "call", call_inline))
        self._stack.enter_context(patch.object(structlog, "get_logger", structlog.testing.ReturnLogger))
        self._runner = self._stack.enter_context(asyncio.Runner(loop_factory=InlineLoop))
        self._lives = 0
        self._model = Model()
        self._exit_code: ExitCode | None = None

    @initialize()
    def first_life(self) -> None:
        self._be_born({})

    @rule(data=st.data(), outcome=outcomes, known=st.binary(max_size=8))
    def work(self, data: st.DataObject, outcome: Outcome, known: bytes) -> None:
        """Do some things at once, and wait for all of them."""
        deeds = self._some_deeds(data, outcome, known)
        self._runner.run(self._do(deeds))
        for deed, number in deeds.items():
            self._model = self._model.after(deed, number)

    @rule(
        data=st.data(),
        outcome=outcomes,
        known=st.binary(max_size=8),
        moment=st.integers(0, 16),
        kept=st.floats(0, 1),
        zeroed=st.booleans(),
    )
    def die_at_work(
        self, data: st.DataObject, outcome: Outcome, known: bytes, moment: int, kept: float, *, zeroed: bool
    ) -> None:
        """Begin to do some things at once, and die in the middle: what was said to be done is."""
        deeds = self._some_deeds(data, outcome, known)
        files, certain = self._runner.run(self._do_and_photograph(deeds, moment))
        open_deeds = [deed for deed in deeds if deed not in certain]
        self._be_born(files, kept, zeroed=zeroed)
        with closing(History(self._life.directory / STATE)) as history:
            differences = []
            for some in _subsets(open_deeds):
                possible = self._model
                for deed, number in deeds.items():
                    possible = possible.after(deed, number) if deed in certain or deed in some else possible
                differences.append(possible.differs_from(self._life.directory, history))
                if not differences[-1]:
                    self._model = possible
                    return
        raise AssertionError("the disk is as no order of events would leave it:\n" + "\n".join(differences))

    @rule(garbage=st.binary(max_size=300))
    def die_idle(self, garbage: bytes) -> None:
        """Die while nothing is under way, and leave something after the report's end."""
        files = files_of(self._life.directory)
        files[REPORT] += garbage
        self._be_born(files)

    @rule()
    def come_back(self) -> None:
        """End in order, and begin again."""
        directory = self._life.directory
        self._runner.run(self._life.end())
        self._lives += 1
        self._life = self._runner.run(Life.begin(directory))

    @precondition(lambda self: not self._model.remaining)
    @rule()
    def complete(self) -> None:
        """Say that it is over."""
        self._exit_code = self._life.tally.exit_code()
        self._runner.run(self._life.collector.finish(self._exit_code, None))

    @invariant()
    def disk_is_as_the_model(self) -> None:
        """Whoever looks sees what was done, no more and no less."""
        if self._lives:
            with closing(History(self._life.directory / STATE)) as history:
                assert not self._model.differs_from(self._life.directory, history)
                assert (self._life.directory / REPORT).read_bytes() == self._model.report
                assert history.identity == IDENTITY
                assert history.exit_code == self._exit_code

    def teardown(self) -> None:
        if self._lives:
            self._runner.run(self._life.end())
        self._stack.close()

    def _some_deeds(self, data: st.DataObject, outcome: Outcome, known: bytes) -> dict[Deed, int]:
        """Deeds of different batches, as senders and the one collector do them at once; with numbers for intents."""
        model = self._model
        batches = data.draw(st.permutations(model.remaining).map(lambda some: some[:4]))
        finished = tuple(batches[: data.draw(st.integers(0, 2))])
        deeds: list[Deed] = [Finish(finished, outcome)] if finished else []
        for batch in batches[len(finished) :]:
            own = [number for number, of in model.intents.items() if of == batch]
            kinds: list[Deed] = [Intend(batch), Note(batch, known), *(Withdraw(number) for number in own)]
            deeds.append(data.draw(st.sampled_from(kinds)))
        first = self._life.tally.requests + 1
        return {deed: first + index for index, deed in enumerate(deeds)}

    async def _do(self, deeds: dict[Deed, int]) -> None:
        await asyncio.gather(*(self._life.do(deed, number) for deed, number in deeds.items()))

    async def _do_and_photograph(self, deeds: dict[Deed, int], moment: int) -> tuple[dict[str, bytes], set[Deed]]:
        tasks = {deed: asyncio.ensure_future(self._life.do(deed, number)) for deed, number in deeds.items()}
        for _ in range(moment):
            await asyncio.sleep(0)
        files, certain = files_of(self._life.directory), {deed for deed, task in tasks.items() if task.done()}
        await asyncio.gather(*tasks.values())
        return files, certain

    def _be_born(self, files: dict[str, bytes], kept: float = 1.0, *, zeroed: bool = False) -> None:
        """Begin another process on what the last one left; of what was not committed only a part may be left."""
        if self._lives:
            self._runner.run(self._life.end())
        self._lives += 1
        directory = self._folder / str(self._lives)
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_bytes(content)
        if files:
            with closing(History(directory / STATE)) as history:
                end, _ = history.report_end
            report = files[REPORT]
            left = report[: end + int((len(report) - end) * kept)]
            (directory / REPORT).write_bytes(left.ljust(len(report), b"\0") if zeroed else left)
        self._life = self._runner.run(Life.begin(directory))


def _subsets(deeds: Sequence[Deed]) -> Iterator[tuple[Deed, ...]]:
    for size in range(len(deeds) + 1):
        yield from combinations(deeds, size)


ORDERS = settings(derandomize=True, deadline=None, max_examples=20, stateful_step_count=15)
TestJournalAndReport = JournalAndReport.TestCase
TestJournalAndReport.settings = ORDERS


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_journal_and_report_in_many_orders() -> None:
    """The same with twenty times as many orders of events."""
    run_state_machine_as_test(JournalAndReport, settings=settings(ORDERS, max_examples=400))
