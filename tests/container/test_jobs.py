"""A job in a container: locked down, stopped, killed, started again; and what the orchestrator gets to know of it."""

from __future__ import annotations

from functools import partial

import pytest

from importer.model import ExitCode
from importer.settings import Settings
from tests.container.containers import MEMORY_BYTES, SECRETS, USER, Deployed, Process
from tests.harness import LIST, ServedSandbox, assert_tells_the_truth, serving, sids_of, summary_of

ROWS = 200_000
GRACE_SECONDS = 40


@pytest.fixture(scope="module")
def sids() -> list[str]:
    return sids_of(ROWS)


def has_had(sandbox: ServedSandbox, requests: int) -> bool:
    """Tell whether a run is under way: so many requests have reached the sandbox."""
    return int(sandbox.ledger()["requests"]) >= requests


def test_a_locked_down_container_is_enough(
    deployed: Deployed, sids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With no rights, nothing to write to but its volume, and little memory, a run comes to its end."""
    deployed.write(sids)
    with serving("latency: {median_seconds: 0.2, spread: 0.3}") as sandbox:
        container = deployed.run(sandbox)
        process = Process(container)
        held = container.inspect()
        status = process.status
        container.command.wait_for(process.note_memory)
        ended = container.finish()

        assert ended.code == ExitCode.COMPLETE, ended.err
        assert_tells_the_truth(deployed.run_directory, sandbox, sids)
        assert sandbox.ledger()["contacts_sent"] == ROWS
    assert deployed.verify().code == 0
    assert held["HostConfig"]["ReadonlyRootfs"] is True
    assert held["HostConfig"]["Memory"] == MEMORY_BYTES
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    peak = {of: round(size / 2**20) for of, size in process.peak_bytes.items()}
    with capsys.disabled():
        print(f"\n{ROWS:,} rows; peak memory in MiB: {peak}")  # noqa: T201  # measured, not asserted alone
    assert 0 < peak["process"] < 150


def test_sigterm_is_followed_by_a_drain(deployed: Deployed, sids: list[str]) -> None:
    """Process 1 takes SIGTERM: requests in flight finish, it exits with 5; the same command resumes."""
    deployed.write(sids)
    with serving("latency: {median_seconds: 1, spread: 0.2}") as sandbox:
        container = deployed.run(sandbox)
        container.command.wait_for(partial(has_had, sandbox, 12))
        container.stop(GRACE_SECONDS)
        ended = container.finish()
        stopped = sandbox.ledger()
        summary = summary_of(deployed.run_directory)

        assert ended.code == ExitCode.INCOMPLETE, ended.err
        resume = f"importer run /data/input/contacts.csv --list {LIST}"
        assert f"Stopped by SIGTERM; nothing is lost. Go on with: {resume}" in ended.err
        assert 0 < stopped["contacts_sent"] == summary["rows"] < ROWS  # whatever was sent is reported
        assert stopped["by_status"] == {"207": stopped["requests"]}

        resumed = deployed.run(sandbox).finish()
        ledger = sandbox.ledger()
        assert resumed.code == ExitCode.COMPLETE, resumed.err
        assert_tells_the_truth(deployed.run_directory, sandbox, sids)
    assert ledger["contacts_sent"] == ROWS
    assert summary_of(deployed.run_directory)["resent_contacts"] == 0
    proof = deployed.verify()
    assert (proof.code, proof.out) == (
        0,
        f"{ROWS:,} rows of the input, each in the report exactly once; all counts agree.\n",
    )


def test_sigkill_loses_nothing(deployed: Deployed, sids: list[str]) -> None:
    """Killed twice, the same command goes on; only what was under way is sent again, and counted as such."""
    deployed.write(sids)
    with serving("latency: {median_seconds: 0.5, spread: 0.5}") as sandbox:
        for least in (10, 25):
            container = deployed.run(sandbox)
            container.command.wait_for(partial(has_had, sandbox, least))
            container.kill()
            assert container.finish().code == 137

        ended = deployed.run(sandbox).finish()
        ledger = sandbox.ledger()
        assert ended.code == ExitCode.COMPLETE, ended.err
        assert_tells_the_truth(deployed.run_directory, sandbox, sids)
    ours = ledger["lists"][LIST]
    resent = summary_of(deployed.run_directory)["resent_contacts"]
    assert ours["added"] == ROWS
    assert 0 < ours["contacts_sent_more_than_once"] <= ours["contacts_sent"] - ROWS <= resent
    assert deployed.verify().code == 0


@pytest.mark.parametrize(
    ("expected", "scenario", "settings"),
    [
        pytest.param(ExitCode.SOME_NOT_IN_LIST, "population: {unknown: 0.05}", {}, id="some-not-in-the-list"),
        pytest.param(ExitCode.USAGE, "", {"IMPORTER_DELIVERY__BATCH_SIZE": "0"}, id="bad-setting"),
        pytest.param(
            ExitCode.THRESHOLD, "population: {unknown: 0.5}", {"IMPORTER_RUN__MAX_FAILURES": "100"}, id="threshold"
        ),
        pytest.param(ExitCode.REFUSED, "api_token: another", {}, id="wrong-credentials"),
        pytest.param(
            ExitCode.INCOMPLETE,
            "faults: [{refuse_connections: true}]",
            {"IMPORTER_RETRY__MAX_ELAPSED_SECONDS": "1", "IMPORTER_RETRY__INITIAL_WAIT_SECONDS": "0.1"},
            id="outage",
        ),
    ],
)
def test_exit_codes_reach_the_orchestrator(
    deployed: Deployed, expected: ExitCode, scenario: str, settings: dict[str, str]
) -> None:
    """The container's exit code is the importer's own."""
    deployed.write(sids_of(20_000))
    with serving(scenario) as sandbox:
        ended = deployed.run(sandbox, **settings).finish()

    assert ended.code == expected, ended.err


def test_secrets_are_read_and_shown_nowhere(deployed: Deployed, sids: list[str]) -> None:
    """Secrets are files that the job's group may read; neither engine, process, logs nor run directory has them."""
    deployed.write(sids)
    with serving("latency: {median_seconds: 0.5}") as sandbox:
        container = deployed.run(sandbox, IMPORTER_LOG__LEVEL="debug")
        process = Process(container)
        container.command.wait_for(partial(has_had, sandbox, 8))
        shown = [str(container.inspect()), process.shown("cmdline"), process.shown("environ")]
        ended = container.finish()

    assert ended.code == ExitCode.COMPLETE, ended.err
    shown += [ended.out, ended.err, *(path.read_bytes().decode("latin-1") for path in deployed.run_directory.iterdir())]
    for secret in (SECRETS["EXOTEL_API_KEY"], SECRETS["EXOTEL_API_TOKEN"]):
        assert not [text for text in shown if secret in text]


def test_the_run_directory_is_the_users_alone(deployed: Deployed) -> None:
    """What a run leaves belongs to the image's user, and nobody else may read it."""
    deployed.write(sids_of(10))
    with serving() as sandbox:
        assert deployed.run(sandbox).finish().code == 0

    for path in (deployed.run_directory, *deployed.run_directory.iterdir()):
        found = path.stat()
        assert (found.st_uid, found.st_mode & 0o077) == (USER, 0), path


def test_the_orchestrators_patience_fits_the_default_grace() -> None:
    """The grace that these tests give is the one that the guide recommends: above the importer's own."""
    assert Settings().run.shutdown_grace_seconds + 10 <= GRACE_SECONDS
