"""The installed command, run as a person or a script runs it."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shlex
import signal
import stat
import subprocess
import urllib.request
from pathlib import Path

import pytest

from importer import __version__
from tests.harness import (
    IMPORTER,
    LIST,
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


def test_run_reports_every_row_truthfully(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """A run reports each row once, as it truly went, and says by its exit code that some are not in the list."""
    sids = sids_of(2_000)
    contacts = write_csv(tmp_path / "contacts.csv", sids)

    ended = importer("run", contacts, *sandbox.run_options(tmp_path / "run"), "--batch-size", 300, cwd=tmp_path)

    assert ended.code == 1, ended.err
    assert_tells_the_truth(tmp_path / "run", sandbox, sids)
    assert summary_of(tmp_path / "run")["complete"] is True
    assert summary_of(tmp_path / "run")["exit_code"] == 1
    assert sandbox.ledger()["contacts_sent_more_than_once"] == 0
    assert ended.out == ""


def test_all_in_the_list_exits_0(tmp_path: Path) -> None:
    """A run whose every row is added, already present or a duplicate exits with 0."""
    sids = sids_of(50)
    with serving("population: {member: 0.2}") as sandbox:
        contacts = write_csv(tmp_path / "contacts.csv", [*sids, sids[3].upper()])

        ended = importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)

    assert ended.code == 0, ended.err
    last = report_of(tmp_path / "run")[-1]
    assert (last["outcome"], last["duplicate_of"]) == ("duplicate", 4)
    assert set(summary_of(tmp_path / "run")["outcomes"]) >= {"added", "already_present", "duplicate"}


def test_standard_input_is_read(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """`-` reads standard input, compressed too, and sids need no header there."""
    sids = sids_of(40)

    ended = importer(
        "run", "-", *sandbox.run_options(tmp_path / "run"), cwd=tmp_path, input=gzip.compress("\n".join(sids).encode())
    )

    assert ended.code == 1, ended.err
    assert_tells_the_truth(tmp_path / "run", sandbox, sids)


def test_default_directory_tells_inputs_and_lists_apart(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Without --run-dir the run's directory is runs/<stem>-<8 hex digits>, another one for another content."""
    options = sandbox.run_options(tmp_path)
    del options[4:6]
    write_csv(tmp_path / "people.csv", sids_of(10))
    importer_here("run", "people.csv", *options, cwd=tmp_path)
    write_csv(tmp_path / "people.csv", sids_of(10, seed=2))
    importer_here("run", "people.csv", *options, cwd=tmp_path)

    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(names) == 2
    assert all(re.fullmatch("people-[0-9a-f]{8}", name) for name in names)


def test_files_are_private(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """The run directory is for its owner alone, and so is each file in it."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(10))
    importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)

    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()} == {0o600}


def test_no_output_holds_a_secret(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Neither files nor screens nor errors of a run show the key, the token, or what HTTP makes of them."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(10))
    options = [*sandbox.run_options(tmp_path / "run"), "--log-level", "debug"]
    secrets = {"EXOTEL_API_KEY": "a-very-secret-key", "EXOTEL_API_TOKEN": "a-very-secret-token"}
    refused = importer("run", contacts, *options, cwd=tmp_path, env=environment(**secrets))
    accepted = importer_here("run", contacts, *options, cwd=tmp_path)

    assert (refused.code, accepted.code) == (4, 1)
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").iterdir())
    shown = written.decode("latin-1") + refused.err + refused.out + accepted.err + accepted.out
    for secret in ("sandbox-key", "sandbox-token", "very-secret", "c2FuZGJveC1rZXk6", "YS12ZXJ5LXNlY3JldC1"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("scenario", "options", "said"),
    [
        ("api_key: other", [], "region"),
        ("account_sid: other", [], "region"),
        ("api: {unknown_list: 403}", ["--list", "0" * 32], "IP address"),
        ("", ["--list", "0" * 32], "list 00000000000000000000000000000000"),
        ("faults: [{requests: [1], status: 402}]", [], "credit"),
        ("faults: [{requests: [1], redirect: 'http://127.0.0.1:9/'}]", [], "redirects are not followed"),
    ],
)
def test_refusals_stop_the_run(tmp_path: Path, scenario: str, options: list[str], said: str) -> None:
    """A refusal of credentials, address or list stops the run with exit 4, and one sentence says what to check."""
    with serving(scenario) as sandbox:
        contacts = write_csv(tmp_path / "contacts.csv", sids_of(1_000))

        ended = importer_here(
            "run", contacts, *sandbox.run_options(tmp_path / "run"), "--batch-size", 10, *options, cwd=tmp_path
        )
        requests = sandbox.ledger()["requests"]

    assert ended.code == 4
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert requests <= 4 + 1  # what was in flight
    assert summary_of(tmp_path / "run")["complete"] is False
    assert summary_of(tmp_path / "run")["exit_code"] == 4


def test_input_error_in_the_middle_keeps_what_was_before(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """An unclosed quote is one error with its line, exit 2; the batches before it are delivered and reported."""
    sids = sids_of(105)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    with contacts.open("a") as file:
        file.write('"never closed,' + sids[0] + "\n")

    ended = importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), "--batch-size", 10, cwd=tmp_path)

    assert ended.code == 2
    assert "line 107" in ended.err
    assert [line["row"] for line in sorted(report_of(tmp_path / "run"), key=lambda line: line["row"])] == list(
        range(1, 101)
    )
    assert summary_of(tmp_path / "run")["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "missing.csv", "--list", LIST], "no such file"),
        (["run", ".", "--list", LIST], "is a directory"),
        (["run", "contacts.csv"], "--list"),
        (["run", "contacts.csv", "--list", "a/b"], "no list sid"),
        (["run", "contacts.csv", "--list", LIST, "--column", "phone"], "'contact_sid'"),
        (["run", "contacts.csv", "--list", LIST, "--batch-size", "0"], "delivery.batch_size"),
        (["run", "contacts.csv", "--list", LIST, "--config", "missing.yaml"], "missing.yaml"),
        (["run", "contacts.csv", "--list", LIST, "--base-url", "http://key:token@host"], "must not hold credentials"),
        (["run", "empty.csv", "--list", LIST], "empty"),
        (["run", "words.csv", "--list", LIST], "'hello'"),
        (["status", "missing"], "missing"),
        (["verify", "missing"], "missing"),
        (["failed", "missing"], "missing"),
        (["sandbox", "--scenario", "missing.yaml"], "missing.yaml"),
        (["nonsense"], "nonsense"),
    ],
)
def test_mistakes_of_a_user_get_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    """A mistake that a user can make exits with 2 and a sentence, never with a traceback."""
    write_csv(tmp_path / "contacts.csv", sids_of(3))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "words.csv").write_text("contact_sid\nhello\nworld\n")

    ended = importer_here(*arguments, cwd=tmp_path)

    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_missing_credentials_are_named(tmp_path: Path) -> None:
    """Without credentials the run says which variables to set."""
    write_csv(tmp_path / "contacts.csv", sids_of(3))
    bare = {key: value for key, value in environment().items() if not key.startswith("EXOTEL_")}

    ended = importer_here(
        "run", "contacts.csv", "--list", LIST, cwd=tmp_path, env=bare | {"IMPORTER_SECRETS_DIR": "none"}
    )

    assert ended.code == 2
    assert all(name in ended.err for name in ("EXOTEL_API_KEY", "EXOTEL_API_TOKEN", "EXOTEL_ACCOUNT_SID"))


def test_check_sends_nothing(tmp_path: Path) -> None:
    """`check` counts what a run would do, without credentials and without a request."""
    sids = sids_of(1_000)
    write_csv(tmp_path / "contacts.csv", [*sids, "", "hello", sids[-1]])

    shown = importer("check", "contacts.csv", "--list", LIST, "--batch-size", 400, cwd=tmp_path)
    counted = importer_here("check", "contacts.csv", "--batch-size", 400, "--json", cwd=tmp_path)

    assert (shown.code, counted.code) == (0, 0)
    assert "1,003" in shown.out
    found = json.loads(counted.out)
    assert (found["rows"], found["to_send"], found["duplicates"], found["batches"]) == (1_003, 1_000, 1, 3)
    assert found["invalid"] == {"sid_empty": 1, "sid_malformed": 1}
    assert not (tmp_path / "runs").exists()


def test_failed_rows_are_fed_back(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """`failed` gives the rows not in the list with their own bytes, and what it writes is an input again."""
    sids = sids_of(500)
    rows = [f'"Name, {number}";{sid};=1+1' for number, sid in enumerate([*sids, "bad"], 1)]
    text = "\ufeffname;Contact_SID ;note\r\n" + "\r\n".join(rows) + "\r\n"
    (tmp_path / "contacts.csv").write_bytes(text.encode())
    importer_here("run", "contacts.csv", *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)

    ended = importer("failed", tmp_path / "run", cwd=tmp_path)
    importer_here("failed", tmp_path / "run", "-o", tmp_path / "again.csv", cwd=tmp_path)
    again = importer_here("run", "again.csv", *sandbox.run_options(tmp_path / "run2"), cwd=tmp_path)

    not_in_list = [line for line in report_of(tmp_path / "run") if line["outcome"] in {"rejected", "invalid"}]
    lines = ended.raw.decode().split("\r\n")
    assert lines[0] == "\ufeffname;Contact_SID ;note;row;outcome;code;reason"
    assert [line.rsplit(";", 4)[0] for line in lines[1:-1]] == [rows[line["row"] - 1] for line in not_in_list]
    assert lines[-2] == '"Name, 501";bad;=1+1;501;invalid;;sid_malformed'
    assert (tmp_path / "again.csv").read_bytes() == ended.raw
    assert again.code == 1
    assert [line["contact_sid"] for line in report_of(tmp_path / "run2")] == [
        line["contact_sid"] for line in not_in_list
    ]


def test_failed_of_a_headerless_input_gets_a_header(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Bare sids come out with a header, so that a bad first row is no header when they are fed back."""
    sids = sids_of(200)
    (tmp_path / "sids.txt").write_text("\n".join([*sids, "bad"]))
    importer_here("run", "sids.txt", *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)

    importer_here("failed", tmp_path / "run", "-o", "failed.csv", cwd=tmp_path)

    rows = list(csv.DictReader((tmp_path / "failed.csv").read_text().splitlines()))
    assert list(rows[0]) == ["contact_sid", "row", "outcome", "code", "reason"]
    assert rows[-1] == {"contact_sid": "bad", "row": "201", "outcome": "invalid", "code": "", "reason": "sid_malformed"}


def test_failed_never_overwrites_the_input(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """`failed -o` refuses to write over the run's own input."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(50))
    importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)
    before = contacts.read_bytes()

    ended = importer_here("failed", tmp_path / "run", "-o", contacts, cwd=tmp_path)

    assert ended.code == 2
    assert contacts.read_bytes() == before


def test_status_speaks_to_people_and_machines(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """`status` tells how a run stands, as a table or as the summary's keys in JSON."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(50))
    importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)

    shown = importer("status", tmp_path / "run", cwd=tmp_path)
    told = importer_here("status", tmp_path / "run", "--json", cwd=tmp_path)

    assert (shown.code, told.code) == (0, 0)
    assert "complete" in shown.out
    found = json.loads(told.out)
    assert (found.pop("running"), found["complete"], found["rows"]) == (False, True, 50)
    assert found.pop("seconds") == pytest.approx(summary_of(tmp_path / "run").pop("seconds"), abs=0.5)
    assert found == {key: value for key, value in summary_of(tmp_path / "run").items() if key != "seconds"}


def test_version_and_help(tmp_path: Path) -> None:
    """`--version` and every command's help come without ado."""
    version = importer("--version", cwd=tmp_path)
    helps = [
        importer_here(command, "--help", cwd=tmp_path) for command in ("run", "check", "status", "verify", "failed")
    ]

    assert version.out == f"importer {__version__}\n"
    assert all(ended.code == 0 and "Usage" in ended.out for ended in helps)


def test_sandbox_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """`sandbox` prints its address on standard output, plays the scenario, and ends well when it is told to."""
    (tmp_path / "scenario.yaml").write_text("account_sid: mine")
    with running("sandbox", "--port", 0, "--scenario", "scenario.yaml", cwd=tmp_path) as process:
        process.wait_for_word("Ctrl-C ends it")
        url = process.out.strip()
        with urllib.request.urlopen(f"{url}/_ledger") as answer:
            ledger = json.load(answer)
        process.send(signal.SIGTERM)
        ended = process.finish()

    assert ended.code == 0, ended.err
    assert "EXOTEL_ACCOUNT_SID=mine" in ended.err
    assert f"--base-url {url} --list {LIST}" in ended.err
    assert ledger["requests"] == 0


def test_demo_agrees_with_its_ledger(tmp_path: Path) -> None:
    """`importer demo` ends well, and what it proposes next works."""
    ended = importer("demo", cwd=tmp_path)

    assert ended.code == 0, ended.err
    assert "agrees with the sandbox's own ledger" in ended.out
    proposed = re.findall(r"importer (verify \S+)", ended.out)
    assert proposed
    assert all(importer(*shlex.split(command), cwd=tmp_path).code == 0 for command in proposed)


def test_a_closed_pipe_is_no_traceback(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """`importer failed … | head -1` ends quietly."""
    contacts = write_csv(tmp_path / "contacts.csv", ["bad"] * 20_000 + sids_of(10))
    importer_here("run", contacts, *sandbox.run_options(tmp_path / "run"), cwd=tmp_path)

    ended = subprocess.run(
        ["bash", "-c", f"{shlex.join(IMPORTER)} failed run | head -1"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )

    assert ended.stdout.startswith(b"name,contact_sid")
    assert b"Traceback" not in ended.stderr
