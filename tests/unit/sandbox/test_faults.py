"""Which rule meets which request."""

import pytest

from importer.sandbox.effects import Delay, Items, Match, RefuseConnections, Rule, Status
from importer.sandbox.faults import FaultScript, chosen_positions, drawn, meets

DOWN = Status(status=503)


def numbers_met(match: Match, *, elapsed_seconds: float = 0.0) -> list[int]:
    return [number for number in range(1, 31) if meets(match, 1, 0, number, elapsed_seconds)]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), list(range(1, 31))),
        (Match(requests=((3, 3), (10, 12))), [3, 10, 11, 12]),
        (Match(every=7), [7, 14, 21, 28]),
        (Match(every=7, requests=((1, 20),)), [7, 14]),
        (Match(chance=0.0), []),
        (Match(chance=1.0), list(range(1, 31))),
        (Match(until_seconds=5), []),
        (Match(from_seconds=5, until_seconds=6), list(range(1, 31))),
    ],
)
def test_matchers(match: Match, expected: list[int]) -> None:
    """A rule meets the requests that satisfy all of its matchers."""
    assert numbers_met(match, elapsed_seconds=5.0) == expected


def test_a_chance_depends_on_the_number_alone() -> None:
    """Whatever was asked before, the same request of the same rule has the same luck; another rule has another."""
    match = Match(chance=0.5)
    forwards = [meets(match, 1, 0, number, 0.0) for number in range(1, 200)]
    backwards = [meets(match, 1, 0, number, 0.0) for number in reversed(range(1, 200))]

    assert forwards == backwards[::-1]
    assert forwards != [meets(match, 1, 1, number, 0.0) for number in range(1, 200)]
    assert forwards != [meets(match, 2, 0, number, 0.0) for number in range(1, 200)]
    assert sum(forwards) == pytest.approx(100, abs=25)


def test_times_uses_a_rule_up() -> None:
    """A rule with `times` meets that many requests and counts them."""
    script = FaultScript([Rule(Match(every=2, times=2), DOWN)], seed=1)

    met = [number for number in range(1, 11) if script.plan(number, 0.0).hits]

    assert met == [2, 4]
    assert script.met == [2]


def test_rules_meet_together_and_the_first_wins() -> None:
    """All rules that match are in the plan, in order; of a kind, the first is asked for."""
    delay, slower = Delay(delay_seconds=1), Delay(delay_seconds=2)
    script = FaultScript([Rule(Match(), DOWN), Rule(Match(), delay), Rule(Match(), slower)], seed=1)

    plan = script.plan(1, 0.0)

    assert [DOWN, delay, slower] == [effect for _, effect in plan.hits]
    assert delay == plan.first(Delay)
    assert [(1, delay), (2, slower)] == list(plan.all(Delay))


def test_connections_are_refused_by_time_alone() -> None:
    """An outage of connections is no fault of any request."""
    outage = Rule(Match(from_seconds=10, until_seconds=20), RefuseConnections(refuse_connections=True))
    script = FaultScript([outage], seed=1)

    assert [script.refuses_connections(at) for at in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]
    assert not script.plan(1, 15.0).hits
    assert script.met == [2]


@pytest.mark.parametrize(
    ("effect", "otherwise", "count"),
    [
        (Items(items="missing"), None, 1),
        (Items(items="shuffled"), 1.0, 10),
        (Items(items="missing", count=3), None, 3),
        (Items(items="missing", count=30), None, 10),
        (Items(items="missing", fraction=0.5), None, 5),
        (Items(items="missing", fraction=0.001), None, 1),
        (Items(items="missing", fraction=0.0), None, 0),
    ],
)
def test_how_many_items_are_chosen(effect: Items, otherwise: float | None, count: int) -> None:
    """A count, a fraction (at least one item), or what the effect does where neither is given."""
    chosen = chosen_positions(effect, drawn(1, "test", 1), 10, otherwise=otherwise)

    assert len(chosen) == count
    assert chosen == sorted(set(chosen))
