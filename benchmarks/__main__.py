"""Runs the importer, the floor and the script in turn against the sandbox on the other core, and prints medians.

python -m benchmarks [--rows N] [--rounds N] [--json FILE] [--only NAME …]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from importer.sandbox import DEFAULT_LIST

HERE = Path(__file__).parent
CONCURRENCY = 4
BATCH_SIZE = 5000
FIGURES = ("wall seconds", "CPU seconds a million", "contacts a second", "peak MB")
# Nothing remembered: every round finds the same empty list, and the sandbox stays as fast.
SCENARIO = "ledger: {remember_contacts: false}\npopulation: {unknown: 0.002, refused: 0.001}\n"


def make_inputs(folder: Path, rows: int) -> None:
    """Write the CSV file, and the bodies that it makes."""
    chance = random.Random(5)  # noqa: S311  # made-up contacts
    with (folder / "contacts.csv").open("w") as table, (folder / "bodies").open("w") as bodies:
        table.write("name,contact_sid,city,note\n")
        for start in range(0, rows, BATCH_SIZE):
            sids = [f"{chance.getrandbits(128):032x}" for _ in range(min(BATCH_SIZE, rows - start))]
            table.writelines(f'Person {start + n},{sid},Pune,"hello, {n}"\n' for n, sid in enumerate(sids, 1))
            bodies.write(json.dumps({"contact_references": [{"contact_sid": sid} for sid in sids]}) + "\n")


@contextmanager
def sandbox(folder: Path) -> Iterator[str]:
    """Serve the sandbox on the last core."""
    (folder / "scenario.yaml").write_text(SCENARIO)
    command = [sys.executable, "-m", "importer", "sandbox", "--port", "0", "--scenario", str(folder / "scenario.yaml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=pin(last=True))  # noqa: PLW1509  # single-threaded here
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def pin(*, last: bool):  # type: ignore[no-untyped-def]  # a callable for the child
    """Give what keeps a child on the last core, or off it, where that can be."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    mine = cores[-1:] if last else cores[:-1]
    return (lambda: os.sched_setaffinity(0, mine)) if mine else None


def measure(command: list[str], rows: int, log: Path) -> dict[str, float]:
    """Run a contender as a whole process."""
    environment = os.environ | {
        "EXOTEL_ACCOUNT_SID": "sandbox",
        "EXOTEL_API_KEY": "sandbox-key",
        "EXOTEL_API_TOKEN": "sandbox-token",
    }
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, preexec_fn=pin(last=False))  # noqa: PLW1509  # single-threaded here
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode not in {0, 1}:
        sys.exit(f"{' '.join(command)} exited with {process.returncode}:\n{log.read_text()[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return dict(zip(FIGURES, (wall, cpu / rows * 1e6, rows / wall, usage.ru_maxrss / 1024), strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write every round's figures there")
    parser.add_argument("--only", nargs="+", choices=["importer", "floor", "script"])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="importer-benchmark-"))
    try:
        make_inputs(folder, options.rows)
        with sandbox(folder) as base:
            call = f"{base}/v2/accounts/sandbox/lists/{DEFAULT_LIST}/contacts"
            contenders = {
                "importer": [
                    sys.executable,
                    "-m",
                    "importer",
                    "run",
                    str(folder / "contacts.csv"),
                    "--list",
                    DEFAULT_LIST,
                    "--base-url",
                    base,
                    "--run-dir",
                    str(folder / "run"),
                    "--log-level",
                    "warning",
                    "--requests-per-minute",
                    "1000000000",
                    "--concurrency",
                    str(CONCURRENCY),
                ],
                "floor": [sys.executable, str(HERE / "floor.py"), str(folder / "bodies"), call, str(CONCURRENCY)],
                "script": [
                    sys.executable,
                    str(HERE / "script.py"),
                    str(folder / "contacts.csv"),
                    call,
                    str(CONCURRENCY),
                    str(folder / "script.jsonl"),
                ],
            }
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in options.only or contenders}
            for number in range(options.rounds + 1):
                for name, figures in rounds.items():
                    shutil.rmtree(folder / "run", ignore_errors=True)
                    measured = measure(contenders[name], options.rows, folder / "log")
                    if number:  # the first round warms up
                        figures.append(measured)
    finally:
        shutil.rmtree(folder)
    show(rounds, options.rows)
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, "rounds": rounds}, indent=2) + "\n")


def show(rounds: dict[str, list[dict[str, float]]], rows: int) -> None:
    """Print medians, their spread, and the importer's ratios."""
    print(f"{rows:,} rows, {len(next(iter(rounds.values())))} rounds in turn; median (lowest to highest)")
    medians = {
        name: {figure: statistics.median(each[figure] for each in figures) for figure in FIGURES}
        for name, figures in rounds.items()
    }
    for name, figures in rounds.items():
        cells = []
        for figure in FIGURES:
            values = [each[figure] for each in figures]
            digits = 0 if max(values) >= 100 else 2
            cells.append(
                f"{figure} {medians[name][figure]:,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"
            )
        print(f"{name:9}", " · ".join(cells))
    for other in medians.keys() - {"importer"}:
        if "importer" in medians:
            ratio = medians["importer"][FIGURES[1]] / medians[other][FIGURES[1]]
            print(f"importer / {other}: {ratio:.2f} times the CPU")


if __name__ == "__main__":
    main()
