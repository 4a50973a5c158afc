"""The reference in docs/sandbox.md is complete."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from importer.sandbox import DEFAULT_LIST, Scenario, bundled_scenarios
from importer.sandbox.effects import EFFECTS, ItemsKind, Match
from importer.sandbox.sections import Api, Latency, LedgerSettings, Limit, Poison
from tests.unit.sandbox.support import Rig

TEXT = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text(encoding="utf-8")

PREFIXED: list[tuple[str, Any]] = [("latency.", Latency), ("ledger.", LedgerSettings), ("poison.", Poison)]
SECTION_KEYS = [key for section in (Api, Limit) for key in section.__struct_fields__ if key != "poison"]
KEYS = [
    *[field.name for field in dataclasses.fields(Scenario)],
    *SECTION_KEYS,
    *[prefix + key for prefix, section in PREFIXED for key in section.__struct_fields__],
    *Match.__struct_fields__,
    *[key for effect in EFFECTS.values() for key in effect.__struct_fields__],
    *ItemsKind.__args__,  # type: ignore[attr-defined]
    *bundled_scenarios(),
]


@pytest.mark.parametrize("key", sorted(set(KEYS)))
def test_every_key_of_a_scenario_is_documented(key: str) -> None:
    """Every key, effect, parameter and bundled scenario stands in the reference."""
    assert f"`{key}`" in TEXT or f"`{key}:" in TEXT or f"`{key}." in TEXT


def test_every_figure_of_the_ledger_is_documented() -> None:
    """Every key that the ledger shows stands in the reference."""
    snapshot = Rig().engine.snapshot()
    keys = {*snapshot, *snapshot["lists"][DEFAULT_LIST]}

    assert {key for key in keys if f"`{key}`" not in TEXT} == set()
