"""The commands, their signals and their exit codes: the only place that prints or exits.

Whatever a command needs beyond its options is imported when it runs, so that help and version come at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from importer import __version__
from importer.errors import ImporterError, IncompleteError, SettingsError

if TYPE_CHECKING:
    from importer.shutdown import Shutdown

app = typer.Typer(
    name="importer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Add very many existing contacts to an Exotel Campaigns list, and account for every row.",
    epilog="Exit codes: 0 every row is in the list · 1 finished, some rows are not · 2 usage, configuration or input "
    "error · 3 stopped by a threshold · 4 refused by the API · 5 incomplete.",
)

InputArgument = Annotated[
    str, typer.Argument(metavar="INPUT", help="CSV file, also .gz .bz2 .xz .zst, or - for standard input.")
]
ListOption = Annotated[str, typer.Option("--list", metavar="LIST_SID", help="The list that the contacts are added to.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings; config.yaml by default, if there is one.")
]
ColumnOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The sid's column, by name or by number from 1.")
]
DelimiterOption = Annotated[str | None, typer.Option(metavar="CHAR", help="auto, or one of , ; tab |")]
EncodingOption = Annotated[str | None, typer.Option(metavar="NAME", help="The input's encoding; utf-8 by default.")]
BatchSizeOption = Annotated[
    int | None, typer.Option(metavar="N", help="Contacts a request; 5000 by default, and at most.")
]
QuotaOption = Annotated[float | None, typer.Option(metavar="N", help="The account's quota; 30 by default.")]


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
    input_: InputArgument,
    list_sid: ListOption,
    config: ConfigOption = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where report and summary go; runs/<input>-<id> by default.")
    ] = None,
    column: ColumnOption = None,
    requests_per_minute: QuotaOption = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Requests in flight at most; 4 by default.")
    ] = None,
    batch_size: BatchSizeOption = None,
    on_unknown: Annotated[
        str | None,
        typer.Option(
            metavar="resend|hold",
            help="Whether contacts whose request got no answer are sent again; resend by default.",
        ),
    ] = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    region: Annotated[
        str | None, typer.Option(metavar="mumbai|singapore", help="Where the account lives; mumbai by default.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Another address of the API: scheme, host and port.")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="debug, info, warning or error; info by default, warning beside a live display."
        ),
    ] = None,
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="auto, console or json.")] = None,
) -> None:
    """Import the contacts of a CSV file into a list.

    The credentials come from EXOTEL_API_KEY, EXOTEL_API_TOKEN and EXOTEL_ACCOUNT_SID. Every setting can also be
    given in the configuration file, or in the environment as IMPORTER_<SECTION>__<FIELD>.
    """
    from importer.inputs import Input
    from importer.logs import Masker, configure_logs
    from importer.model import Tally
    from importer.progress import show_summary, showing
    from importer.run import Job, default_directory, open_source
    from importer.run import run as run_job
    from importer.settings import load_credentials, load_settings

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
            "log": {"level": log_level, "format": log_format},
        },
        config,
    )
    _check_list_sid(list_sid)
    credentials, account_sid = load_credentials(settings)
    masker = Masker(credentials.api_key.get_secret_value(), credentials.api_token.get_secret_value())
    beside_display = sys.stderr.isatty() and log_level is None
    configure_logs("warning" if beside_display else settings.log.level, settings.log.format, masker)
    source = Input(input_)
    job = Job(
        location=input_,
        source=open_source(source, settings),
        list_sid=list_sid,
        directory=run_dir or default_directory(source, list_sid, settings),
        settings=settings,
        account_sid=account_sid,
        credentials=credentials,
    )
    tally = Tally()

    async def main() -> None:
        async with showing(tally, f"{source.name} → list {list_sid}"):
            summary = await run_job(job, tally, _stop_on_signals)
        show_summary(summary, str(job.directory / "report.jsonl"))
        if summary.error:
            _complain(masker.text(summary.error))
        raise typer.Exit(summary.exit_code or 0)

    asyncio.run(main())


@app.command()
def check(
    input_: InputArgument,
    list_sid: Annotated[
        str | None, typer.Option("--list", metavar="LIST_SID", help="The list of the run to come.")
    ] = None,
    config: ConfigOption = None,
    column: ColumnOption = None,
    requests_per_minute: QuotaOption = None,
    batch_size: BatchSizeOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
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
    source = open_source(Input(input_), settings)
    finding = check_source(source, settings.delivery.requests_per_minute)
    if as_json:
        typer.echo(msgspec.json.encode(finding))
    else:
        show_finding(finding, source.column, source.delimiter)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(metavar="N", help="Port on 127.0.0.1; 0 picks a free one.")] = 8080,
    scenario: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What goes wrong, as YAML, or the name of a scenario that comes along."),
    ] = None,
) -> None:
    """Serve a stand-in of the API on loopback, to try things out without an account."""
    from importer.sandbox import Sandbox, SandboxError, Scenario

    async def main() -> None:
        served = Scenario.load(scenario) if scenario else Scenario()
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        async with Sandbox(served).serve(port=port) as url:
            typer.echo(url)
            typer.echo(
                _how_to_use(url, served.account_sid, served.api_key, served.api_token, served.lists[0]), err=True
            )
            await stopped.wait()

    try:
        asyncio.run(main())
    except SandboxError as error:
        raise SettingsError(str(error)) from None


@app.command()
def demo(
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where its files go; importer-demo by default.")
    ] = None,
) -> None:
    """See it work: make a CSV file, import it into a sandbox, and check the report against what truly happened."""
    from importer.demo import run_demo

    raise typer.Exit(asyncio.run(run_demo(directory, typer.echo, _stop_on_signals)))


def _how_to_use(url: str, account_sid: str, api_key: str, api_token: str, list_sid: str) -> str:
    return (
        f"The sandbox listens at {url}; Ctrl-C ends it. In another terminal:\n\n"
        f"  export EXOTEL_ACCOUNT_SID={account_sid} EXOTEL_API_KEY={api_key} EXOTEL_API_TOKEN={api_token}\n"
        f"  importer run INPUT --base-url {url} --list {list_sid}\n\n"
        f"What truly happened: {url}/_ledger"
    )


def _check_list_sid(list_sid: str) -> None:
    if not re.fullmatch(r"[\w.-]+", list_sid):
        raise SettingsError(f"--list: '{list_sid}' is no list sid; it looks like 4d61c2a0b5f14f0a9a9b2e0d3c5e7f81.")


def _stop_on_signals(shutdown: Shutdown) -> None:
    """First signal: finish what is in flight. Second: leave at once."""
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if shutdown.cause is not None:
            os._exit(128 + number)
        shutdown.request(IncompleteError(f"Stopped by {number.name}. What was reported so far stands in the report."))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)


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
        # The reader of our output has gone; nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
