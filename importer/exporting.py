"""Where and when the metrics of a run are told: served while it runs, in a file, and pushed once it has ended.

The run owes nothing to whoever reads them: what cannot be set up is refused before anything is sent, and whatever goes
wrong later is a warning.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from importer.errors import ImporterError, IncompleteError, SettingsError
from importer.history import History
from importer.model import Attempt, ExitCode, Tally
from importer.recovery import STATE
from importer.settings import MetricsSettings

if TYPE_CHECKING:
    from importer.metrics import RunMetrics

REWRITE_SECONDS = 15.0
PUSH_TIMEOUT_SECONDS = 10.0


class Export:
    """The side of the metrics that a command sees; nothing is behind it where nobody asked for them."""

    def __init__(self, metrics: RunMetrics | None, wall_clock: Callable[[], float]) -> None:
        """Hand on what is told of the runs."""
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._was_complete = False

    def of(self, directory: Path, tally: Tally) -> Callable[[Attempt], None]:
        """Tell of another run from now on. Gives what is to be told of its requests."""
        if self._metrics is None:
            return lambda _: None
        attempts: list[Attempt] = []
        self._was_complete = False
        # What is wrong with a journal, the run itself says.
        with suppress(ImporterError), closing(History(directory / STATE)) as history:
            self._was_complete = history.exit_code is not None
            attempts += history.attempts()
        return self._metrics.begin(tally, attempts)

    def ended(self, exit_code: int) -> int:
        """Say how the command ended, and give that back. The first word counts."""
        if self._metrics is not None:
            self._metrics.end(ExitCode(exit_code), self._wall_clock(), is_news=not self._was_complete)
        return exit_code


@contextmanager
def exporting(settings: MetricsSettings, *, wall_clock: Callable[[], float] = time.time) -> Iterator[Export]:
    """Tell of a command's runs, from before the input is opened until all has ended, in whatever way.

    Raises SettingsError where the port or the file is not to be had. File and gateway are told of the end of runs that
    did not get as far as to begin, too.
    """
    if settings.port is None and settings.textfile is None and settings.pushgateway is None:
        yield Export(None, wall_clock)
        return
    from importer.metrics import RunMetrics  # noqa: PLC0415  # only a run that is watched waits for the library

    file = None if settings.textfile is None else _TextFile(settings.textfile)
    metrics = RunMetrics(file.read_back() if file else None)
    export = Export(metrics, wall_clock)
    with ExitStack() as ways:  # the last in is the first out: the port closes, the file is written, the push leaves
        if settings.pushgateway is not None:
            ways.callback(_push, metrics, settings.pushgateway.get_secret_value(), settings.job)
        try:
            if file is not None:
                ways.enter_context(_rewritten(file, metrics))
            if settings.port is not None:
                ways.enter_context(_served(metrics, settings.address, settings.port))
            yield export
        except ImporterError as error:
            export.ended(error.exit_code)
            raise
        finally:
            export.ended(IncompleteError.exit_code)  # where nobody has said anything: a defect


@contextmanager
def _served(metrics: RunMetrics, address: str, port: int) -> Iterator[None]:
    from importer.metrics_http import serving  # noqa: PLC0415  # as above

    with ExitStack() as stack:
        try:
            port = stack.enter_context(serving(metrics, address, port))
        except OSError as error:
            raise SettingsError(
                f"metrics.port: {address}:{port} cannot be listened on ({error.strerror}). Choose another one, or "
                "0 for any that is free."
            ) from None
        structlog.get_logger().info("metrics_served", address=address, port=port)
        yield


class _TextFile:
    """The file that node_exporter reads: whole at any moment, and readable by all."""

    def __init__(self, path: Path) -> None:
        """Replace what a link leads to, not the link."""
        self._path = Path(os.path.realpath(path))
        self._beside = self._path.with_name(f".{self._path.name}.tmp")  # no name that node_exporter would read

    def read_back(self) -> dict[str, float]:
        """Find what earlier runs have left. Raises SettingsError for a file that is not to be replaced."""
        from importer.metrics import FIRST_WORDS, read_back  # noqa: PLC0415  # as above

        try:
            with self._path.open("rb") as file:
                is_ours = stat.S_ISREG(os.fstat(file.fileno()).st_mode) and (
                    (begin := file.read(len(FIRST_WORDS))) == FIRST_WORDS.encode() or not begin
                )
                if is_ours:
                    return read_back((begin + file.read()).decode())
        except FileNotFoundError:
            return {}
        except ValueError:  # it begins as ours do, and is damaged
            structlog.get_logger().warning("metrics_file_damaged", path=str(self._path))
            return {}
        except OSError as error:
            raise self._refused(error) from None
        raise SettingsError(
            f"metrics.textfile: {self._path} holds something else, and would be replaced. Name another file, such as "
            "importer.prom."
        )

    def write_first(self, text: bytes) -> None:
        """Replace the file. Raises SettingsError where that cannot be."""
        try:
            self._write(text)
        except OSError as error:
            raise self._refused(error) from None

    def write(self, text: bytes) -> None:
        """Replace the file; say so where that cannot be."""
        try:
            self._write(text)
        except OSError as error:
            structlog.get_logger().warning("metrics_not_written", path=str(self._path), error=error.strerror)

    def _write(self, text: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._beside, flags, 0o644), "wb") as file:
                os.fchmod(file.fileno(), 0o644)  # whatever the umask: another user reads it
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            self._beside.replace(self._path)
        except OSError:
            with suppress(OSError):
                self._beside.unlink()
            raise

    def _refused(self, error: OSError) -> SettingsError:
        return SettingsError(f"metrics.textfile: {self._path} cannot be written: {error.strerror}.")


@contextmanager
def _rewritten(file: _TextFile, metrics: RunMetrics) -> Iterator[None]:
    file.write_first(metrics.text())
    over = Event()

    def rewrite() -> None:
        while not over.wait(REWRITE_SECONDS):
            file.write(metrics.text())

    thread = Thread(target=rewrite, name="metrics file", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # before the last word, or an older one might replace it
        file.write(metrics.text())


def _push(metrics: RunMetrics, url: str, job: str) -> None:
    """Tell the gateway, which may be down, slow or ill: the run's end waits no longer than a moment for it."""
    from importer.metrics_http import push  # noqa: PLC0415  # as above

    failures: list[str] = []

    def attempt() -> None:
        try:
            push(metrics, url, job, PUSH_TIMEOUT_SECONDS)
        except Exception as error:  # whatever it is: the run has ended as it has
            failures.append(str(error) or type(error).__name__)

    thread = Thread(target=attempt, name="metrics push", daemon=True)
    thread.start()
    thread.join(PUSH_TIMEOUT_SECONDS)
    if thread.is_alive():
        failures.append(f"no answer within {PUSH_TIMEOUT_SECONDS:g} seconds")
    if failures:
        # The address alone: the rest may hold credentials.
        structlog.get_logger().warning("metrics_not_pushed", gateway=urlsplit(url).hostname, error=failures[0])
