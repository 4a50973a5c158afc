"""The commands, their signals and their exit codes: the only place that prints or exits.

Whatever a command needs beyond its options is imported when it runs, so that help and version come at once.
"""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from importer import __version__, options
from importer.commands import complain, failed, prune, status, verify
from importer.endings import drop_output, explain, is_debugging, open_standard_streams

if TYPE_CHECKING:
    from pathlib import Path

    from importer.logs import Masker
    from importer.summary import Summary

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
    debug: options.Debug = False,  # looked for by `is_debugging`
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
    unfinished: options.Unfinished = None,
    delimiter: options.Delimiter = None,
    encoding: options.Encoding = None,
    region: options.Region = None,
    base_url: options.BaseUrl = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
    metrics_port: options.MetricsPort = None,
    metrics_textfile: options.MetricsTextfile = None,
    metrics_pushgateway: options.MetricsPushgateway = None,
) -> None:
    """Import the contacts of a CSV file into a list. The same command again resumes an incomplete run.

    The credentials come from EXOTEL_API_KEY, EXOTEL_API_TOKEN and EXOTEL_ACCOUNT_SID. Every setting can also be
    given in the configuration file, or in the environment as IMPORTER_<SECTION>__<FIELD>.
    """
    import asyncio

    from importer.configuration import check_list_sid, load_credentials, load_settings
    from importer.directories import beside, is_complete, locate, recent_starts, today
    from importer.earlier import look_back, run_all
    from importer.exporting import exporting
    from importer.inputs import Input
    from importer.job import Job, default_directory, job_of
    from importer.logs import Masker, configure_logs
    from importer.memory import return_large_buffers
    from importer.model import Tally
    from importer.overlap import Turn
    from importer.progress import is_live, showing
    from importer.run import run as run_job
    from importer.shutdown import Shutdown
    from importer.signals import signals_deferred, stop_before_the_run, stop_on_signals

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
            "run": {"max_failures": max_failures, "unfinished": unfinished},
            "log": {"level": log_level, "format": log_format},
            "metrics": {"port": metrics_port, "textfile": metrics_textfile, "pushgateway": metrics_pushgateway},
        },
        config,
    )
    check_list_sid(list_sid)
    credentials, account_sid = load_credentials(settings)
    masker = Masker(credentials.api_key.get_secret_value(), credentials.api_token.get_secret_value())
    beside_display = is_live() and "level" not in settings.log.model_fields_set
    log_level = "debug" if is_debugging() else "warning" if beside_display else settings.log.level
    configure_logs(log_level, settings.log.format, masker)
    stop_before_the_run()
    return_large_buffers()
    with exporting(settings.metrics) as export, closing(Input(input_)) as source:
        with signals_deferred():
            place = (
                locate(run_dir, source, list_sid, today())
                if run_dir
                else beside(default_directory(source, list_sid, settings))
            )
            earlier = look_back(place, list_sid, finish=settings.run.unfinished == "finish")
        job = job_of(source, list_sid, settings, account_sid, credentials, place.directory)
        heard: list[str] = []

        def hear(sentence: str) -> None:
            heard.append(sentence)
            complain(sentence)

        async def run_one(job: Job) -> int:
            if not is_complete(job.directory):  # else it sends nothing
                turn.take(job.directory)
            starts = recent_starts(place, job.directory, settings) if settings.run.overlap == "refuse" else ()
            tally, shutdown = Tally(), Shutdown(settings.run.shutdown_grace_seconds)
            stop_on_signals(shutdown, hear)
            async with showing(tally, job, shutdown):
                ended = await run_job(
                    job, tally, shutdown, watch=export.of(job.directory, tally), earlier_starts=starts
                )
            with suppress(OSError):  # whether or not anybody reads it, the exit code tells how the run ended
                if ended.was_complete:
                    typer.echo(f"importer: {job.directory}: already complete; nothing was sent.", err=True)
                _conclude(ended.summary, job.directory, masker)
            return int(ended.summary.exit_code or 0)

        async def main() -> int:
            stop_on_signals(Shutdown(0), hear)  # also while no run is under way yet
            return await run_all(earlier, job, run_one, lambda: bool(heard))

        with Turn(place.home, settings.api.url, account_sid, settings.run.overlap) as turn:
            raise typer.Exit(export.ended(asyncio.run(main())))


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
    """Read everything, send nothing: rows, batches, time at the quota."""
    from importer.check import check as check_source
    from importer.configuration import check_list_sid, load_settings
    from importer.inputs import Input
    from importer.job import open_source

    settings = load_settings(
        {
            "input": {"column": column, "delimiter": delimiter, "encoding": encoding},
            "delivery": {"batch_size": batch_size, "requests_per_minute": requests_per_minute},
        },
        config,
    )
    if list_sid is not None:
        check_list_sid(list_sid)
    with closing(Input(input_)) as opened:
        source = open_source(opened, settings.input, settings.delivery.batch_size)
        finding = check_source(source, settings.delivery.requests_per_minute)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(finding))
    else:
        from importer.tables import show_finding

        show_finding(finding, source.column, source.delimiter)


for command in (status, verify, failed, prune):
    app.command()(command)


@app.command()
def sandbox(port: options.Port = 8080, scenario: options.Scenario = None) -> None:
    """Serve a stand-in of the API on loopback, to try things out.

    It needs no account, and sends nothing anywhere.
    """
    import asyncio

    from importer.errors import SettingsError
    from importer.sandbox import Sandbox, SandboxError, Scenario
    from importer.signals import wait_for_a_signal

    async def main() -> None:
        served = Scenario.load(scenario) if scenario else Scenario()
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
            await wait_for_a_signal()

    try:
        asyncio.run(main())
    except SandboxError as error:
        raise SettingsError(str(error)) from None


@app.command()
def demo(directory: options.DemoDirectory = None) -> None:
    """See it work, on this machine alone.

    Makes a CSV file, imports it into a sandbox, and checks the report against what truly happened.
    """
    import asyncio
    from functools import partial

    from importer.demo import run_demo
    from importer.signals import stop_on_signals

    on_start = partial(stop_on_signals, say=complain)
    raise typer.Exit(asyncio.run(run_demo(directory, typer.echo, on_start)))


def _conclude(summary: Summary, directory: Path, masker: Masker) -> None:
    """Show how a run ended, why, and what to do next."""
    from importer.tables import show_next_step, show_summary

    show_summary(summary, directory)
    if summary.error:
        typer.echo(err=True)
        complain(masker.text(summary.error))
    show_next_step(summary, directory, shlex.join(["importer", *sys.argv[1:]]))


def main() -> None:
    """Run the command line, and exit."""
    # As the first process of a container, a program that says nothing about SIGTERM would never hear it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    open_standard_streams()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        drop_output()  # whoever read it has gone; nobody is left to tell
        sys.exit(141)
    except Exception as error:
        sys.exit(explain(error, complain))
