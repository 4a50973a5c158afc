"""A run that was begun: its journal, and its input, opened and read as the run read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from importer.errors import InputError, RunDirectoryError
from importer.history import History
from importer.inputs import Input
from importer.recovery import STATE
from importer.source import CsvSource
from importer.state import Identity


class Past(msgspec.Struct, frozen=True):
    """What `verify` and `failed` look at."""

    history: History
    identity: Identity
    input: Input

    def source(self) -> CsvSource:
        """Cut the input as the run cut it. Raises InputError."""
        identity = self.identity
        return CsvSource(
            self.input,
            column=identity.position + 1,
            delimiter=identity.delimiter,
            encoding=identity.encoding,
            sid_pattern=identity.sid_pattern,
            batch_size=identity.batch_size,
            has_header=identity.has_header,
        )


@contextmanager
def open_past(directory: Path, location: str | None) -> Iterator[Past]:
    """Open the run of a directory, with the recorded input, or with the one at `location`.

    Raises RunDirectoryError or InputError.
    """
    with closing(History(directory / STATE)) as history:
        identity = history.identity
        if identity is None:
            raise RunDirectoryError(f"{directory}: the run died before it began; run the same command again.")
        if location is None and identity.location == "-":
            raise InputError(f"{directory}: the run read standard input; name its input, or pass it in with -.")
        with closing(Input(location or identity.location)) as source:
            yield Past(history, identity, source)
