"""The examples of docs/library.md, run as they stand there; only that the API is a sandbox."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from inspect import iscoroutinefunction, signature
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from importer.settings import REGIONS
from tests.harness import report_of, serving, sids_of, write_csv

EXAMPLES = re.findall(
    r"^```python\n(.*?)^```$", (Path(__file__).parents[2] / "docs" / "library.md").read_text(), re.MULTILINE | re.DOTALL
)
SCENARIO = """
account_sid: mycompany1
api_key: my key
api_token: my token
lists: [4d61c2a0b5f14f0a9a9b2e0d3c5e7f81, 9f2b7c11d0e84a55b3c6a8e4f1d20367]
"""
ROWS = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with what the examples speak of; the API's addresses lead to a sandbox."""
    for name in ("contacts", "customers", "suppliers"):
        write_csv(tmp_path / f"{name}.csv", sids_of(ROWS))
    (tmp_path / "config.yaml").write_text("run: {max_failures: 7}\n")
    for name, value in {"API_KEY": "my key", "API_TOKEN": "my token", "ACCOUNT_SID": "mycompany1"}.items():
        monkeypatch.setenv(f"EXOTEL_{name}", value)
    monkeypatch.chdir(tmp_path)
    with serving(SCENARIO) as sandbox, patch.dict(REGIONS, dict.fromkeys(REGIONS, sandbox.url)):
        yield tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_works(example: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every function of it imports every row."""
    names: dict[str, Any] = {}
    exec(compile(example, "library.md", "exec"), names)  # noqa: S102  # our own text, which users will run too
    imports = [value for name, value in names.items() if iscoroutinefunction(value) and name.startswith("import_")]
    for each in imports:
        asyncio.run(each(*(asyncio.Event() for _ in signature(each).parameters)))

    reports = [report_of(path.parent) for path in (folder / "runs").rglob("report.jsonl")]
    assert reports
    assert all(list(range(1, ROWS + 1)) == [line["row"] for line in report] for report in reports)
    assert {line["outcome"] for report in reports for line in report} <= {"added", "already_present"}
    assert "Traceback" not in "".join(capsys.readouterr())


def test_there_are_examples() -> None:
    """Else nothing would be tried."""
    assert len(EXAMPLES) >= 6
