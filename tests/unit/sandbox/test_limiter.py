"""The limit of requests a minute."""

from importer.sandbox.limiter import Limiter
from importer.sandbox.sections import Limit, LimitChange


def admitted(limiter: Limiter, times: list[float]) -> list[float]:
    return [at for at in times if (admission := limiter.admit(at)) is not None and admission.is_admitted]


def test_without_a_limit_nothing_is_said() -> None:
    """No limit, no decision."""
    assert Limiter(Limit()).admit(0.0) is None


def test_a_sliding_window_forgets_after_a_minute() -> None:
    """In no window of a minute are more requests let through; a request a minute old no longer counts."""
    limiter = Limiter(Limit(requests_per_minute=2))

    assert admitted(limiter, [0.0, 10.0, 20.0, 59.9, 60.0, 61.0, 70.0]) == [0.0, 10.0, 60.0, 70.0]


def test_a_fixed_window_starts_anew_each_minute() -> None:
    """A fixed window lets twice the limit through around its boundary."""
    limiter = Limiter(Limit(requests_per_minute=2, window="fixed"))

    assert admitted(limiter, [58.0, 59.0, 59.5, 60.0, 61.0, 62.0]) == [58.0, 59.0, 60.0, 61.0]


def test_remaining_and_reset_are_told() -> None:
    """An admission says how many are left and when the next one fits."""
    limiter = Limiter(Limit(requests_per_minute=2))

    first, second, third = limiter.admit(0.0), limiter.admit(10.0), limiter.admit(15.0)

    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.remaining, second.remaining, third.remaining) == (1, 0, 0)
    assert (first.reset_seconds, third.reset_seconds) == (60.0, 45.0)
    assert not third.is_admitted


def test_the_limit_changes_over_time() -> None:
    """A change holds from its second on, and a lowered limit waits for more requests to leave."""
    limiter = Limiter(Limit(requests_per_minute=3, changes=(LimitChange(at_seconds=30, requests_per_minute=1),)))

    assert admitted(limiter, [0.0, 1.0, 2.0]) == [0.0, 1.0, 2.0]
    refused = limiter.admit(31.0)
    assert refused is not None
    assert (refused.limit, refused.is_admitted, refused.reset_seconds) == (1, False, 31.0)
    assert admitted(limiter, [61.9, 62.0, 63.0]) == [62.0]


def test_others_take_their_share() -> None:
    """Another client that sends evenly leaves only the rest, also after a long pause."""
    limiter = Limiter(Limit(requests_per_minute=30, others_requests_per_minute=20))

    warm_up = admitted(limiter, [float(at) for at in range(600)])
    minute = [at for at in warm_up if 300 <= at < 360]
    after_pause = limiter.admit(100_000.0)

    assert 10 <= len(minute) <= 11
    assert after_pause is not None
    assert after_pause.remaining == 9


def test_throttled_requests_count_only_where_the_scenario_says_so() -> None:
    """With `count_throttled`, somebody who keeps knocking is never let in."""
    knocking = [float(at) for at in range(0, 300, 10)]
    lenient, strict = Limiter(Limit(requests_per_minute=1)), Limiter(Limit(requests_per_minute=1, count_throttled=True))

    assert admitted(lenient, knocking) == [0.0, 60.0, 120.0, 180.0, 240.0]
    assert admitted(strict, knocking) == [0.0]


def test_a_limit_of_zero_lets_nobody_in() -> None:
    """Zero requests a minute is a limit."""
    refused = Limiter(Limit(requests_per_minute=0)).admit(5.0)

    assert refused is not None
    assert (refused.is_admitted, refused.reset_seconds) == (False, 60.0)
