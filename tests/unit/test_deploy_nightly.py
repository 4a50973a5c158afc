"""What schedules the nightly import says what the command says: its options, its exit codes, its time to end."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any

import pytest
import typer
from typer.main import get_command

from importer.cli import app
from importer.model import ExitCode
from importer.prune import parse_age
from importer.settings import Credentials, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
ENDS_THE_SAME_AGAIN = {code.value for code in ExitCode} - {ExitCode.COMPLETE, ExitCode.INCOMPLETE}


def parsed(command: Sequence[str]) -> dict[str, Any]:
    """The command's parameters, as the real command line reads them."""
    name, *arguments = command
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    context = group.commands[name].make_context(name, arguments)
    return context.params


def unit(name: str) -> dict[str, list[str]]:
    """A unit's settings; some stand in it more than once."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        if match := re.match(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def command_of(line: str) -> list[str]:
    path, *arguments = shlex.split(line.removeprefix("-"))
    assert path == "/opt/importer/bin/importer"
    return arguments


def test_service_restarts_what_a_restart_can_finish() -> None:
    """An incomplete run, or one that was killed, goes on; whatever would end the same way again waits for a person."""
    service = unit("importer@.service")

    assert (service["Type"], service["Restart"]) == (["oneshot"], ["on-failure"])
    assert set(map(int, service["RestartPreventExitStatus"][0].split())) == ENDS_THE_SAME_AGAIN
    assert "SuccessExitStatus" not in service


def test_service_leaves_time_to_end() -> None:
    """A stop waits for longer than requests in flight may take to finish, and a start for as long as it takes."""
    service = unit("importer@.service")

    assert int(service["TimeoutStopSec"][0]) >= Settings().run.shutdown_grace_seconds + 30
    assert service["TimeoutStartSec"] == ["infinity"]


def test_service_hands_over_all_credentials() -> None:
    """Each credential comes as a file of its name, and nowhere else."""
    service = unit("importer@.service")
    names = {f"EXOTEL_{field.upper()}" for field in Credentials.model_fields}

    assert {line.split(":")[0] for line in service["LoadCredential"]} == names
    assert "IMPORTER_SECRETS_DIR=%d" in service["Environment"][0].split()
    assert not re.search("EXOTEL_.*=", (DEPLOY / "systemd" / "contacts.env.example").read_text())


def test_commands_of_the_service_are_understood() -> None:
    """What the service runs are commands with options that exist, on the one directory that it may write to."""
    service = unit("importer@.service")
    example = (DEPLOY / "systemd" / "contacts.env.example").read_text()
    given = dict(line.split("=", 1) for line in example.splitlines() if not line.startswith("#"))

    (start,), (before,) = service["ExecStart"], service["ExecStartPre"]
    run = parsed(command_of(re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], start)))
    prune = parsed(command_of(before))

    assert (run["input_"], run["list_sid"], run["unfinished"]) == (given["INPUT"], given["LIST"], "finish")
    assert str(prune["directory"]) == f"/var/lib/{service['StateDirectory'][0]}"
    assert f"IMPORTER_RUN__DIRECTORY={prune['directory']}" in service["Environment"][0].split()
    assert parse_age(prune["older_than"]) > 0


def test_timer_makes_up_for_a_missed_night() -> None:
    """A night that the machine slept through is made up for."""
    timer = unit("importer@.timer")

    assert timer["Persistent"] == ["true"]
    assert timer["WantedBy"] == ["timers.target"]


def cron_lines() -> tuple[dict[str, str], list[str]]:
    """The crontab's variables and its commands, as cron hands them to the shell."""
    lines = [line for line in (DEPLOY / "cron" / "importer").read_text().splitlines() if line and line[0] != "#"]
    variables = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    commands = [re.sub(r"^(\S+ ){5}importer ", "", line) for line in lines if re.match(r"[\d*]", line)]
    return variables, commands


def test_crontab_is_understood() -> None:
    """Its commands have options that exist; no '%' stands in them, which cron would take for a line end."""
    variables, commands = cron_lines()
    expanded = [re.sub(r"\$([A-Z_]+)", lambda match: variables[match[1]], line) for line in commands]

    run = parsed(command_of(expanded[0].split(" 2>>")[0]))
    prune = parsed(command_of(expanded[1].split(" >>")[0]))

    assert (run["input_"], run["list_sid"], run["unfinished"]) == (variables["INPUT"], variables["LIST"], "finish")
    assert str(prune["directory"]) == variables["IMPORTER_RUN__DIRECTORY"]
    assert not any("%" in command for command in commands)
    assert {"MAILTO", "IMPORTER_SECRETS_DIR"} <= variables.keys()


class _FailError(Exception):
    """Stands for Airflow's exception that is not tried again."""


class _AgainError(Exception):
    """Stands for Airflow's exception that is."""


class _Operator:
    """Stands for Airflow's operators and DAGs."""

    made: dict[str, Any]

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.before: _Operator | None = None

    def __enter__(self) -> _Operator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def __rshift__(self, after: _Operator) -> None:
        after.before = self


class _Hook:
    """Stands for what runs the command: it ends as it is told."""

    exit_code = 0

    def run_command(self, _: list[str], **__: object) -> SimpleNamespace:
        return SimpleNamespace(exit_code=self.exit_code)


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The DAG's file, read with stand-ins of Airflow."""
    homes: dict[str, dict[str, object]] = {
        "airflow": {},
        "airflow.exceptions": {"AirflowException": _AgainError, "AirflowFailException": _FailError},
        "airflow.providers": {},
        "airflow.providers.standard": {},
        "airflow.providers.standard.hooks": {},
        "airflow.providers.standard.hooks.subprocess": {"SubprocessHook": _Hook},
        "airflow.sdk": {"DAG": _Operator, "BaseOperator": _Operator},
    }
    for name, content in homes.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return runpy.run_path(str(DEPLOY / "airflow" / "importer_dag.py"))


@pytest.mark.parametrize("code", [*range(6), -9, 137])
def test_airflow_tries_again_what_is_incomplete(
    dag: dict[str, Any], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Exit code 5 and a kill are tried again, 1 to 4 fail at once, and 0 is success."""
    monkeypatch.setattr(_Hook, "exit_code", code)
    ended: type[BaseException] | None = None
    try:
        dag["run"].execute({})
    except (_FailError, _AgainError) as error:
        ended = type(error)

    assert ended is (None if code == ExitCode.COMPLETE else _FailError if code in ENDS_THE_SAME_AGAIN else _AgainError)


def test_airflow_commands_are_understood(dag: dict[str, Any]) -> None:
    """The commands have options that exist; the run comes last, for its end is the whole DAG's."""
    run, prune = parsed(dag["run"].arguments), parsed(dag["prune"].arguments)

    assert (run["unfinished"], str(prune["directory"])) == ("finish", dag["RUNS"])
    assert dag["run"].before is dag["prune"]
    assert dag["dag"].fields["max_active_runs"] == 1
