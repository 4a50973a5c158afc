"""The same command every night: a new file is a new run, and what an earlier night left is finished or reported."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from importer.history import History
from tests.harness import (
    LIST,
    Finished,
    ServedSandbox,
    assert_tells_the_truth,
    environment,
    importer,
    importer_here,
    report_of,
    running,
    serving,
    sids_of,
    summary_of,
    write_csv,
)

BATCH_SIZE = 20
ROWS = 200
ALLOWED = environment(IMPORTER_RUN__OVERLAP="allow")


@pytest.fixture
def sandbox() -> Iterator[ServedSandbox]:
    """A sandbox in which everyone can be added."""
    with serving() as sandbox:
        yield sandbox


def nightly(sandbox: ServedSandbox, contacts: Path, *more: object, run_dir: object = None) -> list[object]:
    """The nightly command; without `run_dir`, its runs go where they go by default."""
    command = ["run", contacts, *sandbox.run_options(Path("unused")), "--batch-size", BATCH_SIZE, *more]
    position = command.index("--run-dir")
    command[position : position + 2] = ["--run-dir", run_dir] if run_dir else []
    return command


def kill_in_the_middle(command: list[object], sandbox: ServedSandbox, folder: Path) -> None:
    """Start the command at a pace at which nothing but its first request leaves, and kill it after that."""
    with running(*command, "--requests-per-minute", 1, cwd=folder) as process:
        process.wait_for_word("batch_finished")
        process.kill()


def runs_in(folder: Path) -> list[Path]:
    return sorted(state.parent for state in folder.rglob("state.db"))


def events_of(ended: Finished, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def test_each_file_is_a_run(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A new file of the same name is a new run; the same file again is complete, and nothing is sent."""
    contacts = tmp_path / "contacts.csv"
    command = nightly(sandbox, contacts)
    write_csv(contacts, sids_of(ROWS, seed=1))
    first = importer(*command, cwd=tmp_path)
    write_csv(contacts, sids_of(ROWS, seed=2))
    second = importer_here(*command, cwd=tmp_path)
    requests = sandbox.ledger()["requests"]

    again = importer_here(*command, cwd=tmp_path)

    assert (first.code, second.code, again.code) == (0, 0, 0), first.err + second.err
    assert "already complete" in again.err
    assert sandbox.ledger()["requests"] == requests
    assert len(runs_in(tmp_path)) == 2
    assert [path.name[0] for path in (tmp_path / "runs").iterdir()] == ["c", "c"]
    assert sorted(sandbox.added()) == sorted([*sids_of(ROWS, seed=1), *sids_of(ROWS, seed=2)])
    assert "unfinished_run_found" not in second.err + again.err


def test_run_killed_before_midnight_goes_on_after_it(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """With a date in its directory, a restart on the next day goes on with the same content where it was."""
    sids = sids_of(ROWS)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    command = nightly(sandbox, contacts, run_dir="nightly/{stem}-{date}")
    kill_in_the_middle(command, sandbox, tmp_path)
    (begun,) = runs_in(tmp_path)
    day = date.fromisoformat(begun.name.removeprefix("contacts-"))
    yesterday = begun.rename(begun.with_name(f"contacts-{day - timedelta(days=1)}"))

    resumed = importer_here(*command, cwd=tmp_path)

    assert resumed.code == 0, resumed.err
    assert runs_in(tmp_path) == [yesterday]
    (event,) = events_of(resumed, "run_of_another_date_resumed")
    assert event["directory"] == f"nightly/{yesterday.name}"
    assert_tells_the_truth(yesterday, sandbox, sids)
    assert sandbox.ledger()["contacts_sent"] == ROWS + summary_of(yesterday)["resent_contacts"]


def test_new_day_is_a_new_run(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """What is complete under an earlier date is done: the new day has a run of its own, of the same content too."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(ROWS))
    command = nightly(sandbox, contacts, run_dir="{date}/{stem}")
    first = importer_here(*command, cwd=tmp_path)
    (tmp_path / runs_in(tmp_path)[0].parent.name).rename(tmp_path / "2026-01-01")

    second = importer_here(*command, cwd=tmp_path)

    assert (first.code, second.code) == (0, 0)
    assert len(runs_in(tmp_path)) == 2
    assert sandbox.ledger()["contacts_sent"] == 2 * ROWS


@pytest.mark.parametrize("pattern", ["runs/{day}", "runs/{stem"])
def test_bad_pattern_is_one_sentence(tmp_path: Path, sandbox: ServedSandbox, pattern: str) -> None:
    """A placeholder that does not exist ends the command before anything is made or sent."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(3))

    refused = importer_here(*nightly(sandbox, contacts, run_dir=pattern), cwd=tmp_path)

    assert refused.code == 2
    assert refused.err.startswith("importer: --run-dir: ")
    assert refused.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["contacts.csv"]


def test_killed_night_is_reported(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """By default an unfinished run of another night is told of, with the command that finishes it, and that does."""
    monday, tuesday = sids_of(ROWS, seed=1), sids_of(ROWS, seed=2)
    first = write_csv(tmp_path / "monday.csv", monday)
    kill_in_the_middle(nightly(sandbox, first), sandbox, tmp_path)
    (left,) = runs_in(tmp_path)
    command = nightly(sandbox, write_csv(tmp_path / "tuesday.csv", tuesday))

    reported = importer_here(*command, cwd=tmp_path)
    (event,) = events_of(reported, "unfinished_run_found")
    still_left = len(report_of(left))
    finished = importer_here(*shlex.split(event["next"])[1:], cwd=tmp_path)

    assert (reported.code, finished.code) == (0, 0), finished.err
    assert (event["directory"], event["rows_done"], event["level"]) == (f"runs/{left.name}", BATCH_SIZE, "warning")
    assert still_left == BATCH_SIZE
    assert "already complete" in finished.err
    assert summary_of(left)["complete"] is True
    assert sorted(sandbox.added()) == sorted([*monday, *tuesday])


def test_killed_night_is_finished_first(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Where that is wanted, the earlier run is finished as it was begun, before today's, by the same process."""
    monday, tuesday = sids_of(ROWS, seed=1), sids_of(ROWS, seed=2)
    first = write_csv(tmp_path / "monday.csv", monday)
    kill_in_the_middle(nightly(sandbox, first), sandbox, tmp_path)
    (left,) = runs_in(tmp_path)
    command = nightly(sandbox, write_csv(tmp_path / "tuesday.csv", tuesday), "--unfinished", "finish")

    ended = importer_here(*command, "--batch-size", 2 * BATCH_SIZE, cwd=tmp_path)

    assert ended.code == 0, ended.err
    assert summary_of(left)["complete"] is True
    assert [summary_of(run)["settings"]["delivery"]["batch_size"] for run in runs_in(tmp_path)] == [20, 40]
    assert [line["contact_sid"] for line in sorted(report_of(left), key=lambda line: line["row"])] == monday
    assert ended.err.index("run_resumed") < ended.err.index("run_begun")
    assert sorted(sandbox.added()) == sorted([*monday, *tuesday])
    assert importer_here("verify", left, first, cwd=tmp_path).code == 0


def test_overwritten_input_of_a_killed_night_is_reported(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Where the same path holds a new file every night, last night's cannot be finished: that is said, and no more."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(ROWS, seed=1))
    command = nightly(sandbox, contacts, "--unfinished", "finish")
    kill_in_the_middle(command, sandbox, tmp_path)
    (left,) = runs_in(tmp_path)
    write_csv(contacts, sids_of(ROWS, seed=2))

    ended = importer_here(*command, cwd=tmp_path)

    assert ended.code == 0, ended.err
    (event,) = events_of(ended, "unfinished_run_found")
    assert (event["input_is"], event["next"]) == ("changed", f"importer status runs/{left.name}")


def test_stop_during_the_earlier_run_ends_both(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A signal that comes while an earlier run is finished keeps today's from beginning; the same command does both."""
    monday, tuesday = sids_of(ROWS, seed=1), sids_of(ROWS, seed=2)
    kill_in_the_middle(nightly(sandbox, write_csv(tmp_path / "monday.csv", monday)), sandbox, tmp_path)
    command = nightly(sandbox, write_csv(tmp_path / "tuesday.csv", tuesday), "--unfinished", "finish")
    with running(*command, "--requests-per-minute", 1, cwd=tmp_path) as process:
        process.wait_for_word("run_resumed")
        process.send(signal.SIGTERM)
        stopped = process.finish()
    runs_then = len(runs_in(tmp_path))

    again = importer_here(*command, cwd=tmp_path)

    assert (stopped.code, runs_then) == (5, 1), stopped.err
    assert "nothing is lost. Go on with: importer run" in stopped.err
    assert again.code == 0, again.err
    assert sorted(sandbox.added()) == sorted([*monday, *tuesday])


def test_overlapping_start_is_refused(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """While last night's run is still at work, tonight's of another file is refused, unless overlaps are allowed."""
    slow = nightly(sandbox, write_csv(tmp_path / "monday.csv", sids_of(ROWS, seed=1)))
    command = nightly(sandbox, write_csv(tmp_path / "tuesday.csv", sids_of(ROWS, seed=2)))
    with running(*slow, "--requests-per-minute", 1, cwd=tmp_path) as process:
        process.wait_for_word("batch_finished")
        (at_work,) = runs_in(tmp_path)
        refused = importer_here(*command, cwd=tmp_path)
        runs_then = runs_in(tmp_path)
        elsewhere = importer_here(*command, "--run-dir", "other/run", cwd=tmp_path)
        allowed = importer_here(*command, cwd=tmp_path, env=ALLOWED)
        complete = importer_here(*command, cwd=tmp_path)
        still_at_work = not process.is_over
        pid = process.pid
        process.send(signal.SIGTERM)

    assert refused.code == 2
    assert f"another run of this account is at work (runs/{at_work.name}, process {pid})" in refused.err
    assert "run.overlap to allow" in refused.err
    assert "Traceback" not in refused.err
    assert runs_then == [at_work]
    assert (elsewhere.code, allowed.code, complete.code, still_at_work) == (0, 0, 0, True)
    assert "unfinished_run_found" not in refused.err + allowed.err
    assert "already complete" in complete.err


def test_old_runs_are_pruned(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """`prune` removes what is complete and old enough, says what it does, and by default looks where the runs go."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(ROWS, seed=1))
    assert importer_here(*nightly(sandbox, contacts), cwd=tmp_path).code == 0
    complete = runs_in(tmp_path)
    kill_in_the_middle(nightly(sandbox, write_csv(contacts, sids_of(ROWS, seed=2))), sandbox, tmp_path)
    (killed,) = set(runs_in(tmp_path)) - set(complete)

    young = importer_here("prune", "--older-than", "1h", cwd=tmp_path)
    would = importer_here("prune", "--older-than", "0h", "--dry-run", cwd=tmp_path)
    pruned = importer("prune", "runs", "--older-than", "0h", cwd=tmp_path)
    bad = importer_here("prune", "--older-than", "soon", cwd=tmp_path)

    assert (young.code, young.out) == (0, "")
    assert would.code == pruned.code == 0, pruned.err
    assert f"would remove runs/{complete[0].name} (ended " in would.out
    assert f"removed runs/{complete[0].name} (ended " in pruned.out
    assert f"kept runs/{killed.name}: not complete; --incomplete removes it too" in pruned.out
    assert runs_in(tmp_path) == [killed]
    assert bad.code == 2
    assert bad.err.count("\n") == 1


def test_list_is_what_is_looked_back_on(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Runs into other lists are others' business."""
    command = nightly(sandbox, write_csv(tmp_path / "monday.csv", sids_of(ROWS, seed=1)))
    kill_in_the_middle(command, sandbox, tmp_path)
    command[command.index(LIST)] = "0" * 32

    ended = importer_here(*command, cwd=tmp_path)

    assert ended.code == 4, ended.err
    assert "unfinished_run_found" not in ended.err


def test_quota_reaches_from_run_to_run(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A run that begins right after another does not begin with a request too many for the minute."""
    starts = []
    for seed in (1, 2):
        contacts = write_csv(tmp_path / f"{seed}.csv", sids_of(3, seed=seed))
        command = nightly(sandbox, contacts, "--requests-per-minute", 30, run_dir="runs/{stem}")
        assert importer_here(*command, cwd=tmp_path).code == 0
        with closing(History(tmp_path / "runs" / str(seed) / "state.db")) as history:
            starts += history.recent_starts()

    first, second = starts
    assert second - first >= 2
