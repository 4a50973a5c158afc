"""What the integration tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog


@pytest.fixture(autouse=True)
def _silent_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, if there is one: where a loss of power is simulated, syncs need not take their time."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder with a name of its own is made in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)
