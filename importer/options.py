"""Arguments and options that the commands share: their names, and what help says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="CSV file, also .gz .bz2 .xz .zst, or - for standard input.")
]
RunDirectory = Annotated[
    Path, typer.Argument(metavar="RUN_DIR", help="The run's directory, such as runs/contacts-0a1b2c3d.")
]
RecordedInput = Annotated[
    str | None, typer.Argument(metavar="INPUT", help="The input, if it no longer lies where the run found it.")
]
ListSid = Annotated[str, typer.Option("--list", metavar="LIST_SID", help="The list that the contacts are added to.")]
OptionalListSid = Annotated[str | None, typer.Option("--list", metavar="LIST_SID", help="The list of the run to come.")]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Settings; config.yaml by default, if there is one.")]
RunDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where the run's files go, {stem} and {date} filled in; runs/<input>-<id> by default."
    ),
]
Column = Annotated[str | None, typer.Option(metavar="NAME", help="The sid's column, by name or by number from 1.")]
Delimiter = Annotated[str | None, typer.Option(metavar="CHAR", help="auto, or one of , ; tab |")]
Encoding = Annotated[str | None, typer.Option(metavar="NAME", help="The input's encoding; utf-8 by default.")]
BatchSize = Annotated[int | None, typer.Option(metavar="N", help="Contacts a request; 5000 by default, and at most.")]
RequestsPerMinute = Annotated[
    str | None, typer.Option(metavar="N|auto", help="The account's quota, 30 by default; auto finds it out.")
]
Concurrency = Annotated[
    str | None, typer.Option(metavar="N|auto", help="Requests in flight at most, 4 by default; auto: as needed.")
]
Unfinished = Annotated[
    str | None,
    typer.Option(metavar="report|finish", help="What to do with unfinished runs of earlier nights; report by default."),
]
MaxFailures = Annotated[
    str | None,
    typer.Option(metavar="N|N%", help="Stop once more rows than that, or that share of them, are not in the list."),
]
OnUnknown = Annotated[
    str | None,
    typer.Option(
        metavar="resend|hold", help="What to do with contacts whose request got no answer; resend by default."
    ),
]
Region = Annotated[
    str | None, typer.Option(metavar="mumbai|singapore", help="Where the account lives; mumbai by default.")
]
BaseUrl = Annotated[str | None, typer.Option(metavar="URL", help="Another address of the API: scheme, host and port.")]
LogLevel = Annotated[
    str | None,
    typer.Option(metavar="LEVEL", help="debug, info, warning or error; info, or warning beside a live display."),
]
LogFormat = Annotated[str | None, typer.Option(metavar="FORMAT", help="auto, console or json.")]
RunsDirectory = Annotated[Path | None, typer.Argument(metavar="DIRECTORY", help="Where the runs lie; runs by default.")]
OlderThan = Annotated[str, typer.Option(metavar="AGE", help="Runs that ended longer ago: 12h, 30d or 8w.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")]
WithIncomplete = Annotated[bool, typer.Option("--incomplete", help="Remove old runs that are not complete, too.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show debug logs, and where in the code an error arose.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures there, for people.")
]
Port = Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")]
Scenario = Annotated[
    str | None, typer.Option(metavar="FILE", help="What goes wrong, as YAML, or the name of a bundled scenario.")
]
DemoDirectory = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where its files go; importer-demo by default.")
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write there, not to standard output.")
]


def _without_credentials(url: str | None) -> str | None:
    """Refuse a secret that the list of processes, and the command that resumes, would show."""
    if url is not None and "@" in url:
        raise typer.BadParameter(
            "must not hold credentials; set IMPORTER_METRICS__PUSHGATEWAY in the environment instead."
        )
    return url


MetricsPort = Annotated[
    int | None,
    typer.Option(metavar="N", help="Serve metrics for Prometheus on this port while it runs; 0 picks a free one."),
]
MetricsTextfile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write metrics for node_exporter to this file; name it *.prom.")
]
MetricsPushgateway = Annotated[
    str | None,
    typer.Option(metavar="URL", callback=_without_credentials, help="Push metrics to this Pushgateway at the end."),
]
