"""The limiter in real time, over HTTP: run with `pytest -m soak`."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from importer.errors import IncompleteError
from importer.inputs import Input
from importer.job import Job, identify, open_source
from importer.model import Tally
from importer.run import run
from importer.sandbox import DEFAULT_LIST, Sandbox, Scenario
from importer.settings import Credentials, Settings
from importer.shutdown import Shutdown
from tests.harness import sids_of, write_csv

SECONDS = 120.0
PER_MINUTE = 200


@pytest.mark.soak
@pytest.mark.timeout(200)
async def test_no_minute_holds_more_than_the_quota_in_real_time(tmp_path: Path) -> None:
    """Two minutes against the sandbox, 503s and resets included: at most the quota, and nearly all of it."""
    path = write_csv(tmp_path / "contacts.csv", sids_of(30_000))
    sandbox = Sandbox(
        Scenario.from_text("""
            limit: {requests_per_minute: 200}
            latency: {median_seconds: 0.2, spread: 0.8}
            faults:
              - {chance: 0.03, status: 503}
              - {chance: 0.02, reset: after}
        """)
    )
    tally, shutdown = Tally(), Shutdown(10)
    async with sandbox.serve() as url:
        settings = Settings.model_validate(
            {
                "api": {"base_url": url},
                "delivery": {"batch_size": 50, "concurrency": "auto", "requests_per_minute": PER_MINUTE},
            }
        )
        with closing(Input(str(path))) as source:
            batches = open_source(source, settings.input, settings.delivery.batch_size)
            job = Job(
                source=batches,
                identity=identify(source, batches, DEFAULT_LIST, settings),
                directory=tmp_path / "run",
                settings=settings,
                account_sid="sandbox",
                credentials=Credentials(api_key=SecretStr("sandbox-key"), api_token=SecretStr("sandbox-token")),
            )
            asyncio.get_running_loop().call_later(SECONDS, shutdown.request, IncompleteError("Enough."))
            await run(job, tally, shutdown)
    ledger = sandbox.ledger.snapshot()
    print(f"most requests in 60 seconds: {ledger['most_requests_in_60_seconds']} of {PER_MINUTE}; {ledger}")  # noqa: T201  # the figure that this test is run for

    assert ledger["most_requests_in_60_seconds"] <= PER_MINUTE
    assert ledger["throttled"] == 0
    assert ledger["requests"] > 0.98 * PER_MINUTE * SECONDS / 60
