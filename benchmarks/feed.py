"""Writes made-up rows to standard output. python -m benchmarks.feed ROWS."""

from __future__ import annotations

import sys

from benchmarks.stage import HEADER, chunks

if __name__ == "__main__":
    sys.stdout.write(HEADER)
    for text, _ in chunks(int(sys.argv[1]), quoted=False):
        sys.stdout.write(text)
