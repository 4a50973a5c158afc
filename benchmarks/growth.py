"""What size does: CPU a contact, memory, and the time to the first request, of a fresh run and of a resumed one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import stage
from importer.status import status_of

_DONE = 0.9  # of the rows, when the run that is resumed was killed
_COLUMNS = {  # and the digits that are shown
    "rows": 0,
    "CPU s": 1,
    "CPU s/million": 2,
    "wall s": 1,
    "peak MB": 1,
    "first request, s": 2,
    "after resuming, s": 2,
    "rows done then": 0,
}


def grow(folder: Path, sizes: list[int], piped: list[int]) -> dict[str, Any]:
    """Measure each size in turn, once, and print a table; `piped` ones come through a pipe and are not resumed."""
    found: list[list[float]] = []
    print("\n| " + " | ".join(_COLUMNS) + " |")
    print("|" + " ---: |" * len(_COLUMNS))
    for rows, measured in [*((rows, _file) for rows in sizes), *((rows, _pipe) for rows in piped)]:
        with stage.sandbox(folder) as sandbox:
            found.append(measured(folder, rows, sandbox))
        cells = [f"{value:,.{digits}f}" for value, digits in zip(found[-1], _COLUMNS.values(), strict=False)]
        print("| " + " | ".join(cells) + " |", flush=True)
    return {"columns": list(_COLUMNS), "growth": found}


def _file(folder: Path, rows: int, sandbox: stage.Sandbox) -> list[float]:
    source = stage.write_input(folder / "contacts.csv", rows)
    command = stage.importer_command(source, folder, sandbox)
    run, log = folder / "run", folder / "log"
    took = stage.measure(command, log)
    shutil.rmtree(run)
    fresh = stage.seconds_to_first_request(command, log, sandbox)
    shutil.rmtree(run)
    stage.kill_after(command, log, sandbox, int(rows * _DONE) // stage.BATCH_SIZE)
    done = status_of(run).summary.rows
    resumed = stage.seconds_to_first_request(command, log, sandbox)
    shutil.rmtree(run)
    source.unlink()
    return [*_row(rows, took), fresh, resumed, done]


def _pipe(folder: Path, rows: int, sandbox: stage.Sandbox) -> list[float]:
    command = stage.importer_command("-", folder, sandbox)
    feed = subprocess.Popen([sys.executable, "-m", "benchmarks.feed", str(rows)], stdout=subprocess.PIPE)
    assert feed.stdout is not None
    took = stage.measure(command, folder / "log", feed.stdout)
    feed.stdout.close()
    feed.wait()
    shutil.rmtree(folder / "run")
    return _row(rows, took)


def _row(rows: int, took: stage.Measured) -> list[float]:
    return [rows, took.cpu_seconds, took.cpu_seconds / rows * 1e6, took.wall_seconds, took.peak_mb]
