"""What faults do to the items of an answer after processing. Pure: the truth has been entered before."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

from importer.sandbox.answers import metadata_of
from importer.sandbox.effects import Items
from importer.sandbox.faults import chosen_positions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from importer.sandbox.effects import ItemsKind
    from importer.sandbox.faults import Plan

# Kinds that concern every item unless the scenario says which; the others concern one.
_WHOLESALE: frozenset[ItemsKind] = frozenset({"shuffled", "null_data", "capital_sid", "flat", "bare", "recased"})
_GARBAGE = ("null", "17", '"item"', "[]", "{}", "true")


def mutated(items: Sequence[str], metadata: str | None, plan: Plan) -> tuple[list[str], str | None]:
    """Return items and metadata as the plan's item effects leave them, applied in the order of the scenario."""
    texts = list(items)
    for rule, effect in plan.all(Items):
        draw = plan.drawn(f"items {rule}")
        texts = mutate(texts, effect, draw)
        if effect.recount:
            codes = [_field(_decoded(text), "code") for text in texts]
            good = sum(1 for code in codes if isinstance(code, int) and 200 <= code < 300)
            metadata = metadata_of(good, len(texts))
    return texts, metadata


def mutate(items: list[str], effect: Items, draw: random.Random) -> list[str]:
    """Return the items as one effect leaves them."""
    otherwise = 1.0 if effect.items in _WHOLESALE else None
    chosen = chosen_positions(effect, draw, len(items), otherwise=otherwise)
    if effect.items == "shuffled":
        return _shuffled(items, chosen, draw)
    if effect.items == "missing":
        gone = set(chosen)
        return [text for position, text in enumerate(items) if position not in gone]
    if effect.items == "doubled":
        twice = set(chosen)
        return [text for position, text in enumerate(items) for _ in range(1 + (position in twice))]
    if effect.items == "surplus":
        return items + [_text(_foreign(_decoded(items[position]), draw)) for position in chosen]
    changed = list(items)
    if effect.items == "garbage":
        for nth, position in enumerate(chosen):
            changed[position] = _GARBAGE[nth % len(_GARBAGE)]
        return changed
    change = _foreign if effect.items == "foreign" else _CHANGES[effect.items]
    for position in chosen:
        changed[position] = _text(change(_decoded(items[position]), draw))
    return changed


def _shuffled(items: list[str], chosen: Sequence[int], draw: random.Random) -> list[str]:
    order = list(chosen)
    draw.shuffle(order)
    if order == list(chosen) and len(order) > 1:
        order.append(order.pop(0))  # a shuffle that changes nothing would test nothing
    changed = list(items)
    for target, source in zip(chosen, order, strict=True):
        changed[target] = items[source]
    return changed


def _foreign(item: Any, draw: random.Random) -> Any:
    """Return the item with the sid of a contact that nobody asked for."""
    sid = f"{draw.getrandbits(128):032x}"
    data = _field(item, "data")
    return {**_mapping(item), "data": {**_mapping(data), "sid": sid}}


def _null_data(item: Any, _: random.Random) -> Any:
    return {**_mapping(item), "data": None}


def _capital_sid(item: Any, _: random.Random) -> Any:
    data = _field(item, "data")
    if not isinstance(data, dict):
        return item
    return {**_mapping(item), "data": {"Sid" if key == "sid" else key: value for key, value in data.items()}}


def _flat(item: Any, _: random.Random) -> Any:
    """Return code, status and error beside the fields of `data`."""
    rest = {key: value for key, value in _mapping(item).items() if key != "data"}
    return {**rest, **_mapping(_field(item, "data"))}


def _bare(item: Any, draw: random.Random) -> Any:
    """Return the fields of `data` alone with a capital `Sid`, as in the vendor's own broken sample."""
    return _mapping(_field(_capital_sid(item, draw), "data"))


def _recased(item: Any, _: random.Random) -> Any:
    data = _mapping(_field(item, "data"))
    if "sid" not in data:
        return item
    return {**_mapping(item), "data": {**data, "sid": str(data["sid"]).swapcase()}}


_CHANGES: dict[ItemsKind, Callable[[Any, random.Random], Any]] = {
    "null_data": _null_data,
    "capital_sid": _capital_sid,
    "flat": _flat,
    "bare": _bare,
    "recased": _recased,
}


def _decoded(text: str) -> Any:
    return msgspec.json.decode(text)


def _text(item: Any) -> str:
    return msgspec.json.encode(item).decode()


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _field(item: Any, name: str) -> Any:
    return _mapping(item).get(name)
