"""Quota, retries, splits and outages as figures: hours of runs against the sandbox, in seconds."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.played import Play, play
from tests.virtual_time import run

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=[path.stem for path in SCENARIOS])
def test_figures_are_as_expected(path: Path) -> None:
    """Each scenario file says what happens, and within which bounds each figure stays."""
    scenario = Play.load(path)

    # In memory where that can be had: thousands of commits are waited for, and none is to survive.
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:  # noqa: S108
        played = run(play(scenario, Path(directory)))

    assert not played.misses(scenario.expect), scenario.what
