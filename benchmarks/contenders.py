"""The importer beside the floor and the script: whole processes in turn, round after round."""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import stage

HERE = Path(__file__).parent
NAMES = ("importer", "floor", "script")
_COLUMNS = ("wall s", "CPU s/million", "contacts/s", "peak MB")


def compare(folder: Path, rows: int, rounds: int, *, quoted: bool, only: list[str]) -> dict[str, Any]:
    """Measure, print a table of medians, and give every round's figures."""
    source = stage.write_input(folder / "contacts.csv", rows, quoted=quoted)
    bodies = stage.write_bodies(folder / "bodies", rows)
    found: dict[str, list[list[float]]] = {name: [] for name in only}
    with stage.sandbox(folder) as sandbox:
        script = [str(HERE / "script.py"), str(source), sandbox.call, str(stage.CONCURRENCY)]
        commands = {
            "importer": stage.importer_command(source, folder, sandbox),
            "floor": [sys.executable, str(HERE / "floor.py"), str(bodies), sandbox.call, str(stage.CONCURRENCY)],
            "script": [sys.executable, *script, str(folder / "script.jsonl")],
        }
        for number in range(rounds + 1):
            for name in only:
                shutil.rmtree(folder / "run", ignore_errors=True)
                took = stage.measure(commands[name], folder / "log")
                if number:  # the first round warms up
                    cpu = took.cpu_seconds / rows * 1e6
                    found[name].append([took.wall_seconds, cpu, rows / took.wall_seconds, took.peak_mb])
    kind = "quoted cells" if quoted else "plain cells"
    print(f"\n{rows:,} rows, {kind}; {rounds} rounds in turn: median (lowest to highest)\n")
    _print(found)
    return {"rows": rows, "quoted": quoted, "columns": _COLUMNS, "rounds": found}


def _print(found: dict[str, list[list[float]]]) -> None:
    medians = {name: [statistics.median(values) for values in zip(*each, strict=True)] for name, each in found.items()}
    others = [name for name in ("floor", "script") if name in found and "importer" in found]
    print("| | " + " | ".join([*_COLUMNS, *(f"CPU to the {name}'s" for name in others)]) + " |")
    print("| --- |" + " ---: |" * (len(_COLUMNS) + len(others)))
    for name, each in found.items():
        cells = [
            f"{median:,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
            for median, values, digits in zip(medians[name], zip(*each, strict=True), (2, 2, 0, 1), strict=True)
        ]
        cells += [f"{medians[name][1] / medians[other][1]:.2f}" for other in others]
        print(f"| {name} | " + " | ".join(cells) + " |")
