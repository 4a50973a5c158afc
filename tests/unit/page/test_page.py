"""The page about a run: whole, harmless, and small, whatever the run was."""

from __future__ import annotations

import base64
import hashlib
import re
import stat
import sys
import time
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from importer.errors import ImporterError, RunDirectoryError
from importer.journal import Journal
from importer.model import (
    ApiError,
    Attempt,
    Batch,
    BatchResult,
    ContactResult,
    ExitCode,
    Outcome,
    Reason,
    Tally,
    Verdict,
)
from importer.page.charts import Series, Tick, areas, lines
from importer.page.page import page_of, write_page
from importer.page.words import share, span
from importer.recovery import REPORT, STATE, SUMMARY, DirectoryLock, make_directory
from importer.report import encode
from importer.settings import Settings
from importer.state import DoneBatch, Identity
from importer.summary import summarise, write_summary
from tests.harness import importer_here
from tests.unit.runs import IDENTITY, finished_run, sid

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)
BEGAN = NOW.timestamp() - 100_000
HOSTILE = "</style></title><script>alert(1)</script><img src=http://x.example/ onerror='alert(2)'>\u202e\"&"


class Page(HTMLParser):
    """What a browser makes of a page: its tags, their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def looked_at(text: str) -> Page:
    """Read a page, and see that it could do no harm."""
    page = Page(text)
    assert page.open == []
    assert not {"script", "img", "link", "iframe", "object", "a", "form", "base"} & set(page.tags)
    assert page.tags.count("style") == 1
    for name, value in page.attributes:
        assert name not in {"style", "href", "src", "xlink:href"}
        assert not name.startswith("on")
        assert "://" not in value or name == "xmlns"
    assert "url(" not in text
    assert "@import" not in text
    return page


async def write_run(
    directory: Path,
    done: Iterable[tuple[float, DoneBatch]] = (),
    attempts: Iterable[Attempt] = (),
    *,
    identity: Identity = IDENTITY,
    exit_code: ExitCode | None = None,
    error: str | None = None,
    settings: dict[str, Any] | None = None,
) -> Path:
    """A run's directory with these batches, each with the time at which it was done, and these requests."""
    make_directory(directory)
    moment = BEGAN
    journal = Journal(directory / STATE, wall_clock=lambda: moment)
    await journal.begin(identity)
    tally = Tally()
    for attempt in attempts:
        journal.observe(attempt)
        tally.requests += 1
    batches = iter(done)
    while together := list(islice(batches, 100)):
        for moment, batch in together:  # noqa: B007  # the clock of the journal
            tally.count_outcomes(batch.outcomes)
        await journal.finish([batch for _, batch in together], tally)
    if exit_code is not None and error is None:
        await journal.complete(exit_code, tally)
    await journal.close()
    summary = summarise(
        tally,
        location=identity.location,
        list_sid=identity.list_sid,
        settings=settings or {},
        exit_code=exit_code,
        error=error,
    )
    write_summary(directory / SUMMARY, summary)
    return directory


def with_errors(batch: Batch) -> BatchResult:
    """Every second contact is refused with words that would like to be code."""
    verdicts = [
        Verdict(Outcome.REJECTED, 400, ApiError(1002, HOSTILE, "<b>"))
        if place % 2
        else Verdict(Outcome.UNKNOWN, reason=Reason.TIMED_OUT)
        for place in range(len(batch.sids))
    ]
    return BatchResult(batch, verdicts, [1] * len(batch.sids))


def test_page_tells_of_a_finished_run(tmp_path: Path) -> None:
    """What it was of, how it ended, what to do next, every outcome, and why rows are not in the list."""
    directory = finished_run(tmp_path, [sid(number) for number in range(1, 8)], result_of=with_errors)

    page = looked_at(page_of(directory, NOW))

    assert f"{tmp_path / 'in.csv'}" in page.words
    assert "complete" in page.words
    assert "1: finished; some rows are not in the list" in page.words
    assert f"importer failed {directory}" in page.words
    for outcome in Outcome:
        assert outcome.value in page.words
    assert "timed_out" in page.words
    assert f"row 2 {sid(2)}" in page.words


def test_words_of_strangers_are_only_words(tmp_path: Path) -> None:
    """Markup in the API's messages, in the input's name, in settings and in cells is shown, never obeyed."""
    folder = tmp_path / HOSTILE.replace("/", "\u2215")
    folder.mkdir()
    directory = finished_run(folder, [sid(number) for number in range(1, 5)], result_of=with_errors)

    page = looked_at(page_of(directory, NOW))

    assert HOSTILE in page.words
    assert str(directory) in page.words


async def test_hostile_identity_settings_and_error_are_only_words(tmp_path: Path) -> None:
    """So are the input's name, the list, the settings, and what ended the run."""
    identity = Identity(HOSTILE, HOSTILE, 1, "", 1, 0, has_header=True, delimiter=",", encoding="", sid_pattern="")
    directory = await write_run(
        tmp_path / "run",
        identity=identity,
        error=f"Refused: {HOSTILE}",
        exit_code=ExitCode.REFUSED,
        settings={HOSTILE: {"a": HOSTILE}, "delivery": HOSTILE},
    )

    page = looked_at(page_of(directory, NOW))

    assert f"Refused: {HOSTILE}" in page.words
    assert "4: refused by the API" in page.words


def test_nothing_but_its_own_style_is_allowed(tmp_path: Path) -> None:
    """The policy forbids everything, but the one style sheet whose digest it names."""
    text = page_of(finished_run(tmp_path, [sid(1)]), NOW)

    style = re.search("<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in text
    assert text.index("Content-Security-Policy") < text.index("<style>")


async def test_run_that_did_nothing_has_a_page(tmp_path: Path) -> None:
    """A run that was begun and did nothing yet: no pictures, and no division by nothing."""
    page = looked_at(page_of(await write_run(tmp_path / "run"), NOW))

    assert "svg" not in page.tags
    assert "Nothing has happened yet." in page.words
    assert "The process died before it could say why." in page.words


@pytest.mark.parametrize("status", [207, 429, 503, None])
async def test_run_of_one_batch_has_all_pictures(tmp_path: Path, status: int | None) -> None:
    """One request, answered or not, is enough for a page."""
    done = DoneBatch(1, 1, 5, b"", 0, 1, 0, dict.fromkeys(Outcome, 0) | {Outcome.ADDED: 5})
    attempts = [Attempt(BEGAN, 0.0, 0.0, 5, status)]

    page = looked_at(page_of(await write_run(tmp_path / "run", [(BEGAN + 1, done)], attempts), NOW))

    answered = status in {207, 503}
    assert page.tags.count("svg") == (7 if answered else 5)
    assert ("None: every request was answered with 2xx." in page.words) == (status == 207)


async def test_run_that_sent_nothing_has_a_page(tmp_path: Path) -> None:
    """An input of nothing but invalid rows is reported without a request."""
    done = DoneBatch(1, 1, 5, b"", 0, 1, 0, dict.fromkeys(Outcome, 0) | {Outcome.INVALID: 5})
    directory = await write_run(tmp_path / "run", [(BEGAN, done)], exit_code=ExitCode.SOME_NOT_IN_LIST)
    (directory / REPORT).write_bytes(encode([ContactResult(1, None, Outcome.INVALID, 1, 0)]))

    page = looked_at(page_of(directory, NOW))

    assert "No request was answered" in page.words
    assert "report.jsonl: ends within a line" in page.words


async def test_run_under_way_is_told_as_such(tmp_path: Path) -> None:
    """While a process is at work the page says so, and how to look again."""
    directory = await write_run(tmp_path / "run")
    with DirectoryLock(directory):
        page = looked_at(page_of(directory, NOW))

    assert "under way" in page.words
    assert f"importer status {directory}" in page.words


async def write_long_run(directory: Path, batches: int) -> None:
    """A run at 30 requests a minute with some of everything, and a report of its bad rows."""
    done, attempts, report = [], [], bytearray()
    for number in range(1, batches + 1):
        at = BEGAN + 2 * number
        bad = number % 10 == 0
        start = len(report)
        if bad:
            lines = with_errors(Batch(number, 1, 4, range(4), [sid(row) for row in range(4)]))
            report += encode([*map(_line, range(4), lines.verdicts)])
        else:
            report += b"\n"
        counts = dict.fromkeys(Outcome, 0) | {Outcome.REJECTED: 2 * bad, Outcome.UNKNOWN: 2 * bad}
        counts[Outcome.ADDED] = 5000 - 4 * bad
        row = 5000 * number
        done.append((at + 1, DoneBatch(number, row - 4999, row, b"", start, len(report), 0, counts)))
        attempts.append(Attempt(at, 0.5 + number % 7, 1.5, 5000, 503 if number % 50 == 0 else 207))
        if number % 97 == 0:
            attempts.append(Attempt(at, 0.1, 20.0, 5000, 429))
    settings = Settings().model_dump(mode="json")
    await write_run(directory, done, attempts, exit_code=ExitCode.SOME_NOT_IN_LIST, settings=settings)
    (directory / REPORT).write_bytes(report)


def _line(row: int, verdict: Verdict) -> ContactResult:
    return ContactResult(row, sid(row), verdict.outcome, 1, 1, verdict.code, verdict.error, verdict.reason)


async def test_page_of_20_000_batches_is_small_and_quick(tmp_path: Path) -> None:
    """A run of a hundred million rows has a page of no more than 500 KB, made within seconds."""
    await write_long_run(tmp_path / "run", 20_000)
    began = time.process_time()
    text = page_of(tmp_path / "run", NOW)
    took = time.process_time() - began

    page = looked_at(text)
    assert "100,000,000" in page.words
    assert len(text.encode()) < 200_000
    assert max(map(len, re.findall("<svg.*?</svg>", text, re.DOTALL))) < 30_000
    assert took < 6


async def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """Ten times as many batches and requests take no more memory: both are counted as they are read."""
    peaks = []
    for batches in (200, 2000):
        await write_long_run(tmp_path / f"{batches}", batches)
        page_of(tmp_path / f"{batches}", NOW)  # what is imported and kept is not counted
        tracemalloc.start()
        try:
            page_of(tmp_path / f"{batches}", NOW)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    assert peaks[1] < 1.3 * peaks[0]


def test_file_is_there_whole_and_private(tmp_path: Path) -> None:
    """The page replaces an older one in one step, for the eyes of its owner."""
    directory = finished_run(tmp_path, [sid(1)])
    output = tmp_path / "page.html"
    output.write_text("older")

    write_page(directory, output)

    assert output.read_text().startswith("<!DOCTYPE html>")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "page.html", "run"]


def test_page_is_written_nowhere_else(tmp_path: Path) -> None:
    """A missing directory, a directory, and the run's own files are refused in a sentence, and stay as they are."""
    directory = finished_run(tmp_path, [sid(1)])
    report = (directory / REPORT).read_bytes()

    with pytest.raises(ImporterError, match=r"gone/page\.html: No such file or directory"):
        write_page(directory, tmp_path / "gone" / "page.html")
    for output in (tmp_path, Path("/dev/null")):
        with pytest.raises(RunDirectoryError, match="is not a file"):
            write_page(directory, output)
    for name in (REPORT, STATE, SUMMARY, "lock"):
        with pytest.raises(RunDirectoryError, match="among the files of the run"):
            write_page(directory, directory / name)
    assert (directory / REPORT).read_bytes() == report


def test_command_writes_the_page(tmp_path: Path) -> None:
    """`status --html` writes it and says where on standard error; with --json the counts are printed too."""
    finished_run(tmp_path, [sid(1), sid(2)])

    ended = importer_here("status", "run", "--html", "page.html", cwd=tmp_path)
    both = importer_here("status", "run", "--json", "--html", "again.html", cwd=tmp_path)

    assert (ended.code, ended.out, ended.err) == (0, "", "page.html\n")
    assert both.out.startswith('{"running":false')
    for name in ("page.html", "again.html"):
        looked_at((tmp_path / name).read_text())


def test_without_its_libraries_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are an extra: without it there is a sentence, and everything else works."""
    finished_run(tmp_path, [sid(1)])
    for name in [name for name in sys.modules if name.startswith("importer.page.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)

    ended = importer_here("status", "run", "--html", "page.html", cwd=tmp_path)

    assert ended.code == ExitCode.USAGE
    assert ended.err == (
        "importer: --html needs jinja2, which comes with the extra [html] of this package: pip install jinja2 pygal\n"
    )
    assert importer_here("status", "run", cwd=tmp_path).code == 0


def test_pictures_have_no_colours_of_their_own() -> None:
    """Colours are the style sheet's, so that a picture does in the light and in the dark."""
    ticks = [Tick(0, "10:00")]
    drawn = areas([Series("in-list", [1, 2]), Series("not-in-list", [0, 1])], ticks, "a <b>", limit=4)
    drawn += lines([Series("longest", [0.01, None, 300.0]), Series("median", [0.0, 2.0, 3.0])], ticks, "b", unit=" s")

    assert "#" not in drawn
    assert "style" not in drawn
    assert 'aria-label="a &lt;b&gt;"' in drawn
    assert {"0.01 s", "1 s", "100 s"} <= set(re.findall(">([^<>]+)</text>", drawn))


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (0, 0, ""),
        (0, 10, "0 %"),
        (1, 10_000_000, "< 0.01 %"),
        (9_999_999, 10_000_000, "> 99.99 %"),
        (1, 3, "33.33 %"),
        (1, 1, "100.00 %"),
        (555, 1_000_000, "0.056 %"),
    ],
)
def test_share_rounds_nothing_away(part: int, whole: int, said: str) -> None:
    """A hundred percent are all of them, and nothing is none of them."""
    assert share(part, whole) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.0421, "0.042 s"),
        (9.96, "10 s"),
        (45.2, "45 s"),
        (59.7, "1 min"),
        (725, "12 min 5 s"),
        (11_400, "3 h 10 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_times_are_said_as_people_do(seconds: float, said: str) -> None:
    """No more than two units, and nothing but what matters."""
    assert span(seconds) == said
