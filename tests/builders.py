"""What tests of the source share: sids, inputs on the disk and in pipes, and every form of compression."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from importer.errors import ImporterError
from importer.inputs import Input
from importer.model import Batch
from importer.source import CsvSource

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SID_PATTERN = "[0-9a-fA-F]{32}"
SOURCE_DEFAULTS: dict[str, Any] = {
    "column": "contact_sid",
    "delimiter": None,
    "encoding": "utf-8",
    "sid_pattern": SID_PATTERN,
    "batch_size": 5000,
}


def _compress_zstd(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": _compress_zstd,
}


def sid(number: int) -> str:
    """A sid that looks like the vendor's, with letters in it."""
    return f"{number:024x}deadbeef"


def bare(*numbers: int) -> str:
    """A file of bare sids, one a line."""
    return "".join(f"{sid(number)}\n" for number in numbers)


@contextmanager
def opened(data: bytes | str) -> Iterator[Input]:
    """Open these bytes as an input that is a file."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "contacts.csv")
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        with closing(Input(str(path))) as source:
            yield source


@contextmanager
def piped(data: bytes, chunk_bytes: int = 4096) -> Iterator[Input]:
    """Open these bytes as an input that is a pipe, written bit by bit while it is read."""
    read_end, write_end = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(write_end, "wb", buffering=0) as pipe:
            for begin in range(0, len(data), chunk_bytes):
                pipe.write(data[begin : begin + chunk_bytes])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with closing(Input(f"/dev/fd/{read_end}")) as source:
            os.close(read_end)
            yield source
    finally:
        writer.join()


@contextmanager
def standard_input(descriptor: int) -> Iterator[None]:
    """Let the process have this open file as its standard input."""
    saved = os.dup(0)
    os.dup2(descriptor, 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def batches_of(data: bytes | str, **settings: Any) -> list[Batch]:
    """Cut a file of these bytes into batches."""
    with opened(data) as source:
        return list(CsvSource(source, **(SOURCE_DEFAULTS | settings)))


def sids_of(data: bytes | str, **settings: Any) -> list[str]:
    """The sids that a run of a file of these bytes would send, in order."""
    return [sid for batch in batches_of(data, **settings) for sid in batch.sids]


def error_of(data: bytes | str, **settings: Any) -> str:
    """What is said of a file of these bytes, which cannot be read, without the file's name."""
    with opened(data) as source:
        with pytest.raises(ImporterError) as caught:
            list(CsvSource(source, **(SOURCE_DEFAULTS | settings)))
        return str(caught.value).removeprefix(source.name).removeprefix(", ").removeprefix(": ")
