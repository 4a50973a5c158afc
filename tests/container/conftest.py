"""Containers are run only where somebody says with what: `.ci/container` does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.containers import Container, Deployed

collect_ignore_glob = [] if os.environ.get("CONTAINER_ENGINE") else ["test_*.py"]


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    """Volumes for a job; whatever runs on them at the end is removed."""
    deployed = Deployed(tmp_path)
    yield deployed
    for container in deployed.containers:
        container.remove()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Container]:
    """A container in which nothing happens, to look at the image."""
    container = Container(["--entrypoint", "sleep"], ["600"], tmp_path)
    yield container
    container.remove()
