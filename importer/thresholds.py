"""When so much has gone wrong that going on would only make it worse. Pure."""

from __future__ import annotations

from importer.errors import ThresholdError
from importer.model import BatchResult, Outcome, Tally, Verdict
from importer.retry import describe

SAMPLE_ROWS = 1000
"""A share of failures says nothing before so many rows are reported."""

FIRST_BATCHES = 3
"""So many batches at the beginning in which every contact is refused alike: then the contacts are not the cause."""

BATCHES_REFUSED = 10
"""So many batches in a row that the API refused as a whole: then their contacts are not the cause."""


def parse_limit(limit: int | str | None) -> tuple[int | None, float | None]:
    """Read `max_failures`: a number of rows, or a percentage such as "5%". Raises ValueError."""
    if limit is None or isinstance(limit, int):
        return limit, None
    number, sign, rest = limit.strip().partition("%")
    if not sign:
        return int(number), None
    share = float(number) / 100
    if rest or not 0 <= share <= 1:
        raise ValueError(limit)
    return None, share


class Thresholds:
    """Watches the results of batches, in the order in which they are reported."""

    def __init__(self, max_failures: int | str | None, tally: Tally) -> None:
        """Go on from the counts of `tally`."""
        self._set = max_failures
        self._rows, self._share = parse_limit(max_failures)
        self._tally = tally
        self._alike = 0
        self._refusal: tuple[int | None, int | None] | None = None
        self._refused_in_a_row = 0

    def watch(self, result: BatchResult) -> ThresholdError | None:
        """Take in a batch that was counted in the tally. Gives why the run is to stop, if it is."""
        return self._too_many() or self._all_alike(result) or self._all_refused(result)

    def _too_many(self) -> ThresholdError | None:
        rows, failures = self._tally.rows, self._tally.not_in_list
        is_over = (self._rows is not None and failures > self._rows) or (
            self._share is not None and rows >= SAMPLE_ROWS and failures > self._share * rows
        )
        if not is_over:
            return None
        return ThresholdError(
            f"{failures:,} of {rows:,} rows are not in the list; run.max_failures is {self._set}. See the report for "
            "why; with a higher limit the same command goes on."
        )

    def _all_alike(self, result: BatchResult) -> ThresholdError | None:
        """Whether the run's first batches have nothing but the same refusal in every item."""
        verdicts = result.verdicts
        accepted = self._tally.outcomes[Outcome.ADDED] + self._tally.outcomes[Outcome.ALREADY_PRESENT]
        if accepted or not verdicts:
            return None
        first = verdicts[0]
        refusal = _kind_of(first)
        if first.outcome is not Outcome.REJECTED or any(_kind_of(each) != refusal for each in verdicts):
            self._alike = 0
            return None
        self._alike = self._alike + 1 if refusal == self._refusal else 1
        self._refusal = refusal
        if self._alike < FIRST_BATCHES:
            return None
        return ThresholdError(
            f"The API refuses every contact of the first {self._alike} batches alike: "
            f"{describe(first.code, first.error)}. Check that the sids are of contacts (not of lists or calls) and of "
            "this account; then run the same command again."
        )

    def _all_refused(self, result: BatchResult) -> ThresholdError | None:
        """Whether batch after batch had to be sent in parts, because the API refused them as a whole."""
        if not result.verdicts:
            return None
        self._refused_in_a_row = self._refused_in_a_row + 1 if result.refusal else 0
        if self._refused_in_a_row < BATCHES_REFUSED:
            return None
        return ThresholdError(
            f"The API refused {self._refused_in_a_row} batches in a row as a whole: {result.refusal}. That is hardly "
            "due to single contacts: check the input and --batch-size; then run the same command again."
        )


def _kind_of(verdict: Verdict) -> tuple[int | None, int | None]:
    """What refusals that are alike have in common; their words may name the contact."""
    return verdict.code, verdict.error.code if verdict.error else None
