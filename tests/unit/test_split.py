"""A refused request is sent in parts, the largest first, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer.model import ApiError
from importer.split import BUDGET_REQUESTS, MAX_CONTACTS, MOST_IN_VAIN, Parts
from tests.unit.fakes import sids_of

Judge = Callable[[Sequence[int]], bool]


class Told:
    """What became of the contacts of one batch, and what it cost."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.sent: list[list[int]] = []
        self.added: list[int] = []
        self.rejected: list[int] = []
        self.given_up: list[int] = []
        self.size = 0

    @property
    def is_complete(self) -> bool:
        return sorted([*self.added, *self.rejected, *self.given_up]) == list(range(self.count))


def deliver(
    count: int,
    refuses: Judge,
    *,
    size: int = MAX_CONTACTS,
    name: Callable[[Sequence[int]], ApiError | None] = lambda _: None,
    too_large: bool = False,
) -> Told:
    """Send a batch to an API that refuses some requests as a whole."""
    told, sids = Told(count), sids_of(count)
    parts = Parts(range(count), size)
    while parts:
        part = parts.take()
        told.sent.append(list(part))
        if not refuses(part):
            told.added += part
            parts.settled(part, got_in=True)
        elif len(part) == 1:
            told.rejected += part
            parts.settled(part, got_in=False)
        else:
            told.given_up += parts.split(part, sids, name(part), too_large=too_large)
    told.size = parts.size
    return told


def any_of(poisoned: Collection[int]) -> Judge:
    return lambda part: not set(poisoned).isdisjoint(part)


@pytest.mark.parametrize("place", [0, 1, 2499, 2500, 4999])
@pytest.mark.parametrize("too_large", [False, True])
def test_one_poisoned_contact_costs_about_25_requests(place: int, too_large: bool) -> None:
    """One of 5,000: all the others get in, whatever the refusal is, and nothing is learnt of the size."""
    told = deliver(5000, any_of([place]), too_large=too_large)

    assert (told.rejected, told.given_up) == ([place], [])
    assert 24 <= len(told.sent) <= 27
    assert told.size == MAX_CONTACTS


@given(st.sets(st.integers(0, 4999), max_size=10))
def test_ten_poisoned_contacts_are_isolated(poisoned: set[int]) -> None:
    """Wherever ten of 5,000 are, 4,990 get in."""
    told = deliver(5000, any_of(poisoned))

    assert set(told.rejected) == poisoned
    assert told.given_up == []
    assert told.is_complete


@given(st.integers(1, 5000), st.integers(0, 2**32), st.floats(0, 1), st.booleans())
def test_cost_is_bounded_and_nobody_is_lost(count: int, seed: int, share: float, too_large: bool) -> None:
    """Whatever is poisoned: each contact gets in, is refused by itself, or is given up; for a bounded cost."""
    poisoned = {index for index in range(count) if Random(seed + index).random() < share}

    told = deliver(count, any_of(poisoned), too_large=too_large)

    assert told.is_complete
    assert poisoned.isdisjoint(told.added)
    assert set(told.rejected) <= poisoned
    # What is learnt of the size costs more: pieces of at least half of the smallest size that can be learnt.
    assert len(told.sent) <= 1 + BUDGET_REQUESTS + (count / 4 + 8 if told.size < MAX_CONTACTS else 0)


def test_batch_of_which_nothing_gets_in_is_given_up_soon() -> None:
    """Where every part is refused, the rest is not even sent."""
    told = deliver(5000, lambda _: True)

    assert len(told.sent) == MOST_IN_VAIN
    assert len(told.given_up) == 5000


def test_budget_leaves_the_least_behind() -> None:
    """Of too many poisoned contacts to isolate, small parts are given up, and most of the others get in."""
    poisoned = range(0, 5000, 125)  # forty

    told = deliver(5000, any_of(poisoned))

    assert told.is_complete
    assert len(told.sent) <= 1 + BUDGET_REQUESTS
    assert len(told.added) > 3500


@pytest.mark.parametrize("largest", [17, 100, 700, 1300, 2500, 4999])
def test_size_that_works_is_learnt(largest: int) -> None:
    """Where the size is what is wrong, everything gets in, and the size that works is known from then on."""
    told = deliver(5000, lambda part: len(part) > largest, too_large=True)

    assert len(told.added) == 5000
    refused = [part for part in told.sent if len(part) > largest]
    assert len(refused) <= 17
    if largest < 2500:
        assert largest / 2 - 1 <= told.size <= largest
        again = deliver(5000, lambda part: len(part) > largest, size=told.size, too_large=True)
        assert all(len(part) <= largest for part in again.sent)


def test_nothing_is_sent_whatever_its_size() -> None:
    """An API that finds everything too large is asked a bounded number of times, and teaches nothing."""
    told = deliver(5000, lambda _: True, too_large=True)

    assert (len(told.sent), told.size) == (MOST_IN_VAIN, MAX_CONTACTS)
    assert len(told.given_up) == 5000


@pytest.mark.parametrize("place", [0, 7, 99])
def test_contact_that_the_error_names_is_sent_alone(place: int) -> None:
    """An error that names a contact saves the search: the rest, and that contact alone."""
    sids = sids_of(100)
    error = ApiError(1002, "Invalid parameter", f"A contact_sid is invalid: '{sids[place].upper()}'.")

    told = deliver(100, any_of([place]), name=lambda _: error)

    assert [len(part) for part in told.sent] == [100, 99, 1]
    assert told.rejected == [place]


def test_many_contacts_that_are_named_one_after_another() -> None:
    """Each refusal names the next; all are found for two requests each."""
    sids, poisoned = sids_of(5000), list(range(3, 5000, 200))

    def name(part: Sequence[int]) -> ApiError:
        return ApiError(1002, None, f"contact_sid {sids[next(index for index in part if index in poisoned)]}")

    told = deliver(5000, any_of(poisoned), name=name)

    assert sorted(told.rejected) == poisoned
    assert len(told.sent) == 1 + 2 * len(poisoned)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("list_sid " + "f" * 32, id="a stranger"),
        pytest.param(" ".join(sids_of(8)), id="everyone"),
        pytest.param("x" + sids_of(8)[3], id="a longer word"),
    ],
)
def test_error_that_names_nobody_in_particular_means_halves(text: str) -> None:
    """Where the error names no contact of the request, or all of them, it is halved."""
    told = deliver(8, any_of([3]), name=lambda _: ApiError(1002, text))

    assert [0, 1, 2, 3] in told.sent
    assert told.rejected == [3]


def test_larger_parts_go_first() -> None:
    """Whatever was put back or split, the largest part is sent next; of equal ones the first."""
    parts = Parts(range(10), 4)
    parts.put_back([20, 21, 22, 23, 24])

    taken = []
    while parts:
        taken.append(len(parts.take()))

    assert taken == [5, 4, 4, 2]
