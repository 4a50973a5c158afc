"""Chance is the same in every run: a failure is never a matter of luck."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let waits before retries be drawn alike, whichever tests came before."""
    random.seed(1)
