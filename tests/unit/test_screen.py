"""The live display fits its terminal, tears nothing, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from contextlib import ExitStack
from fcntl import ioctl

import msgspec
import pytest

from importer.model import Outcome
from importer.screen import Display, View, lines_of
from tests.harness import LIST

VIEW = View(
    input="contacts.csv",
    list_sid=LIST,
    elapsed=1_640,
    state="waiting for the quota: next request in 2 s",
    has_begun=True,
    rows=4_100_000,
    total=10_000_000,
    contacts_per_minute=148_300,
    starts=30,
    per_minute=30,
    in_flight=3,
    requests=812,
    outcomes={Outcome.ADDED: 4_050_000, Outcome.ALREADY_PRESENT: 40_000, Outcome.REJECTED: 10_000, Outcome.FAILED: 0},
    left=2_360,
)


def text_of(view: View, width: int, height: int = 24) -> str:
    return "\n".join(line.plain for line in lines_of(view, width, height))


def test_wide_terminal_shows_all() -> None:
    """On 80 columns: how far, how fast, how much of the quota, how long still, what came of it, and what it does."""
    assert text_of(VIEW, 80) == (
        f"contacts.csv → list {LIST}\n"
        f"{'━' * 29}{'─' * 42}  41.0 %\n"
        "rows      4,100,000 of ≈10,000,000 · 148,300 contacts a minute\n"
        "requests  30 of 30 in the last minute · 3 in flight\n"
        "time      27 min 20 s · about 39 min left\n"
        "outcomes  added 4,050,000 · already_present 40,000 · rejected 10,000\n"
        "now       waiting for the quota: next request in 2 s"
    )


def test_narrow_terminal_takes_more_lines() -> None:
    """On 40 columns nothing is lost but a part of the list's sid."""
    assert text_of(VIEW, 40, 15) == (
        "contacts.csv → 5a4d0b0c5a4d0b0c5a4d0b0…\n"
        f"{'━' * 12}{'─' * 19}  41.0 %\n"
        "rows      4,100,000 of ≈10,000,000\n"
        "          148,300 contacts a minute\n"
        "requests  30 of 30 in the last minute\n"
        "          3 in flight\n"
        "time      27 min 20 s\n"
        "          about 39 min left\n"
        "outcomes  added 4,050,000\n"
        "          already_present 40,000\n"
        "          rejected 10,000\n"
        "now       waiting for the quota: next\n"
        "          request in 2 s"
    )


@pytest.mark.parametrize(
    "name", ["contacts.csv", "/a/very/" + "long/" * 20 + "path.csv", "名前" * 30 + ".csv", "a\x1b[2Jb"]
)
@pytest.mark.parametrize("width", [1, 20, 39, 40, 79, 80, 200])
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    """Neither long nor wide names break a line, and none reaches the terminal as a command."""
    view = msgspec.structs.replace(VIEW, input=name, finds_rate=True)

    for line in lines_of(view, width):
        assert line.cell_len <= max(width - 1, 20)
        assert line.plain.isprintable()


@pytest.mark.parametrize("height", [1, 2, 3, 5, 8, 12])
def test_low_terminal_shows_what_matters_most(height: int) -> None:
    """What finds no room is left out; what the run does is the last to go."""
    lines = lines_of(VIEW, 80, height)

    assert len(lines) <= max(1, height - 1)
    assert lines[-1].plain.startswith("now")


def test_unknown_total_has_neither_bar_nor_time_left() -> None:
    """Of a pipe, the rows so far are all that can be told."""
    text = text_of(msgspec.structs.replace(VIEW, total=None, left=None), 80)

    assert "rows      4,100,000 · 148,300 contacts a minute" in text
    assert not set("━─%≈") & set(text)
    assert "left" not in text


def test_total_that_was_too_low_is_corrected() -> None:
    """More rows than were thought to be there are the new total."""
    assert "4,100,000 of ≈4,100,000" in text_of(msgspec.structs.replace(VIEW, total=4_000_000), 80)


def test_found_rate_is_said_to_be_found() -> None:
    """With `auto`, the quota is what was found so far."""
    view = msgspec.structs.replace(VIEW, finds_rate=True, per_minute=61.7)

    assert "30 of 61 in the last minute · auto: found so far · 3 in flight" in text_of(view, 80)


def test_no_quota_is_not_shown_as_one() -> None:
    """Who asks for an absurd rate wants none."""
    assert "requests  30 in the last minute" in text_of(msgspec.structs.replace(VIEW, per_minute=1e8), 80)


def test_before_it_begins_only_that_is_said() -> None:
    """Numbers come once there are some."""
    text = text_of(View(input="contacts.csv", list_sid=LIST, state="getting ready"), 80)

    assert text == f"contacts.csv → list {LIST}\nnow       getting ready"


class Screen:
    """A display on a terminal, and what a terminal makes of what is written to it."""

    def __init__(self, stack: ExitStack) -> None:
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        self._ours = ours
        self._stream = stack.enter_context(os.fdopen(theirs, "w", encoding="utf-8"))
        attributes = termios.tcgetattr(theirs)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self.resize(80, 24)
        self.display = Display(self._stream)
        self.rows = [""]
        self.row = 0

    def resize(self, columns: int, lines: int) -> None:
        ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def written(self) -> str:
        self._stream.flush()
        self._stream.write("\0")
        self._stream.flush()
        raw = b""
        while not raw.endswith(b"\0"):
            raw += os.read(self._ours, 65_536)
        return raw[:-1].decode()

    def seen(self) -> list[str]:
        """Do what a terminal does, as far as it is made use of."""
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+", self.written()):
            if up := re.fullmatch(r"\x1b\[(\d+)A", part):
                self.row -= int(up[1])
            elif part == "\x1b[J":
                self.rows[self.row :] = [""]
            elif part == "\n":
                self.row += 1
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif not part.startswith(("\x1b", "\r")):
                self.rows[self.row] += part
        return [row for row in self.rows if row]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with ExitStack() as stack:
        yield Screen(stack)


def test_each_picture_takes_the_place_of_the_one_before(screen: Screen) -> None:
    """There is one picture on the screen at any time."""
    screen.display.draw(VIEW)
    screen.display.draw(msgspec.structs.replace(VIEW, rows=5_000_000, total=None))

    seen = screen.seen()

    assert len(seen) == 6
    assert seen[1].startswith("rows      5,000,000 ·")


def test_log_lines_stand_above_the_picture(screen: Screen) -> None:
    """What is written meanwhile stays, whole, above the picture."""
    screen.display.draw(VIEW)
    screen.display.write("first ")
    screen.display.write("line\nsecond line\nthi")
    screen.display.draw(VIEW)

    seen = screen.seen()

    assert seen[:2] == ["first line", "second line"]
    assert len(seen) == 2 + 7


def test_picture_is_erased_at_the_end(screen: Screen) -> None:
    """At the end there is what was written, and nothing else."""
    screen.display.draw(VIEW)
    screen.display.write("a line\nno end")
    screen.display.erase()

    assert screen.seen() == ["a line", "no end"]


def test_narrower_terminal_leaves_nothing_behind(screen: Screen) -> None:
    """Lines that the terminal wrapped when it became narrower are erased with all their parts."""
    screen.display.draw(VIEW)
    before = screen.seen()
    screen.resize(40, 24)
    wrapped = [line[at : at + 40] for line in before for at in range(0, len(line), 40)]
    screen.rows, screen.row = [*wrapped, ""], len(wrapped)
    screen.display.draw(VIEW)

    assert screen.seen() == text_of(VIEW, 40).split("\n")


@pytest.mark.parametrize(
    ("variable", "value", "allowed"), [("NO_COLOR", "1", r"0|1|2"), ("TERM", "xterm-256color", r"[\d;]+")]
)
def test_no_colour_where_none_is_wanted(
    monkeypatch: pytest.MonkeyPatch, screen: Screen, variable: str, value: str, allowed: str
) -> None:
    """NO_COLOR leaves bold and dim, and takes every colour."""
    monkeypatch.setenv(variable, value)
    display = Display(screen.display._stream)
    display.draw(VIEW)
    codes = re.findall(r"\x1b\[([\d;]*)m", screen.written())

    assert codes
    assert all(re.fullmatch(allowed, code) for code in codes)
    assert any("3" in code for code in codes) == (variable != "NO_COLOR")


def test_terminal_without_unicode_gets_ascii() -> None:
    """Where the terminal's encoding has no lines and dots, plain signs stand for them."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="strict", write_through=True)
    Display(stream).draw(msgspec.structs.replace(VIEW, input="plain.csv"))

    text = stream.buffer.getvalue().decode("latin-1")

    assert "###---" in text
    assert "4,100,000 of ~10,000,000 | 148,300" in text
