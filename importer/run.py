"""Wires the parts of one run together, and runs it: from whatever an earlier process left, to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from functools import partial

import msgspec
import structlog

from importer.channel import Channel
from importer.collector import Collector
from importer.errors import ImporterError, IncompleteError, OtherInputError, disk_error
from importer.exotel import Exotel
from importer.health import Health
from importer.history import History
from importer.job import Job
from importer.journal import Journal
from importer.logs import MASK, Masker
from importer.model import Attempt, Tally
from importer.pipeline import Pipeline
from importer.places import FIRST_PLACES, Places
from importer.quota import Quota, on_this_clock
from importer.rate import FixedRate, FoundRate
from importer.recovery import (
    REPORT,
    STATE,
    SUMMARY,
    DirectoryLock,
    changed_row,
    recover,
    refuse_foreign,
)
from importer.replay import Replay
from importer.report import ReportFile
from importer.retry import RetryPolicy
from importer.sender import Sender
from importer.shutdown import Shutdown
from importer.summary import Summary
from importer.threads import Worker
from importer.thresholds import Thresholds


class Ended(msgspec.Struct, frozen=True):
    """What a run came to."""

    summary: Summary
    was_complete: bool = False  # before it was asked for: nothing was sent


async def run(
    job: Job,
    tally: Tally,
    shutdown: Shutdown,
    *,
    watch: Callable[[Attempt], None] = lambda _: None,
    earlier_starts: Sequence[float] = (),
    wall_clock: Callable[[], float] = time.time,
) -> Ended:
    """Run the job to its end, and leave report, summary and journal in its directory.

    `shutdown` ends it early; `watch` is told of every request that ended. `earlier_starts`, in seconds of the wall
    clock, are those of other runs' requests: they count against the quota. Whatever the run comes to is in the summary:
    its exit code, and the error if it ended early. Raises ImporterError if it could not begin.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(DirectoryLock(job.directory))
        refuse_foreign(job.directory)
        journal = Journal(job.directory / STATE, wall_clock=wall_clock)
        stack.push_async_callback(journal.close)
        history = stack.enter_context(closing(History(job.directory / STATE)))
        disk = Worker("recovery")
        stack.callback(disk.close)
        tasks = Replay(job.source, history, partial(changed_row, job.directory / REPORT))
        async with shutdown.ending():
            try:
                past = await disk.call(recover, job.directory, job.identity, history)
            except OtherInputError:
                await disk.call(_find_change, tasks)  # says which row it is, if it was imported
                raise
        tally.restore(history.tally())
        try:
            report = await ReportFile.open(job.directory / REPORT)
        except OSError as error:
            raise disk_error(error, job.directory) from error
        stack.push_async_callback(report.close)
        collector = Collector(
            report,
            journal,
            job.directory / SUMMARY,
            tally,
            Thresholds(job.settings.run.max_failures, tally),
            shutdown,
            end=history.report_end,
            location=job.identity.location,
            list_sid=job.identity.list_sid,
            settings=job.settings.model_dump(mode="json") | {"credentials": {"api_key": MASK, "api_token": MASK}},
            mask=Masker(*_secrets(job)).text,
        )
        if (exit_code := history.exit_code) is not None:
            return Ended(await collector.write_summary(exit_code), was_complete=True)
        if past is None:
            await journal.begin(job.identity)
        await collector.write_summary()
        _log_begin(job, tally, is_new=past is None)
        api = await stack.enter_async_context(_connect(job))
        now = asyncio.get_running_loop().time()
        starts = on_this_clock([*history.recent_starts(), *earlier_starts], wall_now=wall_clock(), now=now)

        def observe(attempt: Attempt) -> None:
            journal.observe(attempt)
            watch(attempt)

        sender, places = _sending(job, api, journal, tally, shutdown, starts, observe)
        pipeline = Pipeline(tasks, sender, collector, shutdown, places)
        return Ended(await _finished(pipeline.run(), collector, tally))


def _find_change(tasks: Replay) -> None:
    for _ in tasks:
        pass


def _sending(
    job: Job,
    api: Exotel,
    journal: Journal,
    tally: Tally,
    shutdown: Shutdown,
    starts: Sequence[float],
    observe: Callable[[Attempt], None],
) -> tuple[Sender, Places]:
    """Compose all that is between a batch and the API."""
    delivery = job.settings.delivery
    policy = RetryPolicy(**job.settings.retry.model_dump(), on_unknown=delivery.on_unknown)
    if delivery.concurrency == "auto":
        places = Places(min(FIRST_PLACES, delivery.max_concurrency), delivery.max_concurrency)
    else:
        places = Places(delivery.concurrency)
    rate = FoundRate() if delivery.requests_per_minute == "auto" else FixedRate(delivery.requests_per_minute)
    health = Health(tally, initial_wait_seconds=policy.initial_wait_seconds, max_wait_seconds=policy.max_wait_seconds)
    quota = Quota(rate, starts=starts)
    channel = Channel(api, quota, health, places, policy, shutdown, tally, journal, observe=observe)
    return Sender(channel, health, policy, shutdown, tally, journal, list_sid=job.identity.list_sid), places


def _log_begin(job: Job, tally: Tally, *, is_new: bool) -> None:
    log = structlog.get_logger()
    source = job.source
    log.info("run_begun" if is_new else "run_resumed", sids_in=source.column, rows_done=tally.rows)
    if source.header is not None and isinstance(job.settings.input.column, int):
        # A column that is named by its number says nothing of a header: somebody should look at this guess.
        log.warning("first_row_taken_for_header", header=source.header[:10])


def _connect(job: Job) -> Exotel:
    api = job.settings.api
    api_key, api_token = _secrets(job)
    return Exotel(
        base_url=api.url,
        account_sid=job.account_sid,
        list_sid=job.identity.list_sid,
        api_key=api_key,
        api_token=api_token,
        connect_timeout_seconds=api.connect_timeout_seconds,
        request_timeout_seconds=api.request_timeout_seconds,
    )


def _secrets(job: Job) -> tuple[str, str]:
    return job.credentials.api_key.get_secret_value(), job.credentials.api_token.get_secret_value()


async def _finished(flow: Awaitable[None], collector: Collector, tally: Tally) -> Summary:
    try:
        await flow
        return await collector.finish(tally.exit_code(), None)
    except ImporterError as error:
        # A disk that is full refuses the summary too; the journal still holds all that is done.
        with suppress(IncompleteError):
            await collector.finish(error.exit_code, str(error))
        return collector.summary(error.exit_code, str(error))
