"""Scenarios: what the sandbox plays, read from YAML into frozen data. Knows the syntax, plays nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from importer.sandbox.effects import EFFECTS, Effect, Match, RefuseConnections, Rule
from importer.sandbox.errors import ScenarioError
from importer.sandbox.population import Population
from importer.sandbox.sections import Api, Latency, LedgerSettings, Limit

DEFAULT_LIST = "5a4d0b0c5a4d0b0c5a4d0b0c5a4d0b0c"
"""The one list that exists unless a scenario names others."""

_BUNDLED = Path(__file__).with_name("scenarios")
_T = TypeVar("_T")
_MATCH_KEYS = frozenset(Match.__struct_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that the sandbox goes by. Two sandboxes with equal scenarios answer alike."""

    # Seed of everything drawn: chances, chosen items, latencies, request ids.
    seed: int = 1
    account_sid: str = "sandbox"
    api_key: str = "sandbox-key"
    api_token: str = "sandbox-token"  # noqa: S105 - made up, and public
    lists: tuple[str, ...] = (DEFAULT_LIST,)
    population: Population = field(default_factory=Population)
    api: Api = field(default_factory=Api)
    limit: Limit = field(default_factory=Limit)
    latency: Latency = field(default_factory=Latency)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    faults: tuple[Rule, ...] = ()

    @staticmethod
    def load(source: str | Path) -> Scenario:
        """Read a scenario file, or one of those that come with the sandbox, by its bare name.

        Raises ScenarioError where there is no such file or something in it is wrong.
        """
        name = str(source)
        path = Path(source)
        if not path.is_file() and name in bundled_scenarios():
            path = _BUNDLED / f"{name}.yaml"
            return Scenario.from_text(path.read_text(encoding="utf-8"), origin=path.name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(bundled_scenarios())
            msg = f"{name}: cannot read this scenario ({error}); give a YAML file or one of: {known}"
            raise ScenarioError(msg) from error
        return Scenario.from_text(text, origin=name)

    @staticmethod
    def from_text(text: str, *, origin: str = "scenario") -> Scenario:
        """Read a scenario from YAML; `origin` names it in errors. Raises ScenarioError."""
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            msg = f"{origin}: not valid YAML: {' '.join(str(error).split())}"
            raise ScenarioError(msg) from error
        if raw is None:
            return Scenario()
        if not isinstance(raw, dict):
            msg = f"{origin}: must be a mapping of keys to values, got {type(raw).__name__}"
            raise ScenarioError(msg)
        return _scenario_of(raw, origin)


def bundled_scenarios() -> tuple[str, ...]:
    """Return the names of the scenarios that come with the sandbox."""
    return tuple(sorted(path.stem for path in _BUNDLED.glob("*.yaml")))


_SECTIONS: dict[str, Any] = {
    "seed": int,
    "account_sid": str,
    "api_key": str,
    "api_token": str,
    "lists": tuple[str, ...],
    "population": Population,
    "api": Api,
    "limit": Limit,
    "latency": Latency,
    "ledger": LedgerSettings,
}


def _scenario_of(raw: dict[Any, Any], origin: str) -> Scenario:
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key == "faults":
            values[key] = _rules_of(value, origin)
        elif key in _SECTIONS:
            values[key] = _convert(value, _SECTIONS[key], origin, key)
        else:
            msg = f"{origin}: {key} is no key of a scenario; known are {', '.join([*_SECTIONS, 'faults'])}"
            raise ScenarioError(msg)
    return Scenario(**values)


def _rules_of(raw: object, origin: str) -> tuple[Rule, ...]:
    if not isinstance(raw, list):
        msg = f"{origin}: faults must be a list of rules"
        raise ScenarioError(msg)
    return tuple(_rule_of(rule, origin, f"faults[{index}]") for index, rule in enumerate(raw))


def _rule_of(raw: object, origin: str, where: str) -> Rule:
    if not isinstance(raw, dict):
        msg = f"{origin}: {where} must be a mapping with a matcher and an effect"
        raise ScenarioError(msg)
    named = [key for key in raw if key in EFFECTS]
    if len(named) != 1:
        found = ", ".join(named) or "none"
        msg = f"{origin}: {where} must name exactly one effect, found {found}; known are {', '.join(EFFECTS)}"
        raise ScenarioError(msg)
    matcher = {key: value for key, value in raw.items() if key in _MATCH_KEYS}
    if matcher.get("requests") is not None:
        matcher["requests"] = _ranges_of(matcher["requests"], origin, f"{where}.requests")
    rest = {key: value for key, value in raw.items() if key not in _MATCH_KEYS}
    match = _convert(matcher, Match, origin, where)
    effect: Effect = _convert(rest, EFFECTS[named[0]], origin, where)
    if isinstance(effect, RefuseConnections) and {"requests", "every", "chance", "times"} & matcher.keys():
        msg = f"{origin}: {where}: refuse_connections goes by from_seconds and until_seconds alone"
        raise ScenarioError(msg)
    return Rule(match=match, effect=effect)


def _ranges_of(raw: object, origin: str, where: str) -> tuple[tuple[int, int], ...]:
    """Return `3`, `"10-20"` or a list of such as ranges of request numbers."""
    ranges = []
    for part in raw if isinstance(raw, list) else [raw]:
        first, dash, last = str(part).partition("-")
        try:
            bounds = (int(first), int(last if dash else first))
        except ValueError:
            bounds = (0, 0)
        if isinstance(part, bool) or not 1 <= bounds[0] <= bounds[1]:
            msg = f'{origin}: {where}: {part!r} is neither a request number from 1 up nor a range like "10-20"'
            raise ScenarioError(msg)
        ranges.append(bounds)
    return tuple(ranges)


def _convert(raw: object, kind: type[_T], origin: str, where: str) -> _T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        # msgspec ends its sentence with the place: "… - at `$.field`".
        sentence, _, place = str(error).partition(" - at `$")
        key = where + place.rstrip("`")
        msg = f"{origin}: {key}: {sentence[:1].lower()}{sentence[1:]}"
        raise ScenarioError(msg) from error
