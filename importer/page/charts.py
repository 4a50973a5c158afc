"""Pictures of a run, as SVG without colours: the page's style sheet has those. pygal lives here.

A series has a name, which is its CSS class; so one picture does in the light, in the dark and on paper.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup
from pygal import XY, Histogram  # type: ignore[import-untyped]  # it has no types
from pygal.config import Config  # type: ignore[import-untyped]
from pygal.style import Style  # type: ignore[import-untyped]

# pygal leaves an import hook behind, for maps, of a kind that Python warns of.
sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("pygal")]

_WIDTH, _HEIGHT = 400, 210
_FONT_SIZE = 12
_DECIMALS = re.compile(r"(\d+\.\d)\d+")
_GEOMETRY = {"d", "x", "y", "width", "height"}
_UNWANTED = {"title", "desc"}


class Series(msgspec.Struct, frozen=True):
    """A value for each bucket; None where there is none."""

    name: str  # its class
    values: Sequence[float | None]


class Tick(msgspec.Struct, frozen=True):
    """A label at a place of an axis."""

    at: float
    label: str


def areas(series: Sequence[Series], ticks: Sequence[Tick], label: str, limit: float | None = None) -> Markup:
    """Draw values that add up, one on top of the other, as steps; `limit` is a line across."""
    sums = [0.0] * len(series[0].values)
    layers = []
    for each in series:
        sums = [below + (value or 0) for below, value in zip(sums, each.values, strict=True)]
        layers.append((each.name, sums))
    top = max([*sums, limit or 0])
    # The highest layer first: the others are painted over it.
    shown = [(f"area {name}", _steps(values), True) for name, values in reversed(layers)]
    if limit is not None:
        shown.append(("line limit", [(0, limit), (len(sums), limit)], False))
    return _drawn(_xy(shown, len(sums), ticks, _even(top)), label)


def lines(series: Sequence[Series], ticks: Sequence[Tick], label: str, *, unit: str = "") -> Markup:
    """Draw values as steps, on a logarithmic axis if they lie far apart."""
    known = [value for each in series for value in each.values if value]
    top, least = max(known, default=0), min(known, default=0)
    is_wide = least > 0 and top / least > 30
    scale = _decades(least, top, unit) if is_wide else _even(top, unit)
    shown = []
    for each in series:
        values = [_power(value, scale[0].at) for value in each.values] if is_wide else each.values
        shown.append((f"line {each.name}", _steps(values), False))
    return _drawn(_xy(shown, len(series[0].values), ticks, scale), label)


def bars(name: str, values: Sequence[float], ticks: Sequence[Tick], label: str) -> Markup:
    """Draw values side by side; a tick stands at an edge between them."""
    gap = 0.06
    chart = Histogram(_config(ticks, _even(max(4, *values))))
    chart.add(f"area {name}", [(value, place + gap, place + 1 - gap) for place, value in enumerate(values) if value])
    return _drawn(chart, label)


def strip(shares: Sequence[tuple[str, int]], label: str) -> Markup:
    """Draw what a whole is made of, side by side; however small a part is, it can be seen."""
    bare = {"width": 600, "height": 20, "margin": 0, "margin_right": 0, "show_x_labels": False, "show_y_labels": False}
    chart = Histogram(_config([], [Tick(0, ""), Tick(1, "")], **bare))
    least, end = sum(count for _, count in shares) * 0.004, 0.0
    for name, count in shares:
        begin, end = end, end + max(count, least)
        chart.add(f"area {name}", [(1, begin, end)])
    # pygal leaves a margin of 2 % within the plot.
    return _drawn(chart, label, viewBox="11.6 1 576.8 18", preserveAspectRatio="none")


def _xy(
    series: Sequence[tuple[str, list[tuple[float, float | None]], bool]],
    length: int,
    ticks: Sequence[Tick],
    scale: Sequence[Tick],
) -> Any:
    chart = XY(_config(ticks, scale), xrange=(0, length), show_dots=False, allow_interruptions=True)
    for name, points, is_filled in series:
        chart.add(name, points, fill=is_filled)
    return chart


def _power(value: float | None, least: float) -> float | None:
    return max(math.log10(value), least) if value else None if value is None else least


def _steps(values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return [(place + more, value) for place, value in enumerate(values) for more in (0, 1)]


def _config(ticks: Sequence[Tick], scale: Sequence[Tick], **more: Any) -> Any:
    return Config(
        style=Style(label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE, font_family="sans-serif"),
        show_legend=False,
        truncate_label=-1,
        x_labels=[{"value": tick.at, "label": tick.label} for tick in ticks],
        y_labels=[{"value": tick.at, "label": tick.label} for tick in scale],
        range=(scale[0].at, scale[-1].at),
        css=(),
        js=(),
        **({"width": _WIDTH, "height": _HEIGHT, "margin": 4, "margin_right": 14} | more),
    )


def _even(top: float, unit: str = "") -> list[Tick]:
    """An axis from 0 with three to five even steps."""
    if top <= 0:
        return [Tick(0, f"0{unit}"), Tick(1, f"1{unit}")]
    power = 10 ** math.floor(math.log10(top / 4))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each * 4.5 >= top)
    return [
        Tick(step * number, (f"{step * number:,.6g}{unit}" if unit else short(step * number)))
        for number in range(math.ceil(top / step - 1e-9) + 1)
    ]


def _decades(least: float, top: float, unit: str) -> list[Tick]:
    """A logarithmic axis: its powers of ten, and where it ends."""
    end = math.log10(top)
    powers = range(math.floor(math.log10(least)), math.floor(end + 1e-9) + 1)
    ticks = [Tick(power, f"{10.0**power:,.6g}{unit}") for power in powers]
    return ticks if end <= powers[-1] + 1e-9 else [*ticks, Tick(end, "")]


def short(number: float) -> str:
    """Write a number as short as an axis needs it: 0.25, 40, 2.5 k, 150 k, 3 M."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.4g}{name}"
    return f"{number:.4g}"


def _drawn(chart: Any, label: str, **attributes: str) -> Markup:
    attributes |= {"role": "img", "aria-label": label}
    chart.add_xml_filter(lambda root: _bare(root, [series.title for series in chart.series], attributes))
    drawing = chart.render(is_unicode=True, disable_xml_declaration=True)
    return Markup(drawing)  # noqa: S704  # pygal escapes the words


def _bare(root: Any, names: Sequence[str], attributes: Mapping[str, str]) -> Any:
    """Keep the plot alone: no script, no style, nothing that only a pointer would show."""
    plot = next(node for node in root.iter("g") if node.get("class") == "plot")
    for child in list(root):
        root.remove(child)
    root.append(plot)
    del root.attrib["id"], root.attrib["class"]
    root.attrib.update(attributes)
    for node in list(plot.iter()):
        for child in list(node):
            if child.tag in _UNWANTED or child.get("class") == "background":
                node.remove(child)
        for name in _GEOMETRY & set(node.attrib):
            node.set(name, _DECIMALS.sub(r"\1", node.attrib[name]))
        words = node.attrib.pop("class", "").split()
        if "series" in words:
            node.set("class", names[int(words[1].removeprefix("serie-"))])
        elif "axis" in words and node.tag == "g":
            node.set("class", f"axis {words[1]}")
    return root
