"""Which pictures the page has of a run's time, and what stands below each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo

import msgspec
from markupsafe import Markup

from importer.page import charts
from importer.page.charts import Series, Tick
from importer.page.timeline import Answer, Bucket, Timeline
from importer.page.words import span

_MIN_TICK_GAP = 0.19  # of the width; a label is not wider
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_BARS = 32
_FAILURES = (Answer.THROTTLED, Answer.SERVER_ERROR, Answer.NONE, Answer.OTHER)
_CLASSES = {
    Answer.THROTTLED: "throttled",
    Answer.SERVER_ERROR: "server-error",
    Answer.NONE: "no-answer",
    Answer.OTHER: "refused",
}


class Figure(msgspec.Struct, frozen=True):
    """A picture with all that tells what it shows."""

    title: str
    picture: Markup
    legend: Sequence[tuple[str, str]]  # class and meaning
    note: str = ""


def figures_of(timeline: Timeline, quota: float | None, zone: tzinfo) -> Iterator[Figure]:
    """Draw what there is to draw."""
    ticks = time_ticks(timeline, zone)
    yield _contacts(timeline, ticks)
    if not timeline.statuses():
        return
    yield _requests(timeline, ticks, quota)
    if timeline.times().counts:
        yield _answer_times(timeline, ticks)
        yield _spread(timeline)
    yield _waits(timeline, ticks)
    yield _failures(timeline, ticks)


def _contacts(timeline: Timeline, ticks: Sequence[Tick]) -> Figure:
    title = "Contacts a minute"
    series = [
        Series("in-list", timeline.a_minute(lambda bucket: bucket.in_list)),
        Series("not-in-list", timeline.a_minute(lambda bucket: bucket.not_in_list)),
    ]
    legend = [("in-list", "in the list"), ("not-in-list", "not in it, or unknown")]
    return Figure(title, charts.areas(series, ticks, title), legend, "Rows, as their batch was reported.")


def _requests(timeline: Timeline, ticks: Sequence[Tick], quota: float | None) -> Figure:
    title = "Requests a minute"

    def throttled(bucket: Bucket) -> int:
        return bucket.answered(Answer.THROTTLED)

    series = [
        Series("request", timeline.a_minute(lambda bucket: bucket.requests - throttled(bucket))),
        Series("throttled", timeline.a_minute(throttled)),
    ]
    legend = [("request", "requests")]
    if any(series[1].values):
        legend.append(("throttled", "answered 429"))
    highest = max(timeline.a_minute(lambda bucket: bucket.requests))
    if quota is None:
        note = "The quota was to be found out (auto)."
    elif quota > 3 * highest:
        note, quota = f"The quota set, {quota:,.6g} a minute, lies above the picture.", None
    else:
        note = ""
        legend.append(("limit", f"quota set: {quota:,.6g}"))
    return Figure(title, charts.areas(series, ticks, title, quota), legend, note)


def _answer_times(timeline: Timeline, ticks: Sequence[Tick]) -> Figure:
    title = "Time to an answer"
    series = [
        Series("longest", [bucket.times.longest if bucket.times.counts else None for bucket in timeline.buckets]),
        Series("most", [bucket.times.quantile(0.95) for bucket in timeline.buckets]),
        Series("median", [bucket.times.quantile(0.5) for bucket in timeline.buckets]),
    ]
    legend = [("median", "median"), ("most", "95 of 100 were quicker"), ("longest", "longest")]
    return Figure(title, charts.lines(series, ticks, title, unit=" s"), legend, "Without answers 429.")


def _spread(timeline: Timeline) -> Figure:
    title = "Answers by their time"
    times = timeline.times()
    spread = times.histogram(_BARS)
    every = max(1, round(len(spread) * _MIN_TICK_GAP))
    ticks = [Tick(place, span(spread[place][0])) for place in range(0, len(spread), every)]
    picture = charts.bars("median", [count for _, _, count in spread], ticks, title)
    middle, most = times.quantile(0.5) or 0, times.quantile(0.95) or 0
    note = f"Median {span(middle)}, 95 of 100 within {span(most)}, longest {span(times.longest)}."
    return Figure(title, picture, [("median", "answers")], note)


def _waits(timeline: Timeline, ticks: Sequence[Tick]) -> Figure:
    title = "Waits before a request"
    series = [
        Series("longest", [bucket.longest_wait if bucket.requests else None for bucket in timeline.buckets]),
        Series("median", [bucket.average_wait for bucket in timeline.buckets]),
    ]
    legend = [("median", "on average"), ("longest", "longest")]
    note = "For the quota, after an answer 429, before a retry, or for an outage to end."
    return Figure(title, charts.lines(series, ticks, title, unit=" s"), legend, note)


def _failures(timeline: Timeline, ticks: Sequence[Tick]) -> Figure:
    title = "Unsuccessful requests a minute"
    series, legend = [], []
    for answer in _FAILURES:
        values = timeline.a_minute(lambda bucket, answer=answer: bucket.answered(answer))  # type: ignore[misc]
        if any(values):
            series.append(Series(_CLASSES[answer], values))
            legend.append((_CLASSES[answer], answer.value))
    note = "" if series else "None: every request was answered with 2xx."
    series = series or [Series("throttled", [0.0] * len(timeline.buckets))]
    return Figure(title, charts.areas(series, ticks, title), legend, note)


def time_ticks(timeline: Timeline, zone: tzinfo) -> list[Tick]:
    """Label the buckets that begin at even times, as many as have room."""
    length, width = len(timeline.buckets), timeline.width_seconds
    gap = max(1.0, length * _MIN_TICK_GAP)
    step = next((each for each in _TICKS if each >= width * gap), max(_TICKS[-1], width))
    last_day = datetime.fromtimestamp(timeline.buckets[-1].start, zone).date()
    days = last_day - datetime.fromtimestamp(timeline.buckets[0].start, zone).date()
    ticks: list[Tick] = []
    for place, bucket in enumerate(timeline.buckets):
        at = datetime.fromtimestamp(bucket.start, zone)
        since_midnight = round((at - at.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds())
        resumes = place > 0 and bucket.start - timeline.buckets[place - 1].start > 1.5 * width
        if (since_midnight % step == 0 or resumes) and (not ticks or place - ticks[-1].at >= gap):
            ticks.append(Tick(place, _label(at, step, days)))
    first = datetime.fromtimestamp(timeline.buckets[0].start, zone)
    return ticks or [Tick(0, _label(first, width, days))]


def _label(at: datetime, step: float, days: timedelta) -> str:
    if step >= 86400 or (days and (at.hour, at.minute) == (0, 0)):
        return f"{at.day} {at:%b}"
    return f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}"
