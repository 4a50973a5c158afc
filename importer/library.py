"""An import within one's own asyncio program: what `importer run` does, without its command line, display and signals.

Prints nothing. Log events go to structlog as the program has configured it, else to `logging` as "importer".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from importer.configuration import check_credentials, check_list_sid
from importer.errors import IncompleteError
from importer.inputs import Input
from importer.job import default_directory, job_of
from importer.logs import configure_library_logs
from importer.model import Outcome, Tally, Wait
from importer.run import run
from importer.settings import Credentials, Settings
from importer.shutdown import Shutdown
from importer.summary import Summary


class Progress(msgspec.Struct, frozen=True):
    """A run at one moment. All counts are of the run as a whole, earlier processes of it included."""

    rows: int  # reported so far
    outcomes: dict[Outcome, int]
    batches: int
    requests: int
    retries: int
    throttled: int  # answers 429
    in_flight: int
    waiting_for: Wait | None  # why no request leaves at the moment


async def run_import(
    source: str | Path,
    list_sid: str,
    *,
    settings: Settings | None = None,
    credentials: Credentials | None = None,
    run_dir: str | Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    progress_interval_seconds: float = 1.0,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Add the contacts of a CSV file to a list, and account for every row; go on with the run if it was begun before.

    `source` is a path, or `-` for standard input. Without `settings` the defaults hold: neither environment nor
    config.yaml is looked at (`load_settings` does that). `credentials` come from the environment (EXOTEL_…) as far as
    they are not given. `run_dir` is where report, summary and journal go, by default a directory of this input and list
    in `settings.run.directory`.

    `on_progress` is called on the event loop, every so many seconds and once at the end; it must return soon, and what
    it raises ends the import. Setting `stop` ends it in good order, as SIGTERM ends the command; so does cancelling it
    at once, as a crash would. Whatever happens, another call with the same arguments goes on.

    Returns the summary: `exit_code` says how the run ended and `error` why, if it ended early. Raises an ImporterError
    (SettingsError, InputError, RunDirectoryError, …) if it could not begin; its text is written for people.
    """
    configure_library_logs()
    settings, credentials = settings or Settings(), credentials or Credentials()
    check_list_sid(list_sid)
    account_sid = check_credentials(credentials, settings)
    tally, shutdown = Tally(), Shutdown(settings.run.shutdown_grace_seconds)
    with closing(await asyncio.to_thread(Input, str(source))) as opened:
        directory = Path(run_dir) if run_dir else default_directory(opened, list_sid, settings)
        job = await asyncio.to_thread(job_of, opened, list_sid, settings, account_sid, credentials, directory)
        try:
            async with asyncio.TaskGroup() as beside:
                tasks = [
                    beside.create_task(_tell(tally, on_progress, progress_interval_seconds)),
                    beside.create_task(_stop_when(stop, shutdown)),
                ]
                ended = await run(job, tally, shutdown)
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as group:  # the run could not begin, or what is beside it failed
            raise group.exceptions[0] from None
    if on_progress is not None:
        on_progress(progress_of(tally))
    return ended.summary


def progress_of(tally: Tally) -> Progress:
    """Take a snapshot, on the event loop."""
    now = asyncio.get_running_loop().time()
    return Progress(
        rows=tally.rows,
        outcomes=dict(tally.outcomes),
        batches=tally.batches,
        requests=tally.requests,
        retries=tally.retries,
        throttled=tally.throttled,
        in_flight=tally.in_flight,
        waiting_for=next((wait for wait in Wait if tally.waits.get(wait, 0.0) > now), None),
    )


async def _tell(tally: Tally, on_progress: Callable[[Progress], None] | None, interval_seconds: float) -> None:
    while on_progress is not None:
        await asyncio.sleep(interval_seconds)
        on_progress(progress_of(tally))


async def _stop_when(stop: asyncio.Event | None, shutdown: Shutdown) -> None:
    if stop is not None:
        await stop.wait()
        shutdown.request(IncompleteError("Stopped; nothing is lost. The same import again goes on."))
