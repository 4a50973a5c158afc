"""An import within one's own program: settings in, progress while it runs, a summary out; and it can be ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import importer
from importer import Credentials, ExitCode, Progress, Settings, Summary, run_import
from importer.sandbox import DEFAULT_LIST, Sandbox, Scenario
from tests.harness import report_of, sids_of, write_csv

CREDENTIALS = Credentials.model_validate(
    {"api_key": "sandbox-key", "api_token": "sandbox-token", "account_sid": "sandbox"}
)
ROWS = 60


@pytest.fixture
async def api() -> AsyncIterator[Sandbox]:
    """A sandbox, a little slow, so that a run can be ended in the middle."""
    sandbox = Sandbox(Scenario.from_text("faults: [{delay_seconds: 0.01}]"))
    async with sandbox.serve(port=0) as url:
        sandbox.url = url  # type: ignore[attr-defined]  # for these tests
        yield sandbox


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "contacts.csv", sids_of(ROWS))


def settings_of(api: Any, **delivery: Any) -> Settings:
    delivery = {"batch_size": 3, "concurrency": 2, "requests_per_minute": 1e9} | delivery
    return Settings.model_validate({"api": {"base_url": api.url}, "delivery": delivery})


async def imported(api: Any, csv: Path, **more: Any) -> Summary:
    return await run_import(
        csv, DEFAULT_LIST, settings=settings_of(api), credentials=CREDENTIALS, run_dir=csv.parent / "run", **more
    )


def assert_all_rows_are_reported_once(csv: Path) -> None:
    assert list(range(1, ROWS + 1)) == sorted(line["row"] for line in report_of(csv.parent / "run"))


async def test_a_summary_comes_back(api: Any, csv: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It says what became of the rows, and nothing is printed."""
    summary = await imported(api, csv)

    assert (
        summary.exit_code,
        summary.complete,
        summary.rows,
        summary.outcomes[importer.Outcome.ADDED],
    ) == (ExitCode.COMPLETE, True, ROWS, ROWS)
    assert capfd.readouterr() == ("", "")


async def test_progress_is_told_by_callback(api: Any, csv: Path) -> None:
    """While it runs, never backwards, and at the end with all rows."""
    told: list[Progress] = []
    summary = await imported(api, csv, on_progress=told.append, progress_interval_seconds=0.005)

    assert [progress.rows for progress in told] == sorted(progress.rows for progress in told)
    assert len(told) > 1
    assert (summary.rows, summary.outcomes, summary.requests) == (told[-1].rows, told[-1].outcomes, told[-1].requests)


async def test_it_can_be_stopped_and_goes_on(api: Any, csv: Path) -> None:
    """What is in flight may finish, and the same call does the rest, without sending a contact twice."""
    stop = asyncio.Event()
    first = await imported(api, csv, stop=stop, on_progress=_once(stop.set), progress_interval_seconds=0.03)
    second = await imported(api, csv)

    assert first.exit_code == ExitCode.INCOMPLETE
    assert first.error is not None
    assert second.exit_code == ExitCode.COMPLETE
    assert second.resent_contacts == 0
    assert_all_rows_are_reported_once(csv)


async def test_it_can_be_cancelled_and_goes_on(api: Any, csv: Path) -> None:
    """Cancelling is as a crash: what was in flight is sent again, and counted."""
    begun = asyncio.Event()
    running = asyncio.create_task(imported(api, csv, on_progress=_once(begun.set), progress_interval_seconds=0.03))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    summary = await imported(api, csv)

    assert summary.exit_code == ExitCode.COMPLETE
    assert_all_rows_are_reported_once(csv)


async def test_what_the_callback_raises_ends_it(api: Any, csv: Path) -> None:
    """The program's own mistake comes out as it is, and the import can go on."""

    def fail(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await imported(api, csv, on_progress=fail, progress_interval_seconds=0.01)
    summary = await imported(api, csv)

    assert summary.exit_code == ExitCode.COMPLETE
    assert_all_rows_are_reported_once(csv)


async def test_several_imports_run_side_by_side(api: Any, csv: Path) -> None:
    """Each with its own settings, in one program."""
    calls = [
        run_import(
            csv,
            DEFAULT_LIST,
            settings=settings_of(api, batch_size=size),
            credentials=CREDENTIALS,
            run_dir=csv.parent / f"run-{size}",
        )
        for size in (2, 7)
    ]
    summaries = await asyncio.gather(*calls)

    assert [(summary.rows, summary.batches) for summary in summaries] == [(ROWS, 30), (ROWS, 9)]


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"source": "nowhere.csv"}, importer.InputError, "no such file"),
        ({"list_sid": "a/b"}, importer.SettingsError, "is no list sid"),
        ({"credentials": Credentials(account_sid="x")}, importer.SettingsError, "EXOTEL_API_KEY"),
    ],
)
async def test_a_mistake_is_raised_before_anything_is_sent(
    change: dict[str, Any], kind: type[Exception], said: str, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error of ours, whose text says what is wrong."""
    for name in ("EXOTEL_API_KEY", "EXOTEL_API_TOKEN", "EXOTEL_ACCOUNT_SID"):
        monkeypatch.delenv(name, raising=False)
    call: dict[str, Any] = {"source": csv, "list_sid": DEFAULT_LIST, "credentials": CREDENTIALS}
    with pytest.raises(kind, match=said):
        await run_import(**(call | change))


async def test_events_go_where_the_program_wants_them(
    api: Any, csv: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To `logging` as "importer", or to structlog as the program has configured it."""
    monkeypatch.setattr("structlog._config._CONFIG.is_configured", False)
    with caplog.at_level(logging.INFO, "importer"):
        await imported(api, csv)
    with capture_logs() as captured:
        await imported(api, csv)

    assert "event='run_begun'" in caplog.text
    assert [event for event in captured if event["log_level"] not in {"info", "warning"}] == []


def test_all_that_is_public_is_documented() -> None:
    """Every name that the package offers is there, and says what it is."""
    for name in importer.__all__:
        assert getattr(importer, name).__doc__, name
    with pytest.raises(AttributeError):
        _ = importer.no_such_name


def _once(act: Callable[[], object]) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.batches:
            act()

    return on_progress
