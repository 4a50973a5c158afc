"""Measures the importer, as whole processes, against the sandbox on the other core.

python -m benchmarks                 the importer, the floor and the script in turn: medians and ratios
python -m benchmarks growth          what size does to CPU, memory and the first request
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import contenders, growth


def main() -> None:
    """Measure what is asked for, and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["contenders", "growth"], default="contenders")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the input of the contenders")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quoted", action="store_true", help="an input with a quoted cell in every row")
    parser.add_argument("--only", nargs="+", choices=contenders.NAMES, default=list(contenders.NAMES))
    parser.add_argument("--sizes", nargs="*", type=int, default=[100_000, 1_000_000, 10_000_000], help="of growth")
    parser.add_argument("--piped", nargs="*", type=int, default=[], help="sizes of growth that come through a pipe")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="importer-benchmark-"))
    try:
        if options.what == "growth":
            found = growth.grow(folder, options.sizes, options.piped)
        else:
            found = contenders.compare(folder, options.rows, options.rounds, quoted=options.quoted, only=options.only)
    finally:
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps({"python": sys.version.split()[0], **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
