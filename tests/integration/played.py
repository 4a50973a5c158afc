"""Plays a scenario: a whole run of the importer against a sandbox, in virtual time, and the figures it came to.

Everything but the clock is real: the wiring of a run, its journal and report, HTTP over loopback.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from pydantic import SecretStr

from importer.errors import IncompleteError
from importer.inputs import Input
from importer.job import Job, identify, open_source
from importer.model import Tally
from importer.run import run
from importer.sandbox import DEFAULT_LIST, Sandbox, Scenario
from importer.sandbox.ledger import Ledger
from importer.settings import Credentials, Settings
from importer.shutdown import Shutdown
from importer.summary import Summary
from tests.harness import sids_of, write_csv

MINUTE = 60.0
_EPOCH = datetime(2030, 1, 1, tzinfo=UTC).timestamp()

Range = float | tuple[float, float]


class Contacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input: so many contacts, of which some, evenly spread, are poisonous to the sandbox."""

    contacts: int
    in_full: int | None = None  # so many under soak, if they are more
    poisoned: int = 0


class Restart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run is ended at this second, and begun again at once: by a signal, or as if its process were killed."""

    at_seconds: float
    by: Literal["signal", "kill"] = "signal"


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Each figure, or its least and most. What is None may be anything; outcomes that are not named must be none."""

    exit_code: int
    outcomes: dict[str, Range]
    error: str | None = None  # a part of what is said of a run that ended early
    requests: Range | None = None
    minutes: Range | None = None
    most_in_a_minute: Range | None = None
    most_in_flight: Range | None = None
    throttled: Range | None = None  # answers 429
    throttled_share: Range | None = None  # of all answers
    throttled_share_later: Range | None = None  # the same after the first ten minutes
    used_share: Range | None = None  # of the requests that the limit allowed
    used_share_later: Range | None = None  # the same after the first ten minutes
    resent: Range | None = None  # contacts that the API processed more than once
    refused_connections: Range | None = None
    most_pause_seconds: Range | None = None  # between two requests that arrived


class Play(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A scenario file."""

    what: str
    input: Contacts
    settings: dict[str, dict[str, Any]] = {}
    sandbox: dict[str, Any] = {}
    restart: Restart | None = None
    expect: Expected

    @staticmethod
    def load(path: Path) -> Play:
        return msgspec.convert(yaml.safe_load(path.read_text()), Play)

    def in_full(self) -> Play:
        """The same with all its contacts, every one of which is to be added."""
        contacts = self.input.in_full or self.input.contacts
        return msgspec.structs.replace(
            self,
            input=msgspec.structs.replace(self.input, contacts=contacts),
            expect=msgspec.structs.replace(self.expect, outcomes={"added": contacts}),
        )


class WatchedLedger(Ledger):
    """A ledger that remembers when each request came and what it got, and how many were then in flight."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario.lists, remember_contacts=scenario.ledger.remember_contacts)
        self.arrivals: list[float] = []
        self.answers: list[tuple[float, str]] = []
        self.most_in_flight = 0
        self.tally = Tally()

    def request_started(self, now: float) -> int:
        self.arrivals.append(now)
        self.most_in_flight = max(self.most_in_flight, self.tally.in_flight)
        return super().request_started(now)

    def answered(self, how: int | str) -> None:
        self.answers.append((self.arrivals[-1], str(how)))
        super().answered(how)


class Played(msgspec.Struct, frozen=True):
    """What a scenario came to: the figures of Expected, by their names."""

    figures: dict[str, Any]

    def misses(self, expected: Expected) -> list[str]:
        """Each figure that is not as expected, in words."""
        return [
            f"{name}: {self.figures[name]!r} instead of {wanted!r}"
            for name, wanted in msgspec.structs.asdict(expected).items()
            if wanted is not None and not _fits(self.figures[name], wanted)
        ]


def _fits(figure: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return all(_fits(figure.get(name, 0), wanted.get(name, 0)) for name in {*figure, *wanted})
    if isinstance(wanted, str):
        return wanted in (figure or "")
    least, most = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    return bool(least <= figure <= most)


async def play(scenario: Play, directory: Path) -> Played:
    """Run it to its end. The loop's clock is that of the quota, the sandbox and the wall."""
    random.seed(1)
    loop = asyncio.get_running_loop()
    sids = sids_of(scenario.input.contacts)
    path = write_csv(directory / "contacts.csv", sids)
    setting = Scenario.from_text(yaml.safe_dump(_poisoned(scenario, sids)))
    sandbox = Sandbox(setting, wall_clock=lambda: datetime.fromtimestamp(_EPOCH + loop.time(), UTC))
    sandbox.engine.ledger = ledger = WatchedLedger(setting)
    async with sandbox.serve() as url:
        began = loop.time()
        summary = await _run_to_the_end(scenario, path, url, ledger)
        seconds = loop.time() - began
    return Played(_figures(summary, seconds, setting, ledger))


async def _run_to_the_end(scenario: Play, path: Path, url: str, ledger: WatchedLedger) -> Summary:
    if scenario.restart is None:
        return await _run(scenario, path, url, ledger)
    shutdown = Shutdown(25)
    first = asyncio.create_task(_run(scenario, path, url, ledger, shutdown))
    await asyncio.sleep(scenario.restart.at_seconds)
    if scenario.restart.by == "kill":
        first.cancel()
    else:
        shutdown.request(IncompleteError("A signal."))
    with suppress(asyncio.CancelledError):
        await first
    return await _run(scenario, path, url, ledger)


async def _run(
    scenario: Play, path: Path, url: str, ledger: WatchedLedger, shutdown: Shutdown | None = None
) -> Summary:
    sections = scenario.settings | {"api": {**scenario.settings.get("api", {}), "base_url": url}}
    settings = Settings.model_validate(sections)
    loop = asyncio.get_running_loop()
    ledger.tally = Tally()
    with closing(Input(str(path))) as source:
        batches = open_source(source, settings.input, settings.delivery.batch_size)
        job = Job(
            source=batches,
            identity=identify(source, batches, DEFAULT_LIST, settings),
            directory=path.parent / "run",
            settings=settings,
            account_sid="sandbox",
            credentials=Credentials(api_key=SecretStr("sandbox-key"), api_token=SecretStr("sandbox-token")),
        )
        ended = await run(
            job,
            ledger.tally,
            shutdown or Shutdown(settings.run.shutdown_grace_seconds),
            wall_clock=lambda: _EPOCH + loop.time(),
        )
    return ended.summary


def _poisoned(scenario: Play, sids: list[str]) -> dict[str, Any]:
    if not scenario.input.poisoned:
        return scenario.sandbox
    step = len(sids) / scenario.input.poisoned
    chosen = [sids[int(step * (number + 0.37))] for number in range(scenario.input.poisoned)]
    api = scenario.sandbox.get("api", {})
    return scenario.sandbox | {"api": {**api, "poison": {**api.get("poison", {}), "sids": chosen}}}


def _figures(summary: Summary, seconds: float, scenario: Scenario, ledger: WatchedLedger) -> dict[str, Any]:
    by_status = Counter(how for _, how in ledger.answers)
    gaps = [after - before for before, after in pairwise(ledger.arrivals)]
    first, last = (ledger.arrivals[0], ledger.arrivals[-1]) if ledger.arrivals else (0.0, 0.0)
    return {
        "exit_code": int(summary.exit_code or 0),
        "outcomes": {outcome.value: count for outcome, count in summary.outcomes.items() if count},
        "error": summary.error,
        "requests": ledger.requests,
        "minutes": seconds / MINUTE,
        "most_in_a_minute": ledger.most_requests_in_60_seconds,
        "most_in_flight": ledger.most_in_flight,
        "throttled": by_status["429"],
        "throttled_share": _share_of_429([how for _, how in ledger.answers]),
        "throttled_share_later": _share_of_429([how for at, how in ledger.answers if at >= first + 10 * MINUTE]),
        "used_share": _used_share(scenario, ledger, first, last),
        "used_share_later": _used_share(scenario, ledger, first + 10 * MINUTE, last),
        "resent": ledger.snapshot()["contacts_processed_more_than_once"],
        "refused_connections": ledger.connections_refused,
        "most_pause_seconds": max(gaps, default=0.0),
    }


def _share_of_429(answers: Sequence[str]) -> float:
    return answers.count("429") / max(1, len(answers))


def _used_share(scenario: Scenario, ledger: WatchedLedger, begin: float, end: float) -> float:
    """Share of what the limit allowed between two times, less what others take, that was let through."""
    limit = scenario.limit
    if limit.requests_per_minute is None or end <= begin:
        return math.nan
    steps = [(0.0, limit.requests_per_minute)]
    steps += sorted((change.at_seconds, change.requests_per_minute or 0) for change in limit.changes)
    ends = [at for at, _ in steps[1:]] + [math.inf]
    allowed = sum(
        max(0.0, min(until, end) - max(since, begin)) / MINUTE * (allowed - limit.others_requests_per_minute)
        for (since, allowed), until in zip(steps, ends, strict=True)
    )
    let_through = sum(1 for at, how in ledger.answers if begin <= at < end and how != "429")
    return let_through / allowed
