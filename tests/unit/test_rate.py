"""How many requests a minute to ask for: what was set, or what answers and headers tell."""

from __future__ import annotations

import pytest

from importer.rate import FIRST_GUESS, FixedRate, FoundRate


class Feed:
    """Feeds a found rate with a minute of answers at a time, as if it had been used."""

    def __init__(self, rate: FoundRate) -> None:
        self.rate = rate
        self.now = 0.0

    def minutes(self, count: float) -> list[float]:
        """Go on for so many minutes without a 429; gives the rate at the end of each."""
        rates = []
        end = self.now + 60 * count
        while self.now < end:
            self.rate.accepted(self.now, round(self.rate.per_minute))
            self.now += 61
            rates.append(self.rate.per_minute)
        return rates


def test_set_rate_stays_whatever_is_answered() -> None:
    """A person gave the quota: neither a 429 nor good answers change it."""
    rate = FixedRate(30)

    rate.throttled(10, 5)
    for minute in range(60):
        rate.accepted(60.0 * minute, 30)

    assert rate.per_minute == 30


@pytest.mark.parametrize(
    ("limit", "ours", "expected"),
    [
        (100, None, 30),  # higher than what was set
        (20, None, 20),
        (20, 19, 20),  # a count that differs by one
        (20, 10, 10),  # others take half
        (100, 40, 30),
        (100, 12, 12),
        (20, 0, 1),  # others take everything: ask now and then
    ],
)
def test_set_rate_stays_within_what_is_told(limit: int, ours: int | None, expected: float) -> None:
    """A lower limit that the API names, or what others leave of it, is kept; a higher one changes nothing."""
    rate = FixedRate(30)

    rate.told(limit, ours)

    assert rate.per_minute == expected


def test_set_rate_returns_when_the_limit_does() -> None:
    """A limit that was lowered for a while and raised again is followed both ways."""
    rate = FixedRate(30)
    rates = []

    for limit in (30, 15, 30, 60):
        rate.told(limit, None)
        rates.append(rate.per_minute)

    assert rates == [30, 15, 30, 30]


def test_share_that_wavers_does_not_change_the_rate() -> None:
    """Others are counted within a request or two: the rate follows only what differs by more."""
    rate = FixedRate(30)
    rates = []

    for ours in (15, 16, 14, 15, 20):
        rate.told(30, ours)
        rates.append(rate.per_minute)

    assert rates == [15, 15, 15, 15, 20]


def test_unknown_rate_is_doubled_until_the_first_429() -> None:
    """From the documented figure, doubled each minute; then what was let through is the limit."""
    feed = Feed(FoundRate())

    rates = [feed.rate.per_minute, *feed.minutes(4)]
    feed.rate.throttled(feed.now, 100)

    assert rates[0] == FIRST_GUESS
    assert rates[-1] > 100
    assert rates[1:] == sorted(rates[1:])
    assert feed.rate.per_minute == max(rates[-1] / 2, 100)


def test_rate_that_is_not_used_is_not_raised() -> None:
    """A run that has less to send, or too few senders, learns nothing of the limit."""
    rate = FoundRate()

    for minute in range(60):
        rate.accepted(60.0 * minute, 12)

    assert rate.per_minute == FIRST_GUESS


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (40, 40.0),  # of 60: that is the limit
        (60, 58.8),  # as many as asked for: a little less
        (5, 30.0),  # never lower than half at once
    ],
)
def test_429_tells_the_limit(accepted: int, expected: float) -> None:
    """The rate goes down to what was let through, and always a little."""
    rate = FoundRate(60)

    rate.throttled(100, accepted)

    assert rate.per_minute == pytest.approx(expected)


def test_rate_never_falls_below_one() -> None:
    """However often it is throttled, it asks once a minute."""
    rate = FoundRate()

    for number in range(20):
        rate.throttled(100.0 * number, 0)

    assert rate.per_minute == 1


def test_found_rate_is_kept_for_ten_minutes_then_tried() -> None:
    """No oscillation: for ten minutes nothing changes, then small steps are tried, which grow while all is well."""
    feed = Feed(FoundRate())
    feed.rate.throttled(0, 30)
    kept = feed.rate.per_minute

    rates = feed.minutes(16)

    assert set(rates[:9]) == {kept}
    assert rates[11] == pytest.approx(kept * 1.02)
    assert rates[-1] > 1.3 * kept


def test_429_of_a_trial_returns_to_the_limit() -> None:
    """A trial that fails costs one 429; the next comes after ten minutes, with the smallest step."""
    feed = Feed(FoundRate())
    feed.rate.throttled(0, 30)
    feed.minutes(14)

    feed.rate.throttled(feed.now, 30)

    rates = feed.minutes(9)
    assert set(rates) == {30}


def test_low_rates_are_tried_more_rarely() -> None:
    """At five requests a minute, a trial every ten minutes would be a 429 in fifty answers."""
    feed = Feed(FoundRate(5))
    feed.rate.throttled(0, 5)
    kept = feed.rate.per_minute

    rates = feed.minutes(55)

    assert set(rates) == {kept}


def test_told_limit_is_taken_at_once_and_not_exceeded() -> None:
    """Headers make all searching needless, upwards and downwards."""
    feed = Feed(FoundRate())
    rates = []

    for limit in (200, 20, 50):
        feed.rate.told(limit, None)
        rates += [feed.rate.per_minute, *feed.minutes(30)]

    assert set(rates) == {200, 20, 50}


def test_429_below_the_told_limit_counts_for_more() -> None:
    """Where the API answers 429 below the limit that it names, it is kept to what was let through, and tried later."""
    feed = Feed(FoundRate())
    feed.rate.told(30, None)
    feed.rate.throttled(0, 20)
    feed.rate.told(30, None)

    rates = feed.minutes(40)

    assert rates[0] == 20
    assert rates[-1] == 30
