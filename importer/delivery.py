"""What is known so far of the contacts of one batch. Pure state: sends nothing, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from importer.model import Batch, BatchResult, Outcome, Reason, Verdict
from importer.replay import Task
from importer.retry import supersede

IN_DOUBT = Verdict(Outcome.UNKNOWN, reason=Reason.IN_DOUBT, ask_again=True)


class Known(msgspec.Struct, frozen=True):
    """What is kept in the journal of a batch that is not done: a verdict that stands for some of its contacts."""

    verdicts: list[Verdict | None]
    attempts: list[int]


class Delivery:
    """The verdicts of one batch's contacts, as they come in. A contact is open until its verdict stands."""

    def __init__(self, task: Task) -> None:
        """Begin where an earlier process ended."""
        self.batch: Batch = task.batch
        count = len(task.batch.sids)
        known = msgspec.msgpack.decode(task.known, type=Known) if task.known else Known([None] * count, [0] * count)
        self.verdicts = known.verdicts
        self.attempts = known.attempts
        self.open: list[int] = [
            index for index, verdict in enumerate(self.verdicts) if verdict is None or verdict.ask_again
        ]
        self.in_doubt = task.in_doubt
        if task.in_doubt:  # the request that nobody knows of counts as an attempt
            self.record(self.open, [IN_DOUBT] * len(self.open))

    def record(self, indices: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        """Note an attempt that carried the contacts at `indices`, and what it proved of each, if anything."""
        for index in indices:
            self.attempts[index] += 1
        self.settle(indices, verdicts)

    def settle(self, indices: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        """Note verdicts of contacts."""
        for index, verdict in zip(indices, verdicts, strict=False):
            self.verdicts[index] = supersede(self.verdicts[index], verdict)

    def known(self) -> bytes:
        """Give what a later process needs in order to go on from here."""
        return msgspec.msgpack.encode(Known(self.verdicts, self.attempts))

    def result(self) -> BatchResult:
        """Give the result, now that each contact has a verdict."""
        verdicts = [verdict for verdict in self.verdicts if verdict is not None]
        missing = len(self.verdicts) - len(verdicts)
        assert not missing, f"{missing} contacts of batch {self.batch.number} have no verdict"  # noqa: S101
        return BatchResult(self.batch, verdicts, self.attempts)
