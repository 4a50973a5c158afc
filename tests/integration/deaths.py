"""The whole run in one process, step by step: what is on the disk at every boundary of the protocol, to go on from.

A photograph is what a death at that moment leaves. So nothing that comes later can take effect, and one run that lives
to its end gives all of them. Threads work at once and in order, and time is virtual: each run is the same.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack
from unittest.mock import patch

import msgspec
from pydantic import SecretStr

from importer import collector, run, summary
from importer.answers import Answer
from importer.delivery import Known
from importer.errors import IncompleteError
from importer.inputs import Input
from importer.job import job_of
from importer.journal import Journal
from importer.model import ExitCode, Tally
from importer.past import open_past
from importer.recovery import REPORT, SUMMARY
from importer.report import ReportFile
from importer.settings import Credentials, Settings
from importer.shutdown import Shutdown
from importer.summary import Summary
from importer.threads import Worker
from importer.verify import verify
from tests.integration.vendor import Standing, Vendor
from tests.virtual_time import VirtualTimeLoop

LIST = "5a4d0b0c5a4d0b0c5a4d0b0c5a4d0b0c"
RUN_FILES = ("state.db", "state.db-wal", REPORT, SUMMARY)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Contents(msgspec.Struct, frozen=True):
    """An input: rows of one cell, cut into batches."""

    cells: Sequence[str]
    batch_size: int

    def write(self, path: Path) -> Path:
        """Write it as a file."""
        path.write_text("contact_sid,note\n" + "".join(f"{cell},\n" for cell in self.cells))
        return path


class Books:
    """What a strict observer knows of a run: what it has durably said, and what is open. Survives deaths."""

    def __init__(self) -> None:
        self.sids_of: dict[int, Sequence[str]] = {}
        self.batch_of: dict[str, int] = {}
        self.in_flight: set[int] = set()  # begun, and not done
        self.intents: dict[int, int] = {}  # the batches of requests that may be under way
        self.unaccounted: set[str] = set()  # processed, and the journal has not been told
        self.unheard: set[str] = set()  # sent, and no answer came yet
        self.closed: set[str] = set()  # contacts whose outcome is on the disk
        self.deaths = 0
        self.in_flight_at_a_death: set[int] = set()
        self.batches_in_doubt: set[int] = set()
        self.in_doubt: set[str] = set()  # processed when the process died
        self.unheard_at_a_death: set[str] = set()
        self.sent_unheard: set[str] = set()  # sent again, though nobody knew what had become of it
        self.sent_before: set[str] = set()
        self.repeated = 0  # contacts processed again because of a death
        self.most_resent = 0  # so many contacts may at most be counted as sent again

    def died(self, vendor: Vendor) -> Books:
        """The books of the next process."""
        books = copy.deepcopy(self)
        books.deaths += 1
        books.in_flight_at_a_death |= books.in_flight
        in_doubt = set(books.intents.values())
        books.batches_in_doubt |= in_doubt
        books.most_resent += sum(len(books.sids_of[batch]) for batch in in_doubt)
        books.in_doubt |= books.unaccounted
        books.unaccounted = set()
        books.unheard_at_a_death |= books.unheard
        books.unheard = set()
        books.sent_before = {sid for sid, times in vendor.sent.items() if times}
        return books

    def before(self, step: str, arguments: Sequence[Any]) -> None:
        """Note what is about to be said."""
        match step, *arguments:
            case "intend", batch, tally:
                self.intents[tally.requests] = batch.number
                self.in_flight.add(batch.number)
                self.sids_of[batch.number] = batch.sids
                self.batch_of |= dict.fromkeys(batch.sids, batch.number)
            case "note", batch, _, _:
                self.unaccounted -= set(batch.sids)
            case "finish", batches, _:
                for done in batches:
                    self.unaccounted -= set(self.sids_of.get(done.batch, ()))

    def after(self, step: str, arguments: Sequence[Any]) -> None:
        """Note what was said, and holds from now on whatever happens."""
        match step, *arguments:
            case "withdraw", intent:
                del self.intents[intent]
            case "note", batch, known, _:
                self._settle_intents(batch.number)
                verdicts = msgspec.msgpack.decode(known, type=Known).verdicts
                self.closed |= {
                    sid
                    for sid, verdict in zip(batch.sids, verdicts, strict=True)
                    if verdict is not None and not verdict.ask_again
                }
            case "finish", batches, _:
                for done in batches:
                    self.in_flight.discard(done.batch)
                    self._settle_intents(done.batch)
                    self.closed |= set(self.sids_of.get(done.batch, ()))

    def _settle_intents(self, batch: int) -> None:
        self.intents = {number: of for number, of in self.intents.items() if of != batch}

    def sent(self, sids: Sequence[str]) -> None:
        """Note a request that leaves; refuse one that must not."""
        self.unheard |= set(sids)
        self.sent_unheard |= self.unheard_at_a_death & set(sids)
        again = {self.batch_of[sid] for sid in sids if sid in self.sent_before}

        assert not self.closed & set(sids), "a contact whose outcome is on the disk is sent again"
        assert again <= self.in_flight_at_a_death, "a contact of a batch that was not in flight is sent again"

    def processed(self, sids: set[str]) -> None:
        """Note what a request did."""
        self.repeated += len(self.in_doubt & sids)
        self.in_doubt -= sids
        self.unaccounted |= sids


class Photo(msgspec.Struct, frozen=True):
    """The disk and the world at one moment; `labels` are the boundaries at which they were so."""

    labels: tuple[str, ...]
    files: Mapping[str, bytes]
    vendor: Vendor
    books: Books
    synced_bytes: int  # of the report; what follows may get lost with power

    def is_like(self, other: Photo) -> bool:
        """Whether nothing has happened between the two."""
        mine, others = ([vars(each.vendor), vars(each.books), each.synced_bytes] for each in (self, other))
        return self.files == other.files and mine == others

    def restore(self, directory: Path, changed: Mapping[str, bytes] | None = None) -> None:
        """Put the files back as they were, but for those that were `changed`."""
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, content in {**self.files, **(changed or {})}.items():
            (directory / name).write_bytes(content)

    def reborn(self, directory: Path, contents: Contents, changed: Mapping[str, bytes] | None = None) -> Process:
        """The process that comes after a death at this moment."""
        self.restore(directory, changed)
        return Process(directory, contents, copy.deepcopy(self.vendor), self.books.died(self.vendor))


class Process:
    """One life of the importer."""

    def __init__(self, directory: Path, contents: Contents, vendor: Vendor, books: Books | None = None) -> None:
        self.directory = directory
        self.contents = contents
        self.vendor = vendor
        self.books = books or Books()
        self.photos: list[Photo] = []
        self.takes_photos = False
        self.looks = 0
        self._shutdown: Shutdown | None = None
        self._stops_at: int | None = None
        self._synced_bytes = self._report_bytes()

    def photographed(self) -> Self:
        """Take a photograph before and after each step."""
        self.takes_photos = True
        return self

    def stopped_at(self, look: int) -> Self:
        """Let a signal come at this boundary."""
        self._stops_at = look
        return self

    def live(self, **delivery: Any) -> Summary:
        """Run to the end."""
        random.seed(1)  # the waits before retries
        settings = settings_of(self.contents, **delivery)
        with self._rewired(), asyncio.Runner(loop_factory=InlineLoop) as runner:
            self._shutdown = Shutdown(settings.run.shutdown_grace_seconds)
            return runner.run(run_job(self.directory, self.contents, settings, self._shutdown))

    def live_on(self, **delivery: Any) -> Summary:
        """Run, and run again where the run ended early, until it is complete."""
        while not (summary := self.live(**delivery)).complete:
            self.books = self.books.died(self.vendor)
        return summary

    def before(self, step: str, *arguments: Any) -> None:
        """Take note of a step that is about to be made."""
        self.look(f"before {step}")
        self.books.before(step, arguments)

    def after(self, step: str, *arguments: Any) -> None:
        """Take note of a step that was made."""
        self.books.after(step, arguments)
        if step == "sync":
            self._synced_bytes = self._report_bytes()
        self.look(f"after {step}")

    def look(self, label: str) -> None:
        """See the world as it is at a boundary."""
        self.looks += 1
        if self.looks == self._stops_at and self._shutdown is not None:
            self._shutdown.request(IncompleteError("Stopped by a signal."))
        if self.takes_photos:
            world = copy.deepcopy(self.vendor), copy.deepcopy(self.books)
            photo = Photo((label,), files_of(self.directory), *world, self._synced_bytes)
            if self.photos and photo.is_like(self.photos[-1]):
                photo = msgspec.structs.replace(photo, labels=self.photos.pop().labels + photo.labels)
            self.photos.append(photo)

    def _report_bytes(self) -> int:
        report = self.directory / REPORT
        return report.stat().st_size if report.exists() else 0

    @contextmanager
    def _rewired(self) -> Iterator[None]:
        """Let `run` wire parts that are watched."""
        writes = ("begin", "intend", "withdraw", "note", "finish", "complete", "save_counts")
        with (
            patch.object(Worker, "call", call_inline),
            patch.object(run, "Journal", self._watched(Journal, *writes)),
            patch.object(run, "ReportFile", self._watched(ReportFile, "append", "sync")),
            patch.object(run, "Exotel", lambda **_: _Connection(self)),
            patch.object(collector, "write_summary", self._watched_call("summary", summary.write_summary)),
        ):
            yield

    def _watched(self, kind: type[T], *names: str) -> type[T]:
        def watched(name: str) -> Callable[..., Any]:
            original = getattr(kind, name)

            async def method(part: Any, *arguments: Any) -> Any:
                self.before(name, *arguments)
                result = await original(part, *arguments)
                self.after(name, *arguments)
                return result

            return method

        return type(kind.__name__, (kind,), {name: watched(name) for name in names})

    def _watched_call(self, name: str, original: Callable[..., T]) -> Callable[..., T]:
        def call(*arguments: Any) -> T:
            self.before(name)
            result = original(*arguments)
            self.after(name)
            return result

        return call


class _Connection:
    """The way to the vendor."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def add_contacts(self, sids: Sequence[str]) -> Answer:
        process = self._process
        process.before("request")
        process.books.sent(sids)
        await asyncio.sleep(0.01)
        process.look("under way")
        before = Counter(process.vendor.processed)
        answer = process.vendor.receive(sids)
        process.books.processed(set(process.vendor.processed - before))
        process.look("processed")
        await asyncio.sleep(0.01)
        process.books.unheard -= set(sids)
        process.after("request")
        return answer()


class InlineLoop(VirtualTimeLoop):
    """What belongs in a thread is done at once, so that nothing depends on when a thread gets its turn."""

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002  # the loop's own signature
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        return self.create_task(call_inline(None, func, *args))


async def call_inline(_: Worker | None, function: Callable[..., T], *arguments: Any) -> T:
    """Do in the event loop what a thread is for."""
    await asyncio.sleep(0)  # others get their turns meanwhile, as they do with a thread
    result = function(*arguments)
    await asyncio.sleep(0)
    return result


async def run_job(directory: Path, contents: Contents, settings: Settings, shutdown: Shutdown | None = None) -> Summary:
    """Do as the command does."""
    path = directory.with_suffix(".csv")
    if not path.exists():
        contents.write(path)
    with closing(Input(str(path))) as source:
        credentials = Credentials(api_key=SecretStr("sandbox-key"), api_token=SecretStr("sandbox-token"))
        job = job_of(source, LIST, settings, "sandbox", credentials, directory)
        ended = await run.run(job, Tally(), shutdown or Shutdown(settings.run.shutdown_grace_seconds))
        return ended.summary


def settings_of(contents: Contents, *, base_url: str | None = None, **delivery: Any) -> Settings:
    """Settings of a run at full speed."""
    sections = {"delivery": {"batch_size": contents.batch_size, "requests_per_minute": 10_000_000, **delivery}}
    return Settings.model_validate({**sections, "api": {"base_url": base_url}})


def files_of(directory: Path) -> dict[str, bytes]:
    """What a run has on the disk. The index of the log is rebuilt from the log after a loss of power."""
    return {name: (directory / name).read_bytes() for name in RUN_FILES if (directory / name).exists()}


def lines_of(directory: Path) -> list[dict[str, Any]]:
    """The report."""
    return [json.loads(line) for line in (directory / REPORT).read_bytes().splitlines()]


def assert_promise(process: Process, summary: Summary, on_unknown: str) -> None:
    """Assert that a finished run says of every row, once, what truly became of it."""
    directory, contents, vendor, books = process.directory, process.contents, process.vendor, process.books
    lines = lines_of(directory)
    by_row = {line["row"]: line for line in lines}
    repeated = {sid for sid, times in vendor.processed.items() if times > 1}

    assert len(lines) == len(contents.cells)
    assert sorted(by_row) == list(range(1, len(contents.cells) + 1))
    for row, cell in enumerate(contents.cells, 1):
        assert (by_row[row]["contact_sid"] or "") == cell
        _assert_truth(by_row[row], vendor)
    assert {line["batch"] for line in lines if line.get("reason") == "in_doubt"} <= books.batches_in_doubt
    assert summary.complete
    assert Counter(line["outcome"] for line in lines) == {k: v for k, v in summary.outcomes.items() if v}
    assert summary.exit_code == (ExitCode.SOME_NOT_IN_LIST if summary.exit_code else ExitCode.COMPLETE)
    assert json.loads((directory / SUMMARY).read_bytes()) == msgspec.to_builtins(summary)
    if on_unknown == "hold":
        assert not repeated
        assert not books.sent_unheard
        assert summary.resent_contacts == 0
    else:
        assert books.repeated <= summary.resent_contacts <= books.most_resent
    with open_past(directory, None) as past:
        assert verify(directory, past.source(), past.history).violations == []


def _assert_truth(line: dict[str, Any], vendor: Vendor) -> None:
    sid = line["contact_sid"]
    match line["outcome"]:
        case "added":
            assert sid in vendor.added
        case "already_present":
            assert vendor.has(sid)
        case "rejected":
            assert vendor.standings[sid] in {Standing.REFUSED, Standing.POISON}
        case "failed":
            assert not vendor.has(sid)
        case "unknown":
            assert line["reason"]
        case "invalid" | "duplicate":
            assert line["attempts"] == 0
        case outcome:
            raise AssertionError(f"{outcome} is no outcome")
