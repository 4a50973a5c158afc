"""The commands about runs that were begun: what became of them, the proof, what is left, and their removal.

As in `cli`, whatever a command needs is imported when it runs.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import typer

from importer import options
from importer.endings import drop_output


def status(run_dir: options.RunDirectory, as_json: options.Json = False, html: options.Html = None) -> None:
    """Tell what became of a run so far."""
    from importer.status import status_of

    if html is not None:
        _write_page(run_dir, html)
        if not as_json:
            return
    found = status_of(run_dir)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode({"running": found.running, **msgspec.structs.asdict(found.summary)}))
    else:
        from importer.tables import show_status

        show_status(found, run_dir)


def verify(run_dir: options.RunDirectory, input_: options.RecordedInput = None) -> None:
    """Prove a run: input against report, row by row, and every count. Exits 0 if all of it holds, 1 if not."""
    from importer.errors import RunDirectoryError
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
        complain(
            f"{run_dir}: the run is not complete, so nothing is proven yet; what it has reported so far agrees."
            if found.is_incomplete_only
            else f"{run_dir}: the report is not to be believed ({len(found.violations)} of its faults shown)."
        )
        raise typer.Exit(1)
    typer.echo(f"{found.rows:,} rows of the input, each in the report exactly once; all counts agree.")


def failed(run_dir: options.RunDirectory, input_: options.RecordedInput = None, output: options.Output = None) -> None:
    """Write the rows that are not in the list, to be imported again.

    They are written as CSV, as they stand in the input, with what became of them in further columns.
    """
    from importer.failed import write_failed

    try:
        rows = write_failed(run_dir, input_, output)
    except BrokenPipeError:  # or typer would make a 1 of it
        drop_output()
        raise typer.Exit(141) from None
    where = f"; they are in {output}, to be mended and imported" if rows and output else ""
    typer.echo(f"{rows:,} rows are not, or may not be, in the list{where}.", err=True)


def prune(
    older_than: options.OlderThan,
    directory: options.RunsDirectory = None,
    incomplete: options.WithIncomplete = False,
    dry_run: options.DryRun = False,
    config: options.Config = None,
) -> None:
    """Remove the directories of complete runs that ended long ago."""
    import time

    from importer.configuration import load_settings
    from importer.prune import parse_age
    from importer.prune import prune as prune_runs

    folder = directory or load_settings({}, config).run.directory
    age_seconds = parse_age(older_than)
    is_any = False
    for line in prune_runs(folder, age_seconds=age_seconds, incomplete=incomplete, dry_run=dry_run, now=time.time()):
        typer.echo(line)
        is_any = True
    if not is_any:
        typer.echo(f"{folder}: no run that ended longer than {older_than} ago.", err=True)


def complain(sentence: str) -> None:
    """Say on standard error what is wrong."""
    with suppress(OSError):  # nobody is left to tell
        typer.echo(f"importer: {sentence}", err=True)


def _write_page(run_dir: Path, html: Path) -> None:
    from importer.errors import SettingsError

    try:
        from importer.page.page import write_page
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--html needs {error.name}, which comes with the extra [html] of this package: pip install jinja2 pygal"
        ) from None
    write_page(run_dir, html)
    typer.echo(html, err=True)
