"""What a person reads of a run, or of an input, when all is said: tables, and the one next step."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from importer.model import IN_THE_LIST, ExitCode, Outcome
from importer.recovery import REPORT

if TYPE_CHECKING:
    from importer.check import Finding
    from importer.status import Status
    from importer.summary import Summary

COLOURS = {
    Outcome.ADDED: "green",
    Outcome.ALREADY_PRESENT: "green",
    Outcome.DUPLICATE: "cyan",
    Outcome.REJECTED: "red",
    Outcome.INVALID: "yellow",
    Outcome.FAILED: "red",
    Outcome.UNKNOWN: "magenta",
}
_GO_ON = "Go on with: "
_FLAGS = {  # what shapes a run, and the flags that say it again
    ("input", "column"): "--column",
    ("input", "delimiter"): "--delimiter",
    ("input", "encoding"): "--encoding",
    ("delivery", "batch_size"): "--batch-size",
    ("delivery", "requests_per_minute"): "--requests-per-minute",
    ("delivery", "concurrency"): "--concurrency",
    ("delivery", "on_unknown"): "--on-unknown",
    ("run", "max_failures"): "--max-failures",
    ("api", "region"): "--region",
    ("api", "base_url"): "--base-url",
}


class Terminal(Console):
    """A console that leaves it to others how the program ends when nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        """Say so to the caller."""
        raise BrokenPipeError


def show_summary(summary: Summary, directory: Path) -> None:
    """Print how a run ended on standard error."""
    _print_counts(summary, directory, Terminal(stderr=True, highlight=False))


def show_next_step(summary: Summary, directory: Path, command: str) -> None:
    """Print on standard error what to do next, unless the error has said it; `command` is the one that ran it."""
    if _GO_ON not in (summary.error or ""):
        _print_step(next_step(summary, directory, command), Terminal(stderr=True, highlight=False))


def show_status(status: Status, directory: Path) -> None:
    """Print what became of a run so far on standard output, and what to do next."""
    console = Terminal(highlight=False)
    summary = status.summary
    state = "complete" if summary.complete else "under way" if status.running else "incomplete"
    source = "standard input" if summary.input == "-" else summary.input
    _print(f"{source} → list {summary.list_sid}: {state}\n", console)
    _print_counts(summary, directory, console, is_under_way=status.running)
    error, _, command = (summary.error or "").partition(_GO_ON)
    if error:
        _print(f"\n{error.strip()}", console)
    if not status.running:
        _print_step(next_step(summary, directory, command or resuming_command(summary, directory)), console)


def next_step(summary: Summary, directory: Path, command: str) -> tuple[str, str]:
    """Give what to do about a run that is over: in words, and as a command; `command` is the one that resumes it."""
    if summary.complete and summary.exit_code == ExitCode.COMPLETE:
        return "Nothing is left to do.", ""
    if summary.complete:
        piped = ["INPUT"] if summary.input == "-" else []
        where = ", INPUT being what was piped in" if piped else ""
        return (
            f"Next: take out the rows that are not in the list, to mend and import them{where}:",
            shlex.join(["importer", "failed", str(directory), *piped, "-o", "not-in-list.csv"]),
        )
    if summary.exit_code in {ExitCode.USAGE, ExitCode.THRESHOLD, ExitCode.REFUSED}:
        return "Next: mend that, then give the same command again:", command
    again = "pipe the same input into the same command" if summary.input == "-" else "give the same command again"
    return f"Next: {again}, it goes on where this one ended:", command


def resuming_command(summary: Summary, directory: Path) -> str:
    """Make the command that goes on with a run, from what is known of its input and settings."""
    from importer.settings import Settings  # noqa: PLC0415  # slow to load, and seldom needed

    words = ["importer", "run", summary.input, "--list", summary.list_sid, "--run-dir", str(directory)]
    defaults = Settings().model_dump(mode="json")
    for (section, name), flag in _FLAGS.items():
        value = (summary.settings.get(section) or {}).get(name)
        if value is not None and value != defaults[section][name]:
            words += [flag, f"{value:g}" if isinstance(value, float) else "tab" if value == "\t" else str(value)]
    return shlex.join(words)


def show_finding(finding: Finding, column: str, delimiter: str) -> None:
    """Print what `check` found on standard output."""
    table = _table()
    table.add_row("rows", f"{finding.rows:,}", f"sids in {column}, delimiter {delimiter!r}")
    table.add_row("to send", f"{finding.to_send:,}")
    if finding.duplicates:
        table.add_row("duplicates", f"{finding.duplicates:,}", "of an earlier row of their batch: not sent")
    for reason, count in finding.invalid.items():
        table.add_row("invalid", Text(f"{count:,}", style="yellow"), f"{reason.value}: not sent")
    table.add_row("batches", f"{finding.batches:,}")
    table.add_row("requests", f"{finding.requests:,}", f"at least {duration(finding.seconds_at_quota)} at the quota")
    console = Terminal(highlight=False)
    console.print(table)
    for row, cell in finding.invalid_examples:
        _print(f"for example row {row:,}: {cell!r}" if cell else f"for example row {row:,}: empty", console)


def duration(seconds: float) -> str:
    """Say a time as people do: 45 s, 12 min 5 s, 3 h 10 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _table() -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    return table


def _print_counts(summary: Summary, directory: Path, console: Terminal, *, is_under_way: bool = False) -> None:
    _print(_headline(summary, is_under_way=is_under_way), console, style="bold")
    table = _table()
    for outcome, count in summary.outcomes.items():
        if count:
            share = f"{count / summary.rows:.2%}" if summary.rows else ""
            table.add_row(outcome.value, Text(f"{count:,}", style=COLOURS[outcome]), share)
    table.add_row("rows", f"{summary.rows:,}", "" if summary.complete else "so far")
    table.add_row("batches", f"{summary.batches:,}")
    extra = [f"{summary.retries:,} {'retry' if summary.retries == 1 else 'retries'}"] * bool(summary.retries)
    extra += [f"{summary.throttled:,} throttled"] * bool(summary.throttled)
    table.add_row("requests", f"{summary.requests:,}", ", ".join(extra))
    for kind, count in summary.anomalies.items():
        table.add_row("anomaly", f"{count:,}", kind.value)
    if summary.resent_contacts:
        table.add_row("resent", f"{summary.resent_contacts:,}", "contacts in flight when a process died")
    table.add_row("time", duration(summary.seconds))
    console.print(table)
    _print(f"Report: {directory / REPORT}", console)


def _headline(summary: Summary, *, is_under_way: bool) -> str:
    missing = sum(count for outcome, count in summary.outcomes.items() if outcome not in IN_THE_LIST)
    rows = f"{summary.rows:,} rows" if summary.rows != 1 else "1 row"
    in_the_list = (
        f"{missing:,} of {rows} are not, or may not be, in the list" if missing else f"{rows}, all in the list"
    )
    if summary.complete:
        return f"Finished: {in_the_list}." if summary.rows else "Finished: there was no row to import."
    return f"{'Under way' if is_under_way else 'Not finished'}: so far {in_the_list if summary.rows else 'no row'}."


def _print_step(step: tuple[str, str], console: Terminal) -> None:
    words, command = step
    _print(f"\n{words}", console)
    if command:
        _print(f"  {command}", console)


def _print(text: str, console: Terminal, style: str = "") -> None:
    """Print text as it is: a path or a command that is broken into lines could not be copied."""
    console.print(text, soft_wrap=True, markup=False, emoji=False, style=style)
