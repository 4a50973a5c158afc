"""When so much goes wrong that a run stops: by number, by share, or because everything fails alike."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from importer.errors import ThresholdError
from importer.model import ApiError, BatchResult, ExitCode, Outcome, Reason, Tally, Verdict
from importer.report import count_outcomes
from importer.thresholds import BATCHES_REFUSED, FIRST_BATCHES, SAMPLE_ROWS, Thresholds, parse_limit
from tests.unit.fakes import batch_of

ADDED = Verdict(Outcome.ADDED, 200)
REFUSED = Verdict(Outcome.REJECTED, 400, ApiError(1002, "Invalid parameter"))
FAILED = Verdict(Outcome.FAILED, reason=Reason.REQUEST_REFUSED)


def result_of(*verdicts: Verdict, refusal: str = "") -> BatchResult:
    return BatchResult(batch_of(len(verdicts)), verdicts, [1] * len(verdicts), refusal)


def first_stop(
    results: Iterable[BatchResult], max_failures: int | str | None = None, tally: Tally | None = None
) -> tuple[int, str] | None:
    """The number of the batch after which the run is stopped, and why."""
    tally = tally or Tally()
    thresholds = Thresholds(max_failures, tally)
    for number, result in enumerate(results, 1):
        tally.count_outcomes(count_outcomes(result))
        if (error := thresholds.watch(result)) is not None:
            assert isinstance(error, ThresholdError)
            assert error.exit_code is ExitCode.THRESHOLD
            return number, str(error)
    return None


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (None, (None, None)),
        (0, (0, None)),
        (1000, (1000, None)),
        ("1000", (1000, None)),
        ("5%", (None, 0.05)),
        (" 0.5 % ", (None, 0.005)),
        ("0%", (None, 0.0)),
        ("100%", (None, 1.0)),
    ],
)
def test_limit_is_a_number_or_a_share(text: int | str | None, limit: tuple[int | None, float | None]) -> None:
    """`max_failures` is rows, or a percentage of them."""
    assert limit == parse_limit(text)


@pytest.mark.parametrize("text", ["", "five", "5 percent", "%", "101%", "-1%", "5%%", "5%x", "nan%", "1.5"])
def test_other_limits_are_errors(text: str) -> None:
    """Whatever is neither is refused."""
    with pytest.raises(ValueError):
        parse_limit(text)


@pytest.mark.parametrize(("limit", "stopped_after"), [(0, 1), (1, 2), (4, 5), (5, None), (None, None)])
def test_number_of_failures(limit: int | None, stopped_after: int | None) -> None:
    """The run stops with the first failure beyond the limit, however many rows went well."""
    results = [result_of(ADDED, ADDED, FAILED)] * 5

    stop = first_stop(results, limit)

    assert stopped_after == (stop and stop[0])


def test_share_needs_a_sample() -> None:
    """Nine failures in the first ten rows stop nothing; more than a twentieth of a thousand does."""
    many = [FAILED] * 9 + [ADDED]
    results = [result_of(*many)] + [result_of(*[ADDED] * 90)] * 20

    assert first_stop(results, "5%") is None
    stop = first_stop([result_of(*many)] * 200, "5%")
    assert stop is not None
    assert stop[0] == SAMPLE_ROWS / 10
    assert "900 of 1,000 rows" in stop[1]
    assert "run.max_failures is 5%" in stop[1]


def test_counts_of_earlier_processes_count() -> None:
    """A resumed run goes on from what was reported before."""
    tally = Tally(rows=5000, outcomes=dict.fromkeys(Outcome, 0) | {Outcome.ADDED: 4900, Outcome.FAILED: 100})

    stop = first_stop([result_of(FAILED, ADDED)], 100, tally)

    assert stop is not None


def test_first_batches_refused_alike_stop_the_run() -> None:
    """Nothing but one error in every contact of the first batches: the contacts are not the cause."""
    stop = first_stop([result_of(*[REFUSED] * 50)] * 10)

    assert stop is not None
    assert stop[0] == FIRST_BATCHES
    assert "HTTP 400 (error 1002: Invalid parameter)" in stop[1]


def test_refusals_that_name_their_contact_are_alike() -> None:
    """What makes refusals alike is their code; the words may name each contact."""
    named = [Verdict(Outcome.REJECTED, 404, ApiError(1000, "Not found", f"no contact {n}")) for n in range(50)]

    stop = first_stop([result_of(*named)] * 10)

    assert stop is not None
    assert stop[0] == FIRST_BATCHES


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([result_of(REFUSED, REFUSED), result_of(REFUSED, ADDED)] * 5, id="one gets in"),
        pytest.param([result_of(ADDED)] + [result_of(REFUSED, REFUSED)] * 50, id="after a good beginning"),
        pytest.param(
            [result_of(REFUSED, Verdict(Outcome.REJECTED, 404, ApiError(1000)))] * 50, id="of different kinds"
        ),
        pytest.param([result_of(FAILED, FAILED)] * 50, id="not refused by the API"),
        pytest.param(
            [result_of(REFUSED)] * 2 + [result_of(Verdict(Outcome.REJECTED, 404, ApiError(1000)))] * 2,
            id="each batch another",
        ),
        pytest.param([result_of()] * 50, id="batches without contacts"),
    ],
)
def test_other_refusals_go_on(results: list[BatchResult]) -> None:
    """A list that fills up, a bad stretch of the input, mixed errors: these are reported, row by row."""
    assert first_stop(results) is None


def test_resumed_run_is_no_beginning() -> None:
    """After contacts of an earlier process got in, refusals are no systemic failure."""
    tally = Tally(rows=10, outcomes=dict.fromkeys(Outcome, 0) | {Outcome.ADDED: 10})

    assert first_stop([result_of(REFUSED)] * 20, None, tally) is None


def test_many_batches_refused_as_a_whole_stop_the_run() -> None:
    """Batch after batch sent in parts, though each got in mostly: no matter of single contacts."""
    poisoned = result_of(ADDED, ADDED, REFUSED, refusal="HTTP 400 (error 1002: Invalid parameter)")

    stop = first_stop([result_of(ADDED)] * 3 + [poisoned] * 20)

    assert stop is not None
    assert stop[0] == 3 + BATCHES_REFUSED
    assert "HTTP 400 (error 1002: Invalid parameter)" in stop[1]


def test_poisoned_batches_now_and_then_go_on() -> None:
    """A batch that goes in whole ends the row; one without contacts does not."""
    poisoned = result_of(ADDED, REFUSED, refusal="HTTP 400")

    assert first_stop(([poisoned] * (BATCHES_REFUSED - 1) + [result_of(ADDED)]) * 20) is None
    assert first_stop([poisoned, result_of()] * BATCHES_REFUSED) is not None
