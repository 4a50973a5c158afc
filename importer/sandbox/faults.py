"""Which fault rules meet which request: decided by number, seed and clock alone, never by interleaving."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from importer.sandbox.effects import Chosen, RefuseConnections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from importer.sandbox.effects import Effect, Match, Rule

_E = TypeVar("_E")


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults that meet one request, in the order of the scenario."""

    number: int
    seed: int
    # Index of the rule, and what it does.
    hits: tuple[tuple[int, Effect], ...] = ()

    def first(self, kind: type[_E]) -> _E | None:
        """Return the first effect of this kind; of effects that exclude each other, the first rule wins."""
        return next((effect for _, effect in self.hits if isinstance(effect, kind)), None)

    def all(self, kind: type[_E]) -> Iterator[tuple[int, _E]]:
        """Yield every effect of this kind with the index of its rule."""
        return ((rule, effect) for rule, effect in self.hits if isinstance(effect, kind))

    def drawn(self, purpose: str) -> random.Random:
        """Return random numbers that depend on the scenario's seed, this request's number and the purpose."""
        return drawn(self.seed, purpose, self.number)


class FaultScript:
    """The rules of a scenario with what is left of their `times`. Every request is to be asked for once."""

    def __init__(self, rules: Sequence[Rule], seed: int) -> None:
        self._rules = rules
        self._seed = seed
        self.met = [0] * len(rules)

    def plan(self, number: int, elapsed_seconds: float) -> Plan:
        """Return the faults of this request, and take them off the rules that are limited in times."""
        hits = []
        for index, rule in enumerate(self._rules):
            used_up = rule.match.times is not None and self.met[index] >= rule.match.times
            if used_up or isinstance(rule.effect, RefuseConnections):
                continue
            if meets(rule.match, self._seed, index, number, elapsed_seconds):
                self.met[index] += 1
                hits.append((index, rule.effect))
        return Plan(number=number, seed=self._seed, hits=tuple(hits))

    def refuses_connections(self, elapsed_seconds: float) -> bool:
        """Return whether connections are closed at this time, and count it for the rule that says so."""
        for index, rule in enumerate(self._rules):
            if isinstance(rule.effect, RefuseConnections) and is_open(rule.match, elapsed_seconds):
                self.met[index] += 1
                return True
        return False


def meets(match: Match, seed: int, rule: int, number: int, elapsed_seconds: float) -> bool:
    """Return whether a request, by its number and its time on the sandbox's clock, satisfies all of `match`."""
    if not is_open(match, elapsed_seconds):
        return False
    if match.requests is not None and not any(first <= number <= last for first, last in match.requests):
        return False
    if match.every is not None and number % match.every:
        return False
    return match.chance is None or drawn(seed, f"fault {rule}", number).random() < match.chance


def is_open(match: Match, elapsed_seconds: float) -> bool:
    """Return whether the time lies within `from_seconds` (included) and `until_seconds` (excluded)."""
    return match.from_seconds <= elapsed_seconds and (
        match.until_seconds is None or elapsed_seconds < match.until_seconds
    )


def chosen_positions(effect: Chosen, draw: random.Random, length: int, *, otherwise: float | None) -> list[int]:
    """Return, in order, the positions of a list that an effect is about.

    `otherwise` is the fraction where the effect gives neither fraction nor count; None stands for a single item. Any
    fraction above 0 chooses at least one item.
    """
    fraction = effect.fraction if effect.count is None else None
    if fraction is None and effect.count is None:
        fraction = otherwise
    if fraction is None:
        count = min(effect.count or 1, length)
    elif fraction == 0.0:
        count = 0
    else:
        count = min(max(1, round(fraction * length)), length)
    return sorted(draw.sample(range(length), count))


def drawn(seed: int, purpose: str, number: int) -> random.Random:
    """Return random numbers that depend on these three alone."""
    return random.Random(f"{seed}/{purpose}/{number}")  # noqa: S311 - a script, not cryptography
