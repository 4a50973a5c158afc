"""The metrics of a run say what its tally says, in words that Prometheus' tools approve of, and nothing of anybody."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from importer.metrics import BUCKETS, FIRST_WORDS, LASTING, METRICS, RunMetrics, read_back
from importer.model import Anomaly, Attempt, ExitCode, Outcome, Tally
from tests.unit.fakes import LIST

SUCCESS = "importer_last_success_timestamp_seconds"


def tally_of(**counts: Any) -> Tally:
    """The tally of a run that has begun."""
    return Tally(seconds=0.1, **counts)


def attempt(status: int | None = 200, seconds: float = 1.0, waited_seconds: float = 0.0) -> Attempt:
    return Attempt(1_700_000_000.0, seconds, waited_seconds, 5000, status)


def metrics_of(
    tally: Tally, attempts: Iterable[Attempt] = (), earlier: Mapping[str, float] | None = None
) -> RunMetrics:
    """The metrics of a run of one process."""
    metrics = RunMetrics(earlier)
    watch = metrics.begin(tally, ())
    for each in attempts:
        watch(each)
    return metrics


def samples_of(metrics: RunMetrics) -> dict[str, float]:
    """Each sample by its name with what stands between the quotation marks, as in `importer_contacts_total added`."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {" ".join([each.name, *each.labels.values()]): each.value for family in families for each in family.samples}


def test_names_and_labels_follow_the_conventions() -> None:
    """Names have our prefix and the suffix of their type, labels are words, and each help is a sentence."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"importer(_[a-z]+)+", metric.name)
        assert (metric.type == "counter") == metric.name.endswith("_total")
        assert metric.help.endswith(".")
        assert len(metric.labels) <= 1
        assert set(metric.labels) <= {"outcome", "status_class", "kind", "version"}


def test_all_that_is_documented_is_told_and_nothing_else() -> None:
    """Once a run has finished, the text has each metric of the list, with its type, its labels and its help."""
    metrics = metrics_of(tally_of(per_minute=30.0))
    metrics.end(ExitCode.COMPLETE, 5.0)
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}

    told = {
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation)
        for family in families.values()
    }
    assert {(metric.name, metric.type, metric.help) for metric in METRICS} == told
    for metric in METRICS:
        labels = {frozenset(each.labels) - {"le"} for each in families[metric.name.removesuffix("_total")].samples}
        assert {frozenset(metric.labels)} == labels


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_approves_of_the_text() -> None:
    """Prometheus' own linter finds nothing to complain of."""
    metrics = metrics_of(tally_of(per_minute=30.0), [attempt()])
    metrics.end(ExitCode.COMPLETE, 5.0)
    checked = subprocess.run(["promtool", "check", "metrics"], input=metrics.text(), capture_output=True, check=False)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_every_outcome_is_there_from_the_start() -> None:
    """A run that has just begun tells 0 of each outcome, anomaly and class of answers, so that rates are right."""
    samples = samples_of(metrics_of(tally_of()))

    assert all(samples[f"importer_contacts_total {outcome}"] == 0 for outcome in Outcome)
    assert all(samples[f"importer_anomalies_total {kind}"] == 0 for kind in Anomaly)
    assert all(samples[f"importer_requests_total {name}"] == 0 for name in ("2xx", "3xx", "4xx", "5xx", "none"))


def test_counts_are_those_of_the_tally_at_the_moment() -> None:
    """What the tally counts is told as soon as it is asked for, without anything in between."""
    tally = tally_of()
    metrics = metrics_of(tally)
    samples_of(metrics)
    tally.count_outcomes({Outcome.ADDED: 4990, Outcome.REJECTED: 10})
    tally.count_anomalies({Anomaly.MISSING: 3})
    tally.retries, tally.throttled, tally.resent_contacts, tally.in_flight = 1, 2, 5000, 4
    samples = samples_of(metrics)

    assert {
        "importer_contacts_total added": 4990,
        "importer_contacts_total rejected": 10,
        "importer_batches_total": 1,
        "importer_anomalies_total missing_contact": 3,
        "importer_retries_total": 1,
        "importer_throttled_total": 2,
        "importer_resent_contacts_total": 5000,
        "importer_in_flight_requests": 4,
    }.items() <= samples.items()


def test_limit_is_told_once_it_is_known() -> None:
    """Before the first request may leave there is no limit to tell; then it is that of the moment."""
    tally = tally_of()
    metrics = metrics_of(tally)
    before = samples_of(metrics)
    tally.per_minute = 28.5

    assert "importer_requests_per_minute_limit" not in before
    assert samples_of(metrics)["importer_requests_per_minute_limit"] == 28.5


def test_nothing_is_told_of_counts_before_the_run_has_begun() -> None:
    """Before the tally knows what earlier processes did, there are no counts: a 0 would look like a new start."""
    tally = Tally()
    metrics = RunMetrics()
    before = samples_of(metrics)
    metrics.begin(tally, [attempt()] * 3)
    unknown = samples_of(metrics)
    tally.restore(Tally(rows=7, outcomes=dict.fromkeys(Outcome, 1), seconds=3.0))
    known = samples_of(metrics)

    assert set(before) == set(unknown) == {"importer_build_info 0.1.0", "importer_running", "importer_run_complete"}
    assert (known["importer_contacts_total added"], known["importer_requests_total 2xx"]) == (1, 3)


def test_a_resumed_run_goes_on_with_the_requests_of_earlier_processes() -> None:
    """Requests of earlier processes and of this one are counted together: a restart is no new work."""
    metrics = RunMetrics()
    watch = metrics.begin(tally_of(), [attempt(200, 2.0, 0.5), attempt(503, 4.0, 1.5)])
    watch(attempt(200, 6.0, 2.0))
    samples = samples_of(metrics)

    assert samples["importer_requests_total 2xx"] == 2
    assert samples["importer_requests_total 5xx"] == 1
    assert samples["importer_request_duration_seconds_sum"] == 12.0
    assert samples["importer_quota_wait_seconds_total"] == 4.0


def test_another_run_of_the_same_command_has_its_own_counts() -> None:
    """Where a command finishes an earlier run first, the counts are those of the run that is at work."""
    metrics = metrics_of(tally_of(batches=9), [attempt()] * 9)
    metrics.begin(tally_of(batches=1), ())
    samples = samples_of(metrics)

    assert (samples["importer_batches_total"], samples["importer_requests_total 2xx"]) == (1, 0)


@pytest.mark.parametrize(
    ("status", "status_class"),
    [
        (200, "2xx"),
        (207, "2xx"),
        (302, "3xx"),
        (404, "4xx"),
        (429, "4xx"),
        (500, "5xx"),
        (None, "none"),
        (999, "none"),
        (100, "none"),
    ],
)
def test_requests_are_told_by_the_class_of_their_status(status: int | None, status_class: str) -> None:
    """A request counts in one class; without an answer, or with none that HTTP knows, in `none`."""
    samples = samples_of(metrics_of(tally_of(), [attempt(status)]))
    counted = {name: count for name, count in samples.items() if name.startswith("importer_requests_total") and count}

    assert counted == {f"importer_requests_total {status_class}": 1}


def test_durations_are_told_in_buckets() -> None:
    """Each bucket counts the requests that took so long at most, its bound included; the last one counts all."""
    samples = samples_of(metrics_of(tally_of(), [attempt(seconds=seconds) for seconds in (0.1, 0.11, 120.0, 121.0)]))
    counts = [samples[f"importer_request_duration_seconds_bucket {bound}"] for bound in (*BUCKETS, "+Inf")]

    assert counts == [1, *[2] * (len(BUCKETS) - 2), 3, 4]
    assert samples["importer_request_duration_seconds_count"] == 4
    assert (BUCKETS[0], BUCKETS[-1]) == (0.1, 120.0)


@pytest.mark.parametrize(
    ("exit_code", "is_news", "is_complete", "success"),
    [
        (ExitCode.COMPLETE, True, 1, 50.0),
        (ExitCode.SOME_NOT_IN_LIST, True, 1, 50.0),
        (ExitCode.COMPLETE, False, 1, 20.0),
        (ExitCode.USAGE, True, 0, 20.0),
        (ExitCode.THRESHOLD, True, 0, 20.0),
        (ExitCode.REFUSED, True, 0, 20.0),
        (ExitCode.INCOMPLETE, True, 0, 20.0),
    ],
)
def test_only_a_run_that_finished_is_a_success(
    exit_code: ExitCode, is_news: bool, is_complete: int, success: float
) -> None:
    """Exit codes 0 and 1 are a success, unless the run was complete before; any other keeps the time of the last."""
    metrics = RunMetrics({SUCCESS: 20.0, "importer_last_run_exit_code": 0})
    metrics.begin(tally_of(), ())
    metrics.end(exit_code, 50.0, is_news=is_news)
    metrics.end(ExitCode.INCOMPLETE, 60.0)
    samples = samples_of(metrics)

    assert samples["importer_run_complete"] == is_complete
    assert samples["importer_running"] == 0
    assert samples["importer_last_run_exit_code"] == exit_code
    assert samples["importer_last_run_timestamp_seconds"] == 50.0
    assert samples[SUCCESS] == success


def test_a_run_under_way_keeps_what_the_last_one_said() -> None:
    """Until a run ends, exit code and times are those of the run before it."""
    samples = samples_of(metrics_of(tally_of(), earlier=dict.fromkeys(LASTING, 4.0)))

    assert {samples[name] for name in LASTING} == {4.0}
    assert (samples["importer_running"], samples["importer_run_complete"]) == (1, 0)


def test_what_a_run_leaves_can_be_read_back() -> None:
    """The next run finds the times and the exit code in the text of this one, and nothing else."""
    metrics = metrics_of(tally_of(batches=3))
    metrics.end(ExitCode.SOME_NOT_IN_LIST, 1_795_416_618.95)
    text = metrics.text().decode()

    assert text.startswith(FIRST_WORDS)
    assert read_back(text) == {
        "importer_last_run_exit_code": 1,
        "importer_last_run_timestamp_seconds": 1_795_416_618.95,
        SUCCESS: 1_795_416_618.95,
    }


@pytest.mark.parametrize("text", ["", f"{SUCCESS} NaN\n", f"{SUCCESS} +Inf\n", f"other_{SUCCESS} 1\n"])
def test_a_text_without_a_time_gives_none(text: str) -> None:
    """What is no time is not kept."""
    assert read_back(text) == {}


def test_a_text_that_is_none_of_ours_is_refused() -> None:
    """A damaged text is a ValueError, never a wrong time."""
    with pytest.raises(ValueError, match=r"."):
        read_back(f"{SUCCESS} 17954x\n")


def test_no_label_tells_of_anybody() -> None:
    """All label values are from closed sets: no sid, path, address or secret can get into one."""
    text = metrics_of(tally_of(), [attempt(), attempt(599), attempt(None)]).text().decode()
    families = text_string_to_metric_families(text)
    values = {value for family in families for each in family.samples for value in each.labels.values()}

    closed = {*Outcome, *Anomaly, "2xx", "3xx", "4xx", "5xx", "none", "0.1.0", "+Inf", *map(str, BUCKETS)}
    assert values == closed
    assert LIST not in text
