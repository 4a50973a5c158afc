"""What a person sees of a run: a live display on a terminal, and a table at its end. rich lives here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from importer.check import Finding
from importer.model import Outcome, Tally, Wait
from importer.recovery import REPORT
from importer.status import Status
from importer.summary import Summary

_REFRESH_SECONDS = 0.25
_LOG_SECONDS = 10.0
_WAITS = {
    Wait.OUTAGE: "the API does not answer: waiting to try one request",
    Wait.THROTTLED: "the API answered 429: paused",
    Wait.BACK_OFF: "waiting before a retry",
    Wait.QUOTA: "waiting for the quota",
}
_COLOURS = {
    Outcome.ADDED: "green",
    Outcome.ALREADY_PRESENT: "green",
    Outcome.DUPLICATE: "cyan",
    Outcome.REJECTED: "red",
    Outcome.INVALID: "yellow",
    Outcome.FAILED: "red",
    Outcome.UNKNOWN: "magenta",
}


class _Console(Console):
    """A console that leaves it to others how the program ends when nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@asynccontextmanager
async def showing(tally: Tally, title: str) -> AsyncIterator[None]:
    """Show the counts while they grow: live on a terminal, as a log line every ten seconds elsewhere."""
    show = _show_live if sys.stderr.isatty() else _log_progress
    task = asyncio.create_task(show(tally, title), name="progress")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, OSError):  # a display that nobody sees any more ends no run
            await task


async def _show_live(tally: Tally, title: str) -> None:
    began = asyncio.get_running_loop().time()

    def picture() -> Group:
        seconds = asyncio.get_running_loop().time() - began
        rate = tally.rows / seconds * 60 if seconds else 0
        counts = Text("  ").join(
            Text(f"{outcome.value} {count:,}", style=_COLOURS[outcome])
            for outcome, count in tally.outcomes.items()
            if count
        )
        line = (
            f"{tally.rows:,} rows · {rate:,.0f} a minute · {tally.requests:,} requests, {tally.in_flight} in flight"
            f" · {int(seconds // 60)}:{int(seconds % 60):02}"
        )
        waiting = Text(_waiting(tally), style="yellow")
        return Group(Text(title, style="bold"), Text(line), counts, waiting)

    with Live(picture(), console=_Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            live.update(picture(), refresh=True)


async def _log_progress(tally: Tally, title: str) -> None:
    log = structlog.get_logger()
    while True:
        await asyncio.sleep(_LOG_SECONDS)
        log.info(
            "progress",
            run=title,
            rows=tally.rows,
            requests=tally.requests,
            in_flight=tally.in_flight,
            waiting=_waiting(tally) or None,
        )


def _waiting(tally: Tally) -> str:
    """Say what the importer waits for right now, and until when; nothing where it does not wait."""
    now = asyncio.get_running_loop().time()
    wait = next((wait for wait in Wait if tally.waits.get(wait, 0.0) > now), None)
    if wait is None:
        return ""
    seconds = tally.waits[wait] - now
    until = (datetime.now(UTC).astimezone() + timedelta(seconds=seconds)).strftime("%H:%M:%S")
    return f"{_WAITS[wait]}, until {until} ({duration(seconds)})"


def show_summary(summary: Summary, directory: Path) -> None:
    """Print the final table on standard error."""
    _print_counts(summary, directory, _Console(stderr=True, highlight=False))


def show_status(status: Status, directory: Path) -> None:
    """Print what became of a run so far on standard output."""
    console = _Console(highlight=False)
    summary = status.summary
    state = "complete" if summary.complete else "under way" if status.running else "incomplete"
    console.print(f"{summary.input} → list {summary.list_sid}: {state}", soft_wrap=True, markup=False)
    _print_counts(summary, directory, console)
    if summary.error:
        console.print(summary.error, soft_wrap=True, markup=False)


def _print_counts(summary: Summary, directory: Path, console: Console) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    for outcome, count in summary.outcomes.items():
        if count:
            share = f"{count / summary.rows:.2%}" if summary.rows else ""
            table.add_row(outcome.value, Text(f"{count:,}", style=_COLOURS[outcome]), share)
    table.add_row("rows", f"{summary.rows:,}", "" if summary.complete else "so far: the run is not complete")
    table.add_row("batches", f"{summary.batches:,}")
    extra = [f"{summary.retries:,} retries"] * bool(summary.retries)
    extra += [f"{summary.throttled:,} throttled"] * bool(summary.throttled)
    table.add_row("requests", f"{summary.requests:,}", ", ".join(extra))
    for kind, count in summary.anomalies.items():
        table.add_row("anomaly", f"{count:,}", kind.value)
    table.add_row("seconds", f"{summary.seconds:,.1f}")
    if summary.resent_contacts:
        table.add_row("resent", f"{summary.resent_contacts:,}", "contacts in flight when a process died")
    console.print(table)
    console.print(f"report   {directory / REPORT}", soft_wrap=True, markup=False)


def show_finding(finding: Finding, column: str, delimiter: str) -> None:
    """Print what `check` found on standard output."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("rows", f"{finding.rows:,}", f"sids in {column}, delimiter {delimiter!r}")
    table.add_row("to send", f"{finding.to_send:,}")
    table.add_row("duplicates", f"{finding.duplicates:,}", "of an earlier row of their batch: not sent")
    for reason, count in finding.invalid.items():
        table.add_row("invalid", Text(f"{count:,}", style="yellow"), reason.value)
    table.add_row("batches", f"{finding.batches:,}")
    table.add_row("requests", f"{finding.requests:,}", f"at least {duration(finding.seconds_at_quota)} at the quota")
    console = _Console(highlight=False)
    console.print(table)
    for row, cell in finding.invalid_examples:
        console.print(f"for example row {row:,}: {cell!r}" if cell else f"for example row {row:,}: empty", markup=False)


def duration(seconds: float) -> str:
    """Say a time as people do: 45 s, 12 min 5 s, 3 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
