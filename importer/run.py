"""Wires the parts of one run together, and runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from importer.collector import Collector
from importer.errors import ImporterError, RunDirectoryError
from importer.exotel import Exotel
from importer.inputs import Input
from importer.logs import MASK
from importer.model import Tally
from importer.pipeline import Pipeline
from importer.quota import Pace, Quota
from importer.retry import RetryPolicy
from importer.sender import Sender
from importer.settings import Credentials, Settings
from importer.shutdown import Shutdown
from importer.source import CsvSource, Source
from importer.summary import Summary


class Job(msgspec.Struct, frozen=True):
    """What is to be run: an opened input, a list, and who we are."""

    location: str
    source: Source
    list_sid: str
    directory: Path
    settings: Settings
    account_sid: str
    credentials: Credentials


def open_source(source: Input, settings: Settings) -> CsvSource:
    """Read the input's header as the settings say. Raises InputError or SettingsError."""
    section = settings.input
    return CsvSource(
        source,
        column=section.column,
        delimiter=None if section.delimiter == "auto" else section.delimiter,
        encoding=section.encoding,
        sid_pattern=section.sid_pattern,
        batch_size=settings.delivery.batch_size,
    )


def default_directory(source: Input, list_sid: str, settings: Settings) -> Path:
    """Give the directory of this input's run into this list: a new content or another list is another run."""
    identity = f"{list_sid}\n{source.size_bytes}\n{source.sample}"
    return settings.run.directory / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


async def run(job: Job, tally: Tally, on_start: Callable[[Shutdown], None]) -> Summary:
    """Run the job to its end, and leave report and summary in its directory.

    `on_start` is given the handle that ends the run early. Whatever the run comes to is in the summary: its exit
    code, and the error if it ended early. Raises ImporterError if it could not begin.
    """
    settings, credentials = job.settings, job.credentials
    _create(job.directory)
    shutdown = Shutdown(settings.run.shutdown_grace_seconds)
    on_start(shutdown)
    policy = RetryPolicy(**settings.retry.model_dump(), on_unknown=settings.delivery.on_unknown)
    described = settings.model_dump(mode="json") | {"credentials": {"api_key": MASK, "api_token": MASK}}
    async with (
        Exotel(
            base_url=settings.api.url,
            account_sid=job.account_sid,
            list_sid=job.list_sid,
            api_key=credentials.api_key.get_secret_value(),
            api_token=credentials.api_token.get_secret_value(),
            connect_timeout_seconds=settings.api.connect_timeout_seconds,
            request_timeout_seconds=settings.api.request_timeout_seconds,
        ) as api,
        Collector(job.directory, tally, location=job.location, list_sid=job.list_sid, settings=described) as collector,
    ):
        quota = Quota(Pace(settings.delivery.requests_per_minute))
        sender = Sender(api, quota, policy, shutdown, tally, list_sid=job.list_sid)
        pipeline = Pipeline(job.source, sender, collector, shutdown, concurrency=settings.delivery.concurrency)
        return await _finished(pipeline.run(), collector, tally)


async def _finished(flow: Awaitable[None], collector: Collector, tally: Tally) -> Summary:
    try:
        await flow
    except ImporterError as error:
        return await collector.finish(error.exit_code, str(error))
    return await collector.finish(tally.exit_code(), None)


def _create(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"{directory}: the run directory cannot be made: {error.strerror}. Choose another with --run-dir."
        ) from None
