"""What the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import SandboxProcess, sandbox_process


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A sandbox in another process, in which some contacts are members, unknown or refused."""
    with sandbox_process(tmp_path, "population: {member: 0.05, unknown: 0.05, refused: 0.02}") as sandbox:
        yield sandbox
