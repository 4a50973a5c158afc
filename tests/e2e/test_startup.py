"""What a command does not load: whoever asks for little is answered at once. Told by module names, not by a clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import LIST, environment

HEAVY = {"aiohttp", "asyncio", "importer.run", "msgspec", "pydantic", "rich", "sqlite3", "ssl", "structlog", "yaml"}
OF_OTHERS = {"aiohttp.web", "importer.sandbox", "rich.live", "typer", "yaml"}


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    """Run Python, and give the names of the modules that it loaded."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    times = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in times}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_load_next_to_nothing(tmp_path: Path, option: str) -> None:
    """Neither the libraries of a run nor those of a display are loaded only to say who we are."""
    loaded = loaded_by(tmp_path, "-m", "importer", option)

    assert "importer.cli" in loaded
    assert not loaded & HEAVY


def test_run_loads_nothing_of_sandbox_and_display(tmp_path: Path) -> None:
    """The parts of a run need neither the sandbox and its server, nor the command line, nor what shows it."""
    loaded = loaded_by(tmp_path, "-c", "import importer.run")

    assert {"importer.run", "aiohttp"} <= loaded
    assert not loaded & OF_OTHERS


def test_yaml_is_loaded_for_a_file_alone(tmp_path: Path) -> None:
    """Without a file of settings, the command `run` does without what would read it."""
    command = ["-m", "importer", "run", "missing.csv", "--list", LIST]
    without = loaded_by(tmp_path, *command)
    (tmp_path / "config.yaml").write_text("")

    assert "importer.run" in without
    assert not without & {"aiohttp.web", "importer.sandbox", "yaml"}
    assert "yaml" in loaded_by(tmp_path, *command)
