"""What a run tells to monitoring systems: its metrics, their values, their text.

prometheus_client lives here and in `metrics_http`. The counts are read from the tally at the moment at which somebody
asks: they cannot disagree with the summary. Where and when they are told is decided in `exporting`. No label ever holds
a sid, a path or a secret.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from threading import Lock
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from importer import __version__
from importer.model import Anomaly, Attempt, ExitCode, Outcome, Tally

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx", "none")


class Metric(msgspec.Struct, frozen=True):
    """One metric, as it is documented."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


METRICS = (
    Metric("importer_build_info", "gauge", ("version",), "The version of importer; the value is always 1."),
    Metric("importer_running", "gauge", (), "1 while a process is at work on the run, 0 once it has ended."),
    Metric("importer_run_complete", "gauge", (), "1 once every row of the input is reported, else 0."),
    Metric("importer_contacts_total", "counter", ("outcome",), "Rows reported, by what became of them."),
    Metric("importer_batches_total", "counter", (), "Batches whose rows are all reported."),
    Metric(
        "importer_requests_total",
        "counter",
        ("status_class",),
        "Requests that ended, by the class of their HTTP status; none: without an answer.",
    ),
    Metric("importer_throttled_total", "counter", (), "Requests that the API answered with 429."),
    Metric("importer_retries_total", "counter", (), "Requests for contacts that an earlier request did not settle."),
    Metric("importer_anomalies_total", "counter", ("kind",), "Ways in which answers did not fit their requests."),
    Metric(
        "importer_resent_contacts_total",
        "counter",
        (),
        "Contacts sent again because a process died while their request was under way.",
    ),
    Metric("importer_request_duration_seconds", "histogram", (), "Seconds from a request's start to its end."),
    Metric(
        "importer_quota_wait_seconds_total",
        "counter",
        (),
        "Seconds that requests waited before they left: for the quota, after a 429, for an outage to end.",
    ),
    Metric("importer_in_flight_requests", "gauge", (), "Requests that are under way."),
    Metric(
        "importer_requests_per_minute_limit",
        "gauge",
        (),
        "Requests a minute that may leave at present, as set or as found out.",
    ),
    Metric("importer_last_run_exit_code", "gauge", (), "Exit code of the run that ended last."),
    Metric("importer_last_run_timestamp_seconds", "gauge", (), "When a run last ended, in whatever way."),
    Metric(
        "importer_last_success_timestamp_seconds",
        "gauge",
        (),
        "When a run last finished, with exit code 0 or 1: every row reported, if not every contact in the list.",
    ),
)
"""All of them, in the order in which they are told."""

LASTING = {metric.name for metric in METRICS if metric.name.startswith("importer_last_")}
"""What one run says and later ones keep, until they have something newer to say."""

FIRST_WORDS = f"# HELP {METRICS[0].name} "
"""How every text of ours begins: the first metric is told at any time."""

_Values = dict[str, dict[tuple[str, ...], float]]


class _Requests:
    """The requests that ended. Counted by the event loop, read by other threads: all of one request, or nothing."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._by_class = dict.fromkeys(STATUS_CLASSES, 0)
        self._by_duration = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._waited_seconds = 0.0

    def count(self, attempt: Attempt) -> None:
        """Add one."""
        status_class = "none" if attempt.status is None else f"{attempt.status // 100}xx"
        with self._lock:
            self._by_class[status_class if status_class in self._by_class else "none"] += 1
            self._by_duration[bisect_left(BUCKETS, attempt.seconds)] += 1
            self._seconds += attempt.seconds
            self._waited_seconds += attempt.waited_seconds

    def values(self) -> tuple[_Values, list[tuple[str, float]], float]:
        """Give the counters; and the histogram of durations, as buckets and sum."""
        bounds = [*map(str, BUCKETS), "+Inf"]
        with self._lock:
            counters: _Values = {
                "importer_requests_total": {(name,): count for name, count in self._by_class.items()},
                "importer_quota_wait_seconds_total": {(): self._waited_seconds},
            }
            return counters, list(zip(bounds, accumulate(self._by_duration), strict=True)), self._seconds


class RunMetrics:
    """The metrics of the run that is at work. Counters are the run's, not the process's: resumed, it goes on with them.

    As long as a run has not begun, its counts are not known and nothing is told of them: a 0 before what an earlier
    process had reached would look like as much new work.
    """

    def __init__(self, earlier: Mapping[str, float] | None = None) -> None:
        """Tell what `earlier` runs have left (LASTING), as long as there is nothing newer to say."""
        self._earlier = dict(earlier or {})
        self._run: tuple[Tally, _Requests] | None = None
        self._exit_code: ExitCode | None = None
        self._ended: dict[str, float] = {}
        self.registry = CollectorRegistry()
        self.registry.register(_Collector(lambda: self._families(self._earlier)))

    def begin(self, tally: Tally, requests: Iterable[Attempt]) -> Callable[[Attempt], None]:
        """Tell of a run from now on, and of the requests of its earlier processes. Gives what is to hear of others."""
        counted = _Requests()
        for each in requests:
            counted.count(each)
        self._run = tally, counted
        return counted.count

    def end(self, exit_code: ExitCode, at: float, *, is_news: bool = True) -> None:
        """Say how it ended, and when. The first word counts. Without `is_news` it is no new success."""
        if self._exit_code is not None:
            return
        self._exit_code = exit_code
        self._ended = {"importer_last_run_exit_code": exit_code, "importer_last_run_timestamp_seconds": at}
        if self._is_complete and is_news:
            self._ended["importer_last_success_timestamp_seconds"] = at

    def text(self) -> bytes:
        """Give everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def own(self) -> CollectorRegistry:
        """Give what this run has to say, without what earlier ones have left."""
        registry = CollectorRegistry()
        registry.register(_Collector(lambda: self._families({})))
        return registry

    @property
    def _is_complete(self) -> bool:
        return self._exit_code in {ExitCode.COMPLETE, ExitCode.SOME_NOT_IN_LIST}

    def _families(self, earlier: Mapping[str, float]) -> Iterator[Family]:
        values: _Values = {
            "importer_build_info": {(__version__,): 1},
            "importer_running": {(): self._exit_code is None},
            "importer_run_complete": {(): self._is_complete},
            **{name: {(): value} for name, value in {**earlier, **self._ended}.items()},
        }
        buckets: Sequence[tuple[str, float]] = ()
        seconds = 0.0
        # Of all counts `seconds` is restored last. Once it is not 0, the run has begun, and knows what went before.
        if self._run is not None and self._run[0].seconds > 0:
            tally, counted = self._run
            requests, buckets, seconds = counted.values()
            values |= _counts(tally) | requests
        for metric in METRICS:
            if metric.type == "histogram" and buckets:
                yield HistogramMetricFamily(metric.name, metric.help, buckets, seconds)
            elif metric.name in values:
                family = _family(metric)
                for labels, value in values[metric.name].items():
                    family.add_metric(labels, float(value))
                yield family


def read_back(text: str) -> dict[str, float]:
    """Find what earlier runs have left in a text of ours. Raises ValueError where it is none."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {each.name: each.value for each in samples if each.name in LASTING and math.isfinite(each.value)}


def _counts(tally: Tally) -> _Values:
    return {
        "importer_contacts_total": {(outcome.value,): tally.outcomes[outcome] for outcome in Outcome},
        "importer_batches_total": {(): tally.batches},
        "importer_throttled_total": {(): tally.throttled},
        "importer_retries_total": {(): tally.retries},
        "importer_anomalies_total": {(kind.value,): tally.anomalies.get(kind, 0) for kind in Anomaly},
        "importer_resent_contacts_total": {(): tally.resent_contacts},
        "importer_in_flight_requests": {(): tally.in_flight},
        **({} if tally.per_minute is None else {"importer_requests_per_minute_limit": {(): tally.per_minute}}),
    }


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)


class _Collector:
    """What the library asks for the metrics."""

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families()

    def describe(self) -> Iterable[Family]:
        return (Family(metric.name.removesuffix("_total"), metric.help, metric.type) for metric in METRICS)
