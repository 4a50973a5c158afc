"""The commands, their signals and their exit codes: the only place that prints or exits.

Whatever a command needs beyond its options is imported when it runs, so that help and version come at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
import traceback
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from importer import __version__, options
from importer.errors import ImporterError, IncompleteError, RunDirectoryError, SettingsError

if TYPE_CHECKING:
    from types import FrameType

    from importer.shutdown import Shutdown

_STOPPING = (signal.SIGINT, signal.SIGTERM)

app = typer.Typer(
    name="importer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Add very many existing contacts to an Exotel Campaigns list, and account for every row.",
    epilog="Exit codes: 0 every row is in the list · 1 finished, some rows are not · 2 usage, configuration or input "
    "error · 3 stopped by a threshold · 4 refused by the API · 5 incomplete: the same command resumes.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"importer {__version__}")
        raise typer.Exit


@app.callback()
def _importer(
    version: Annotated[  # acted upon by its callback
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    input_: options.Input,
    list_sid: options.ListSid,
    config: options.Config = None,
    run_dir: options.RunDir = None,
    column: options.Column = None,
    requests_per_minute: options.RequestsPerMinute = None,
    concurrency: options.Concurrency = None,
    batch_size: options.BatchSize = None,
    on_unknown: options.OnUnknown = None,
    max_failures: options.MaxFailures = None,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    region: options.Region = None,
    base_url: options.BaseUrl = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
) -> None:
    """Import the contacts of a CSV file into a list. The same command again resumes an incomplete run.

    The credentials come from EXOTEL_API_KEY, EXOTEL_API_TOKEN and EXOTEL_ACCOUNT_SID. Every setting can also be
    given in the configuration file, or in the environment as IMPORTER_<SECTION>__<FIELD>.
    """
    from importer.inputs import Input
    from importer.logs import Masker, configure_logs
    from importer.model import Tally
    from importer.progress import show_summary, showing
    from importer.run import Job, default_directory, identify, open_source
    from importer.run import run as run_job
    from importer.settings import load_credentials, load_settings
    from importer.shutdown import Shutdown

    settings = load_settings(
        {
            "api": {"region": region, "base_url": base_url},
            "input": {"column": column, "delimiter": delimiter, "encoding": encoding},
            "delivery": {
                "batch_size": batch_size,
                "concurrency": concurrency,
                "requests_per_minute": requests_per_minute,
                "on_unknown": on_unknown,
            },
            "run": {"max_failures": max_failures},
            "log": {"level": log_level, "format": log_format},
        },
        config,
    )
    _check_list_sid(list_sid)
    credentials, account_sid = load_credentials(settings)
    masker = Masker(credentials.api_key.get_secret_value(), credentials.api_token.get_secret_value())
    beside_display = sys.stderr.isatty() and log_level is None
    configure_logs("warning" if beside_display else settings.log.level, settings.log.format, masker)
    _stop_before_the_run()
    with closing(Input(input_)) as source:
        batches = open_source(source, settings.input, settings.delivery.batch_size)
        job = Job(
            source=batches,
            identity=identify(source, batches, list_sid, settings),
            directory=run_dir or default_directory(source, list_sid, settings),
            settings=settings,
            account_sid=account_sid,
            credentials=credentials,
        )

        async def main() -> int:
            tally, shutdown = Tally(), Shutdown(settings.run.shutdown_grace_seconds)
            _stop_on_signals(shutdown)
            async with showing(tally, f"{source.name} → list {list_sid}"):
                ended = await run_job(job, tally, shutdown)
            with suppress(OSError):  # whether or not anybody reads it, the exit code tells how the run ended
                if ended.was_complete:
                    typer.echo(f"importer: {job.directory}: already complete; nothing was sent.", err=True)
                show_summary(ended.summary, job.directory)
                if ended.summary.error:
                    _complain(masker.text(ended.summary.error))
            return int(ended.summary.exit_code or 0)

        exit_code = asyncio.run(main())
    raise typer.Exit(exit_code)


@app.command()
def check(
    input_: options.Input,
    list_sid: options.OptionalListSid = None,
    config: options.Config = None,
    column: options.Column = None,
    requests_per_minute: options.RequestsPerMinute = None,
    batch_size: options.BatchSize = None,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    as_json: options.Json = False,
) -> None:
    """Read everything and send nothing: rows, invalid rows, batches, time at the quota."""
    import msgspec

    from importer.check import check as check_source
    from importer.inputs import Input
    from importer.progress import show_finding
    from importer.run import open_source
    from importer.settings import load_settings

    settings = load_settings(
        {
            "input": {"column": column, "delimiter": delimiter, "encoding": encoding},
            "delivery": {"batch_size": batch_size, "requests_per_minute": requests_per_minute},
        },
        config,
    )
    if list_sid is not None:
        _check_list_sid(list_sid)
    with closing(Input(input_)) as opened:
        source = open_source(opened, settings.input, settings.delivery.batch_size)
        finding = check_source(source, settings.delivery.requests_per_minute)
    if as_json:
        typer.echo(msgspec.json.encode(finding))
    else:
        show_finding(finding, source.column, source.delimiter)


@app.command()
def status(run_dir: options.RunDirectory, as_json: options.Json = False) -> None:
    """Tell what became of a run so far."""
    import msgspec

    from importer.progress import show_status
    from importer.status import status_of

    found = status_of(run_dir)
    if as_json:
        typer.echo(msgspec.json.encode({"running": found.running, **msgspec.structs.asdict(found.summary)}))
    else:
        show_status(found, run_dir)


@app.command()
def verify(run_dir: options.RunDirectory, input_: options.RecordedInput = None) -> None:
    """Prove a run: input against report, row by row, and every count. Exits 0 if all of it holds, 1 if not."""
    from importer.past import open_past
    from importer.recovery import REPORT
    from importer.verify import unreadable
    from importer.verify import verify as verify_run

    try:
        with open_past(run_dir, input_) as past:
            found = verify_run(run_dir, past.source(), past.history)
    except RunDirectoryError as error:
        if not (run_dir / REPORT).exists():
            raise
        found = unreadable(error)
    for violation in found.violations:
        typer.echo(violation)
    if found.violations:
        _complain(f"{run_dir}: the report is not to be believed ({len(found.violations)} violations shown).")
        raise typer.Exit(1)
    typer.echo(f"{found.rows:,} rows of the input, each in the report exactly once; all counts agree.")


@app.command()
def failed(run_dir: options.RunDirectory, input_: options.RecordedInput = None, output: options.Output = None) -> None:
    """Write the rows that are not in the list, as CSV: as they stand in the input, with what became of them.

    What it writes can be imported again.
    """
    from importer.failed import write_failed

    rows = write_failed(run_dir, input_, output)
    typer.echo(f"{rows:,} rows are not, or may not be, in the list.", err=True)


@app.command()
def sandbox(port: options.Port = 8080, scenario: options.Scenario = None) -> None:
    """Serve a stand-in of the API on loopback, to try things out without an account."""
    from importer.sandbox import Sandbox, SandboxError, Scenario

    async def main() -> None:
        served = Scenario.load(scenario) if scenario else Scenario()
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _STOPPING:
            loop.add_signal_handler(number, stopped.set)
        async with Sandbox(served).serve(port=port) as url:
            typer.echo(url)
            typer.echo(
                f"The sandbox listens at {url}; Ctrl-C ends it. In another terminal:\n\n"
                f"  export EXOTEL_ACCOUNT_SID={served.account_sid} EXOTEL_API_KEY={served.api_key} "
                f"EXOTEL_API_TOKEN={served.api_token}\n"
                f"  importer run INPUT --base-url {url} --list {served.lists[0]}\n\n"
                f"What truly happened: {url}/_ledger",
                err=True,
            )
            await stopped.wait()

    try:
        asyncio.run(main())
    except SandboxError as error:
        raise SettingsError(str(error)) from None


@app.command()
def demo(directory: options.DemoDirectory = None) -> None:
    """See it work: make a CSV file, import it into a sandbox, and check the report against what truly happened."""
    from importer.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(directory, typer.echo, _stop_on_signals)))


def _check_list_sid(list_sid: str) -> None:
    if not re.fullmatch(r"[\w.-]+", list_sid):
        raise SettingsError(f"--list: '{list_sid}' is no list sid; it looks like 4d61c2a0b5f14f0a9a9b2e0d3c5e7f81.")


def _stop_before_the_run() -> None:
    """Until there is a run to end, any signal ends the command: its input may be silent for long."""

    def stop(number: int, _: FrameType | None) -> None:
        raise _stopped_by(signal.Signals(number))

    for number in _STOPPING:
        signal.signal(number, stop)


def _stop_on_signals(shutdown: Shutdown) -> None:
    """First signal: finish what is in flight. Second: leave at once; the journal has all that is done."""
    loop = asyncio.get_running_loop()
    heard: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if heard:
            os._exit(128 + number)
        heard.append(number)
        _complain(f"{number.name}: no further request; waiting for what is in flight. Once more leaves at once.")
        shutdown.request(_stopped_by(number))

    for number in _STOPPING:
        loop.add_signal_handler(number, stop, number)


def _stopped_by(number: signal.Signals) -> IncompleteError:
    resume = shlex.join(["importer", *sys.argv[1:]])
    return IncompleteError(f"Stopped by {number.name}; nothing is lost. Go on with: {resume}")


def _complain(sentence: str) -> None:
    typer.echo(f"importer: {sentence}", err=True)


def main() -> None:
    """Run the command line, and exit."""
    try:
        app()
    except ImporterError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception:
        # A defect of ours. Exit code 1 would say that the run finished; whatever is done is in the journal.
        traceback.print_exc()
        _complain("that was a defect; nothing is lost. The same command resumes, and the lines above tell where.")
        sys.exit(IncompleteError.exit_code)
