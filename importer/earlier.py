"""Runs that earlier nights left unfinished: told of, or made finished before today's."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from importer.directories import Begun, Place, unfinished
from importer.errors import ImporterError, InputError
from importer.inputs import Input
from importer.job import Job
from importer.model import ExitCode
from importer.past import open_past
from importer.settings import Settings
from importer.state import Identity
from importer.status import status_of


def look_back(place: Place, list_sid: str, *, finish: bool) -> list[Begun]:
    """Look for unfinished runs beside this one; say so of those that are left, and give those to finish, oldest first.

    Without `finish` all of them are left.
    """
    if place.instead_of is not None:
        structlog.get_logger().warning(
            "run_of_another_date_resumed", directory=str(place.directory), instead_of=str(place.instead_of)
        )
    to_finish = []
    for found in unfinished(place, list_sid):
        if isinstance(found, ImporterError):
            structlog.get_logger().warning("run_unreadable", error=str(found))
        elif finish and is_intact(found.identity):
            to_finish.append(found)
        else:
            tell(found)
    return sorted(to_finish, key=lambda found: found.at)


def tell(found: Begun, refusal: ImporterError | None = None) -> None:
    """Warn of an unfinished run: how far it came, why it ended, and what can be done."""
    try:
        status = status_of(found.directory)
    except ImporterError as error:
        structlog.get_logger().warning("run_unreadable", error=str(error))
        return
    because = input_state(found.identity)
    fields = {"input_is": because} if because else {}
    fields |= {"refused": str(refusal)} if refusal else {}
    command = ["status", str(found.directory)] if because or refusal else [*sys.argv[1:], "--unfinished", "finish"]
    structlog.get_logger().warning(
        "unfinished_run_found",
        directory=str(found.directory),
        input=found.identity.location,
        rows_done=status.summary.rows,
        exit_code=None if status.summary.exit_code is None else int(status.summary.exit_code),
        error=status.summary.error,
        **fields,
        next=shlex.join(["importer", *command]),
    )


def input_state(identity: Identity) -> str | None:
    """Say why a run's input cannot be read again; None if it lies where it lay, unchanged."""
    path = Path(identity.location)
    if identity.location == "-" or identity.size_bytes is None:
        return "a stream"
    try:
        if not path.is_file():
            return "gone"
        source = Input(identity.location)
    except (OSError, InputError):
        return "not readable"
    source.close()
    return None if (source.size_bytes, source.sample) == (identity.size_bytes, identity.sample) else "changed"


def is_intact(identity: Identity) -> bool:
    """Whether the run's input lies where it lay, unchanged."""
    return input_state(identity) is None


@contextmanager
def reopened(found: Begun, job: Job) -> Iterator[Job]:
    """Make a job of an unfinished run: as `job` is, but for what the run was begun with. Raises ImporterError."""
    with open_past(found.directory, None) as past:
        past.history.close()  # the run opens it itself, and the last to close it tidies up
        source = past.source()
        yield Job(
            source=source,
            identity=past.identity,
            directory=found.directory,
            settings=_as_begun(past.identity, source.header, job.settings),
            account_sid=job.account_sid,
            credentials=job.credentials,
        )


async def run_all(
    earlier: Iterable[Begun], job: Job, run_one: Callable[[Job], Awaitable[int]], is_stopped: Callable[[], bool]
) -> int:
    """Finish earlier runs, then run today's job, and give the exit code of all. Once stopped, no other run begins.

    An earlier run that cannot be gone on with is told of, and does not keep today's from running.
    """
    codes = []
    for found in earlier:
        try:
            with reopened(found, job) as unfinished_job:
                codes.append(await run_one(unfinished_job))
        except ImporterError as error:
            if is_stopped():
                raise
            tell(found, error)
        if is_stopped():
            return ExitCode.INCOMPLETE
    return exit_code_of_all(await run_one(job), codes)


def exit_code_of_all(code: int, earlier: Iterable[int]) -> int:
    """Give the exit code of today's run and the earlier ones that were finished before it.

    What kept today's run from its end is told; else the worst of all, or else nobody would hear that an earlier one is
    still not finished.
    """
    return max([code, *earlier]) if code in {ExitCode.COMPLETE, ExitCode.SOME_NOT_IN_LIST} else code


def _as_begun(identity: Identity, header: Sequence[str] | None, settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "input": settings.input.model_copy(
                update={
                    "column": header[identity.position].strip() if header else identity.position + 1,
                    "delimiter": identity.delimiter,
                    "encoding": identity.encoding,
                    "sid_pattern": identity.sid_pattern,
                }
            ),
            "delivery": settings.delivery.model_copy(update={"batch_size": identity.batch_size}),
        }
    )
