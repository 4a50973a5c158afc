"""Quota, retries, splits and outages as figures: hours of runs against the sandbox, in seconds."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.played import Play, play
from tests.virtual_time import run

SCENARIOS = {path.stem: Play.load(path) for path in sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))}
LONG = [name for name, scenario in SCENARIOS.items() if scenario.input.in_full]


@pytest.mark.parametrize("name", SCENARIOS)
def test_figures_are_as_expected(name: str) -> None:
    """Each scenario file says what happens, and within which bounds each figure stays."""
    assert_as_expected(SCENARIOS[name])


@pytest.mark.soak
@pytest.mark.parametrize("name", LONG)
def test_figures_of_a_long_run_are_as_expected(name: str) -> None:
    """The figures stay within the same bounds for as long as the run goes on."""
    assert_as_expected(SCENARIOS[name].in_full())


def assert_as_expected(scenario: Play) -> None:
    """Play it, and compare."""
    # In memory where that can be had: thousands of commits are waited for, and none is to survive.
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:  # noqa: S108
        played = run(play(scenario, Path(directory)))

    assert not played.misses(scenario.expect), scenario.what
