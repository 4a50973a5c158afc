"""What is left of a run is handed on, and an input that is not what was imported so far is refused, with the row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import pytest

from importer.errors import InputError
from importer.history import Unfinished
from importer.model import Batch, Outcome, Place
from importer.replay import Replay, Task
from importer.state import DoneBatch
from tests.unit.runs import one_row, sid


def done(batch: Batch) -> DoneBatch:
    counts = dict.fromkeys(Outcome, 0)
    return DoneBatch(batch.number, batch.first_row, batch.last_row, batch.digest, 0, 0, 0, counts, batch.end)


class Cut:
    """An input, cut into these batches."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = list(batches)
        self.skipped = 0

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches[self.skipped :]

    def skip(self, batch: int, _: int, end: Place) -> bool:
        if self.batches[batch - 1].end != end:
            return False
        self.skipped = batch
        return True


class Run(NamedTuple):
    """What became of batches."""

    finished: list[DoneBatch]
    left: dict[int, Unfinished]

    def unfinished(self) -> dict[int, Unfinished]:
        return self.left

    def done(self, *, after: int = -1) -> Iterator[DoneBatch]:
        return (each for each in self.finished if each.batch > after)

    def done_from_the_beginning(self) -> DoneBatch | None:
        unbroken = [each for number, each in enumerate(self.finished, 1) if each.batch == number]
        return unbroken[-1] if unbroken else None


def replayed(
    batches: Sequence[Batch], past: Sequence[Batch] = (), unfinished: dict[int, Unfinished] | None = None
) -> Iterator[Task]:
    """Replay these batches against that past; the row that is said to differ is the batch's first one."""
    run = Run([done(batch) for batch in past], unfinished or {})
    return iter(Replay(Cut(batches), run, lambda batch, _: batch.first_row))


BATCHES = [one_row(number) for number in range(1, 7)]
OTHER = one_row(3, sid(99))


def test_new_run_has_every_batch_before_it() -> None:
    """Nothing is known of any of them."""
    assert [Task(batch) for batch in BATCHES] == list(replayed(BATCHES))


@pytest.mark.parametrize("numbers", [[1, 2, 3], [1, 3, 5], [2, 6], [6], [1, 2, 3, 4, 5, 6]])
def test_finished_batches_are_skipped(numbers: list[int]) -> None:
    """Wherever they lie: batches finish in any order."""
    past = [BATCHES[number - 1] for number in numbers]

    assert [batch for batch in BATCHES if batch not in past] == [task.batch for task in replayed(BATCHES, past)]


@pytest.mark.parametrize("is_unchanged", [True, False])
def test_what_was_finished_from_the_beginning_is_skipped_at_once(is_unchanged: bool) -> None:
    """The input is not cut as far as it is byte for byte what it was; if it is not, it is compared by batches."""
    past = [msgspec.structs.replace(batch, end=Place(batch.number, 1, b"")) for batch in BATCHES]
    now = past if is_unchanged else BATCHES
    cut, run = Cut(now), Run([done(past[number]) for number in (0, 1, 2, 4)], {})

    assert [task.batch.number for task in Replay(cut, run, lambda batch, _: batch.first_row)] == [4, 6]
    assert cut.skipped == (3 if is_unchanged else 0)


def test_unfinished_batches_come_with_what_is_known_of_them() -> None:
    """Each in its place, and the others without."""
    digests = [batch.digest for batch in BATCHES]
    unfinished = {
        2: Unfinished(digests[1], b"known", in_doubt=True),
        4: Unfinished(digests[3], None, in_doubt=True),
        5: Unfinished(digests[4], b"more", in_doubt=False),
    }

    assert list(replayed(BATCHES, [BATCHES[0]], unfinished)) == [
        Task(BATCHES[1], b"known", in_doubt=True),
        Task(BATCHES[2]),
        Task(BATCHES[3], None, in_doubt=True),
        Task(BATCHES[4], b"more", in_doubt=False),
        Task(BATCHES[5]),
    ]


@pytest.mark.parametrize(
    ("now", "past", "unfinished", "said"),
    [
        pytest.param(
            [*BATCHES[:2], OTHER, *BATCHES[3:]],
            BATCHES[:4],
            {},
            "row 3 is not what was imported (batch 3, rows 3 to 3)",
            id="a finished batch has changed",
        ),
        pytest.param(BATCHES[:2], BATCHES[:4], {}, "it ends before row 3, which was imported", id="it is shorter"),
        pytest.param(BATCHES[:2], BATCHES[4:], {}, "it ends before row 5, which was imported", id="it is much shorter"),
        pytest.param(
            [*BATCHES[:2], OTHER],
            BATCHES[:1],
            {3: Unfinished(BATCHES[2].digest, b"known", in_doubt=False)},
            "rows 3 to 3 are not what was sent (batch 3)",
            id="a batch of which something is known has changed",
        ),
        pytest.param(
            [*BATCHES[:2], OTHER],
            [],
            {3: Unfinished(BATCHES[2].digest, None, in_doubt=True)},
            "rows 3 to 3 are not what was sent (batch 3)",
            id="a batch in doubt has changed",
        ),
    ],
)
def test_changed_input_is_refused(
    now: Sequence[Batch], past: Sequence[Batch], unfinished: dict[int, Unfinished], said: str
) -> None:
    """The sentence names the place and what to do; what stands before it is handed on."""
    with pytest.raises(InputError) as caught:
        list(replayed(now, past, unfinished))

    assert said in str(caught.value)
    assert str(caught.value).startswith("The input has changed since this run began: ")
    assert str(caught.value).endswith("Import the changed file as a run of its own, with another --run-dir.")


def test_what_stands_before_a_change_is_handed_on() -> None:
    """The refusal comes where the change is."""
    tasks = replayed([BATCHES[0], BATCHES[1], OTHER], [BATCHES[2]])

    assert [Task(BATCHES[0]), Task(BATCHES[1])] == [next(tasks), next(tasks)]
    with pytest.raises(InputError):
        next(tasks)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Batch(3, 3, 3, [3], [sid(4)]), id="another sid"),
        pytest.param(Batch(3, 3, 4, [4], [sid(3)]), id="another row"),
        pytest.param(Batch(3, 3, 4, [3], [sid(3)]), id="one row more"),
        pytest.param(Batch(4, 3, 3, [3], [sid(3)]), id="another number"),
        pytest.param(Batch(3, 3, 3, [], []), id="none"),
    ],
)
def test_digest_is_of_all_that_a_batch_has(other: Batch) -> None:
    """Batches that differ in anything have different digests."""
    assert one_row(3).digest == Batch(3, 3, 3, [3], [sid(3)]).digest
    assert other.digest != one_row(3).digest
