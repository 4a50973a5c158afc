"""Gathers what the page shows, fills in its template, and writes the file. jinja2 lives here."""

from __future__ import annotations

import os
import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, tzinfo
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from importer.errors import RunDirectoryError, disk_error
from importer.history import History
from importer.model import IN_THE_LIST, Outcome
from importer.page import words
from importer.page.charts import strip
from importer.page.errors import commonest_errors
from importer.page.figures import figures_of
from importer.page.timeline import Answer, Timeline, answer_of, timeline_of
from importer.recovery import REPORT, STATE
from importer.status import status_of
from importer.summary import Summary

_NOT_IN_LIST = [outcome for outcome in Outcome if outcome not in IN_THE_LIST]


def write_page(directory: Path, output: Path) -> None:
    """Write the page of a run to a file, which is there whole or not at all. Raises ImporterError."""
    if output.exists() and not output.is_file():
        raise RunDirectoryError(f"{output}: is not a file; choose another one with --html.")
    if output.absolute().parent.resolve() == directory.resolve() and output.suffix != ".html":
        raise RunDirectoryError(f"{output}: lies among the files of the run; choose another one with --html.")
    content = page_of(directory, datetime.now(UTC).astimezone())
    try:
        with NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}-", delete=False) as file:
            try:
                file.write(content.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(output)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:  # of the file beside, whose name says nothing to anybody
        raise disk_error(OSError(error.errno, error.strerror), output) from error


def page_of(directory: Path, now: datetime) -> str:
    """Give the page of a run at this moment; times are told in the zone of `now`. Raises ImporterError."""
    zone, offset = now.tzinfo or UTC, now.utcoffset()
    status = status_of(directory)
    with closing(History(directory / STATE)) as history:
        timeline = timeline_of(
            history.attempts,
            lambda: history.done(by_report=True),
            utc_offset=offset.total_seconds() if offset else 0,
        )
        errors = commonest_errors(directory / REPORT, history.done(by_report=True))
    summary = status.summary
    environment = Environment(
        loader=PackageLoader("importer.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "span": words.span}
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    in_list = sum(summary.outcomes[outcome] for outcome in IN_THE_LIST)
    return environment.get_template("page.html").render(
        style=Markup(style),  # noqa: S704  # our own
        style_digest=b64encode(sha256(style.encode()).digest()).decode(),
        name="standard input" if summary.input == "-" else Path(summary.input).name,
        summary=summary,
        directory=directory,
        quoted=shlex.quote(str(directory)),
        state=words.state_of(status),
        exit_code=None if summary.exit_code is None else words.EXIT_CODES[summary.exit_code],
        next_step=words.next_step(status, directory),
        now=words.moment(now),
        zone=f"{now:%Z}",
        started=_moment(timeline.started, zone),
        ended=_moment(timeline.ended, zone),
        pauses=[(_moment(start, zone), end - start) for start, end in timeline.pauses],
        in_list=in_list,
        in_list_share=words.share(in_list, summary.rows),
        strips=list(_strips(summary)),
        outcomes=[
            (outcome.value, words.OUTCOMES[outcome], count, words.share(count, summary.rows))
            for outcome, count in summary.outcomes.items()
        ],
        width=words.span(timeline.width_seconds),
        width_seconds=timeline.width_seconds,
        figures=list(figures_of(timeline, _quota(summary.settings), zone)) if timeline.buckets else [],
        statuses=_statuses(timeline),
        anomalies=[(kind.value, words.ANOMALIES[kind], count) for kind, count in summary.anomalies.items()],
        errors=errors,
        settings=list(_flat(summary.settings)),
        numbers=list(_numbers(timeline, zone)),
    )


def _moment(at: float | None, zone: tzinfo) -> str:
    return "not yet" if at is None else words.moment(datetime.fromtimestamp(at, zone))


def _strips(summary: Summary) -> Iterator[tuple[str, Markup]]:
    """All rows, and those not in the list once more: among all of them they may be too few to be seen."""
    for title, outcomes in ((f"{summary.rows:,} rows", list(Outcome)), ("not in the list", _NOT_IN_LIST)):
        counts = [(outcome.value, count) for outcome in outcomes if (count := summary.outcomes[outcome])]
        total = sum(count for _, count in counts)
        if total:
            label = ", ".join(f"{name} {words.share(count, total)}" for name, count in counts)
            yield title, strip(counts, f"{title}: {label}")


def _statuses(timeline: Timeline) -> list[tuple[str, str, int, str]]:
    statuses = timeline.statuses()
    total = sum(statuses.values())
    return [
        (
            "no answer" if status is None else str(status),
            words.ANSWERS[answer_of(status)],
            count,
            words.share(count, total),
        )
        for status, count in statuses.items()
    ]


def _numbers(timeline: Timeline, zone: tzinfo) -> Iterator[list[str]]:
    """What the pictures show, a line for each bucket."""
    for bucket in timeline.buckets:
        middle, most = bucket.times.quantile(0.5), bucket.times.quantile(0.95)
        counts = [bucket.in_list, bucket.not_in_list, bucket.requests, *map(bucket.answered, Answer)]
        times = [middle, most, bucket.times.longest] if middle is not None else [None] * 3
        waits = [bucket.average_wait, bucket.longest_wait if bucket.requests else None]
        yield [
            _moment(bucket.start, zone),
            *(f"{count:,}" if count else "·" for count in counts),
            *("" if seconds is None else words.span(seconds) for seconds in times + waits),
        ]


def _quota(settings: Mapping[str, Any]) -> float | None:
    delivery = settings.get("delivery")
    quota = delivery.get("requests_per_minute") if isinstance(delivery, dict) else None
    return float(quota) if isinstance(quota, int | float) else None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
