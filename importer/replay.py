"""What is left of a run's batches: the finished ones are compared with the input and skipped, the others handed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import msgspec

from importer.errors import InputError
from importer.history import Unfinished
from importer.model import Batch
from importer.source import Source
from importer.state import DoneBatch

_ADVICE = "Import the changed file as a run of its own, with another --run-dir."


class Task(msgspec.Struct, frozen=True):
    """A batch to deliver, and what became of earlier tries to."""

    batch: Batch
    known: bytes | None = None
    in_doubt: bool = False


class Past(Protocol):
    """What is known of the run so far."""

    def unfinished(self) -> Mapping[int, Unfinished]:
        """Give the batches that were begun and are not done."""
        ...

    def done(self, *, after: int = -1) -> Iterator[DoneBatch]:
        """Yield the finished batches after that one, in the input's order."""
        ...

    def done_from_the_beginning(self) -> DoneBatch | None:
        """Give the last of the finished batches that follow the first one without a gap."""
        ...


class Replay:
    """The tasks of a run, in the input's order. A resumed run cuts the same batches as the first one, or is refused."""

    def __init__(self, source: Source, past: Past, changed_row: Callable[[Batch, DoneBatch], int]) -> None:
        """Compare with the `past`; `changed_row` finds the first row of a batch that differs from it."""
        self._source = source
        self._past = past
        self._changed_row = changed_row

    def __iter__(self) -> Iterator[Task]:
        """Yield what is to be delivered. Raises InputError where the input is not what was imported so far."""
        unfinished = self._past.unfinished()
        done = self._past.done(after=self._skipped())
        expected = next(done, None)
        for batch in self._source:
            if expected is None or expected.batch != batch.number:
                past = unfinished.get(batch.number)
                if past is not None and past.digest != batch.digest:
                    raise InputError(
                        f"The input has changed since this run began: rows {batch.first_row:,} to {batch.last_row:,} "
                        f"are not what was sent (batch {batch.number:,}). {_ADVICE}"
                    )
                yield Task(batch, past.known, past.in_doubt) if past else Task(batch)
                continue
            if expected.digest != batch.digest:
                row = self._changed_row(batch, expected)
                raise InputError(
                    f"The input has changed since this run began: row {row:,} is not what was imported (batch "
                    f"{batch.number:,}, rows {expected.first_row:,} to {expected.last_row:,}). {_ADVICE}"
                )
            expected = next(done, None)
        if expected is not None:
            raise InputError(
                f"The input has changed since this run began: it ends before row {expected.first_row:,}, which was "
                f"imported. {_ADVICE}"
            )

    def _skipped(self) -> int:
        """Skip the finished batches of the beginning at once, if the input there is byte for byte what it was.

        If not, it may still be the same to us (a column that is not read, say): that is told batch by batch.
        """
        last = self._past.done_from_the_beginning()
        skips = last is not None and last.end is not None and self._source.skip(last.batch, last.last_row, last.end)
        return last.batch if last is not None and skips else 0
