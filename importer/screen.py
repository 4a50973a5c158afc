"""What a terminal shows of a run while it goes on: lines that fit it, at its bottom, below whatever else is written.

Draws what it is told; the numbers are `progress`'s.
"""

from __future__ import annotations

import os
import re
import textwrap
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from importer.model import Outcome
from importer.tables import COLOURS, Terminal, duration

_LABEL_CELLS = 10
_SEPARATOR = " · "
_UNTHROTTLED = 1_000_000  # requests a minute, from which on it makes no sense to speak of a quota
_WIDEST_BAR = 100
_IN_ASCII = str.maketrans("━─·→≈…", "#-|>~.")


class View(msgspec.Struct, frozen=True):
    """A run at one moment, as far as it is shown. Times are in seconds."""

    input: str
    list_sid: str
    finds_rate: bool = False
    elapsed: float = 0.0
    state: str = ""  # what it does or waits for
    is_troubled: bool = False
    has_begun: bool = False
    rows: int = 0
    total: int | None = None  # about
    contacts_per_minute: float | None = None
    starts: int = 0  # of requests in the last minute
    per_minute: float = 0.0  # requests allowed
    in_flight: int = 0
    requests: int = 0
    outcomes: Mapping[Outcome, int] = {}
    left: float | None = None


def lines_of(view: View, width: int, height: int = 24) -> list[Text]:
    """Give the lines to show, none of them wider, and no more of them than there is room for."""
    width = max(width - 1, _LABEL_CELLS + 10)  # many a terminal wraps a line that fills it
    now = _flow("now", [Text(view.state, style="yellow" if view.is_troubled else "")], width)
    title = [_title(view, width)]
    if not view.has_begun:
        return [*title, *now]
    # By importance; whatever finds no room is left out, from the end on.
    parts = {
        "now": now,
        "rows": _flow("rows", _rows(view), width),
        "bar": [_bar(view, width)] if view.total else [],
        "outcomes": _flow("outcomes", _outcomes(view), width),
        "time": _flow("time", _time(view), width),
        "requests": _flow("requests", _requests(view), width),
        "title": title,
    }
    room, shown = max(height - 1, 1), set()
    for name, lines in parts.items():
        if len(lines) <= room:
            room -= len(lines)
            shown.add(name)
    order = ("title", "bar", "rows", "requests", "time", "outcomes", "now")
    return [line for name in order if name in shown for line in parts[name]]


def _title(view: View, width: int) -> Text:
    source, list_sid = _printable(view.input), _printable(view.list_sid)
    name = re.split(r"[/\\]", source)[-1] or source
    forms = [
        f"{source} → list {list_sid}",
        f"…/{name} → list {list_sid}",
        f"{name} → list {list_sid}",
        f"{name} → {list_sid}",
    ]
    return Text(
        _cropped(next((form for form in forms if cell_len(form) <= width), f"{name} → {list_sid}"), width), "bold"
    )


def _bar(view: View, width: int) -> Text:
    share = min(1.0, view.rows / max(1, view.total or 0))
    percent = f"{int(share * 1000) / 10:5.1f} %"
    room = min(width - len(percent) - 1, _WIDEST_BAR)
    done = int(share * room)
    return Text.assemble(("━" * done, "green"), ("─" * (room - done), "dim"), " ", percent)


def _rows(view: View) -> list[Text]:
    rows = f"{view.rows:,}" if view.total is None else f"{view.rows:,} of ≈{max(view.rows, view.total):,}"
    speed = "" if view.contacts_per_minute is None else f"{view.contacts_per_minute:,.0f} contacts a minute"
    return [Text(rows), *([Text(speed)] if speed else [])]


def _requests(view: View) -> list[Text]:
    allowed = f"{max(1, int(view.per_minute)):,}"
    if view.per_minute >= _UNTHROTTLED:
        used = f"{view.starts:,} in the last minute"
    else:
        used = f"{view.starts:,} of {allowed} in the last minute"
    found = [Text("auto: found so far", style="dim")] if view.finds_rate else []
    return [Text(used), *found, Text(f"{view.in_flight:,} in flight")]


def _time(view: View) -> list[Text]:
    left = [] if view.left is None else [Text(f"about {_roughly(view.left)} left")]
    return [Text(duration(view.elapsed)), *left]


def _outcomes(view: View) -> list[Text]:
    counted = [(outcome, count) for outcome, count in view.outcomes.items() if count]
    return [Text(f"{each.value} {count:,}", style=COLOURS[each]) for each, count in counted] or [Text("none yet")]


def _roughly(seconds: float) -> str:
    """Say a time as exactly as it can be foretold: 20 s, 3 min 40 s, 41 min, 2 h 10 min."""
    step = 60 if seconds >= 600 else 10
    return duration(max(10, round(seconds / step) * step)).removesuffix(" 0 s")


def _flow(label: str, parts: Sequence[Text], width: int) -> list[Text]:
    """Put parts side by side, and on further lines where they do not fit."""
    room = width - _LABEL_CELLS
    pieces = [
        Text(piece, part.style)
        for part in parts
        for piece in ([part.plain] if part.cell_len <= room else textwrap.wrap(part.plain, room))
    ]
    lines = [pieces[0]]
    for piece in pieces[1:]:
        if lines[-1].cell_len + len(_SEPARATOR) + piece.cell_len <= room:
            lines[-1] = Text.assemble(lines[-1], (_SEPARATOR, "dim"), piece)
        else:
            lines.append(piece)
    labels = [label, *[""] * len(lines)]
    return [
        Text.assemble((f"{label:<{_LABEL_CELLS}}", "dim"), line) for label, line in zip(labels, lines, strict=False)
    ]


def _cropped(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _printable(text: str) -> str:
    """Take out what would act upon the terminal, or what it cannot show."""
    return "".join(each if each.isprintable() else "?" for each in text)


class Display:
    """The lowest lines of a terminal. Whatever is written through it appears above them, and nothing is torn.

    Stands in for the stream while it is shown. The cursor is never hidden, and each change is one write, so that a
    process that dies leaves a terminal in order.
    """

    def __init__(self, stream: TextIO) -> None:
        """Show nothing yet."""
        self._stream = stream
        self._console = Terminal(file=stream, highlight=False)
        self._is_ascii = not self._console.encoding.startswith("utf")
        self._lines: list[Text] = []
        self._shown = ""
        self._pending = ""  # a line that is not ended yet
        self._lock = threading.RLock()  # log lines may come from any thread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        try:
            width, height = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            width = height = 0
        return width or 80, height or 24

    def draw(self, view: View) -> None:
        """Show this instead of what is shown."""
        with self._lock:
            before, self._lines = self._erased(), lines_of(view, *self.size)
            self._shown = self._rendered()
            self._put(before + self._shown)

    def write(self, text: str) -> int:
        """Write above what is shown."""
        with self._lock:
            whole, end, self._pending = (self._pending + text).rpartition("\n")
            if end:
                self._put(self._erased() + whole + end + self._shown)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back but a line that is not ended."""

    def erase(self) -> None:
        """Show nothing any more."""
        with self._lock:
            self._put(self._erased() + self._pending)
            self._lines, self._shown, self._pending = [], "", ""

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _erased(self) -> str:
        """Go to where the lines begin, and erase from there on. A terminal that became narrower has wrapped them."""
        width, _ = self.size
        rows = sum(max(1, -(-line.cell_len // width)) for line in self._lines)
        return f"\r\x1b[{rows}A\x1b[J" if rows else ""

    def _rendered(self) -> str:
        with self._console.capture() as capture:
            self._console.print(Text("\n").join(self._lines), soft_wrap=True)
        return capture.get().translate(_IN_ASCII) if self._is_ascii else capture.get()
