"""About how many rows an input has: exact where each line is a row, close where not, nothing where it costs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from importer.inputs import Input
from importer.job import identify, open_source
from importer.settings import Settings
from importer.state import Identity
from importer.total import Total
from tests.harness import LIST, sids_of, write_csv

SETTINGS = Settings()


def identity_of(path: Path | str) -> Identity:
    with closing(Input(str(path))) as source:
        batches = open_source(source, SETTINGS.input, SETTINGS.delivery.batch_size)
        return identify(source, batches, LIST, SETTINGS)


def counted(path: Path) -> int | None:
    total = Total(identity_of(path))
    total.start()
    total.join()
    return total.rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("contact_sid\n{sid}\n{sid}\n", 2),
        ("contact_sid\r\n{sid}\r\n{sid}", 2),
        ("contact_sid\r{sid}\r{sid}\r", 2),
        ("{sid}\n{sid}\n{sid}\n", 3),
        ("contact_sid\n\n{sid}\n\n", 1),
        ('note,contact_sid\n"two\nlines",{sid}\n"two\nlines",{sid}\n', 2),
        ("contact_sid\n", 0),
    ],
)
def test_small_input_is_counted_exactly(tmp_path: Path, text: str, rows: int) -> None:
    """A header, blank lines, line breaks in cells and a missing last line end are all seen."""
    path = tmp_path / "input.csv"
    path.write_bytes(text.format(sid=sids_of(1)[0]).encode())

    assert rows == counted(path)


def test_long_input_is_counted_to_its_end(tmp_path: Path) -> None:
    """Where each line is a row, the count is exact, however many chunks there are."""
    path = write_csv(tmp_path / "input.csv", sids_of(1) * 30_000)

    assert counted(path) == 30_000


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, partial(lzma.compress, preset=0)])
def test_compressed_input_is_estimated_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]
) -> None:
    """A compressed input is not decompressed twice: its rows are estimated from its first bytes, to three digits."""
    monkeypatch.setattr("importer.total._BEGINNING_BYTES", 300_000)
    plain = write_csv(tmp_path / "plain.csv", sids_of(20_000)).read_bytes()
    parts = [compress(plain[at : at + 100_000]) for at in range(0, len(plain), 100_000)]
    path = tmp_path / "input"
    path.write_bytes(b"".join(parts))
    assert path.stat().st_size > 300_000

    rows = counted(path)

    assert rows == pytest.approx(20_000, rel=0.2)
    assert str(rows)[3:].strip("0") == ""


def test_small_compressed_input_is_counted_exactly(tmp_path: Path) -> None:
    """What is all beginning is counted, not estimated."""
    path = tmp_path / "input"
    path.write_bytes(gzip.compress(write_csv(tmp_path / "plain.csv", sids_of(1_234)).read_bytes()))

    assert counted(path) == 1_234


def test_pipe_is_not_counted(tmp_path: Path) -> None:
    """Of a pipe nobody knows the length, and it cannot be read twice."""
    reading, writing = os.pipe()
    os.write(writing, f"contact_sid\n{sids_of(1)[0]}\n".encode())
    os.close(writing)
    total = Total(identity_of(f"/dev/fd/{reading}"))
    os.close(reading)

    total.start()
    total.join()

    assert total.rows is None


def test_input_that_is_gone_has_no_count(tmp_path: Path) -> None:
    """What cannot be read is not counted, and nobody hears of it."""
    path = write_csv(tmp_path / "input.csv", sids_of(3))
    total = Total(identity_of(path))
    path.unlink()

    total.start()
    total.join()

    assert total.rows is None


def test_count_that_is_stopped_says_nothing(tmp_path: Path) -> None:
    """A count that was not finished is none."""
    total = Total(identity_of(write_csv(tmp_path / "input.csv", sids_of(3))))

    total.stop()
    total.start()
    total.join()

    assert total.rows is None
