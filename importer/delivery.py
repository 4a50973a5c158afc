"""What is known so far of the contacts of one batch. Pure state: sends nothing, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from importer.errors import RunDirectoryError
from importer.model import IN_THE_LIST, Batch, BatchResult, Outcome, Reason, Verdict
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
        self.refusal = ""  # the API's words, if it refused the batch as a whole
        count = len(task.batch.sids)
        known = _decoded(task) if task.known else Known([None] * count, [0] * count)
        self.verdicts = known.verdicts
        self.attempts = known.attempts
        self.open: Sequence[int] = range(count)
        if task.known:
            self.open = [each for each in self.open if (old := self.verdicts[each]) is None or old.ask_again]
        self.in_doubt = task.in_doubt
        if task.in_doubt:  # the request that nobody knows of counts as an attempt
            self.record(self.open, [IN_DOUBT] * len(self.open))

    def may_be_added(self, index: int) -> bool:
        """Whether a request that carried the contact may have added it, and no answer has told."""
        verdict = self.verdicts[index]
        return verdict is not None and verdict.outcome is Outcome.UNKNOWN

    def is_any_in_the_list(self, indices: Sequence[int]) -> bool:
        """Whether one of the contacts at `indices` is in the list."""
        verdicts = (self.verdicts[index] for index in indices)
        return any(verdict is not None and verdict.outcome in IN_THE_LIST for verdict in verdicts)

    def record(self, indices: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        """Note an attempt that carried the contacts at `indices`, and what it proved of each, if anything."""
        if len(indices) == len(verdicts) == len(self.verdicts) and not any(self.attempts):
            # All contacts at once and for the first time, as with most batches: nothing to supersede.
            self.verdicts, self.attempts = list(verdicts), [1] * len(indices)
            return
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
        return BatchResult(self.batch, verdicts, self.attempts, self.refusal)


def _decoded(task: Task) -> Known:
    count = len(task.batch.sids)
    try:
        known = msgspec.msgpack.decode(task.known or b"", type=Known)
    except ValueError:
        known = Known([], [])
    if not len(known.verdicts) == len(known.attempts) == count:
        raise RunDirectoryError(
            f"What state.db knows of batch {task.batch.number:,} is damaged: restore it from a backup, or start anew "
            "in another directory with --run-dir."
        )
    return known
