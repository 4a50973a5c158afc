"""What the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import ServedSandbox, serving


@pytest.fixture
def sandbox() -> Iterator[ServedSandbox]:
    """A sandbox in which some contacts are members, unknown or refused."""
    with serving("population: {member: 0.05, unknown: 0.05, refused: 0.02}") as sandbox:
        yield sandbox
