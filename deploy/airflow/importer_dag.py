"""A nightly import as an Airflow DAG (Airflow 3); docs/nightly.md is its guide.

Exit code 5 (incomplete: an outage, a kill) is tried again, and goes on where it was. Every other code fails at once:
the same command would end the same way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator

RUNS = "/var/lib/importer"  # on a volume that all workers share, or a retry elsewhere would begin anew
COMPLETE, SOME_NOT_IN_LIST, INCOMPLETE = 0, 1, 5
MEANINGS = {
    SOME_NOT_IN_LIST: "finished, but some rows are not in the list",
    2: "usage, configuration or input error",
    3: "stopped by a threshold",
    4: "refused by the API",
}


class ImporterOperator(BaseOperator):
    """Runs the command of its arguments, and turns its exit code into what Airflow understands."""

    template_fields: Sequence[str] = ("arguments",)

    def __init__(self, *, arguments: list[str], command: str = "importer", **more: Any) -> None:
        super().__init__(**more)
        self.arguments = arguments
        self.command = command
        self._hook = SubprocessHook()

    def execute(self, context: Any) -> None:  # noqa: ARG002  # as Airflow calls it
        """Run it to its end; its log lines become the task's."""
        environment = os.environ | {"IMPORTER_RUN__DIRECTORY": RUNS}
        exit_code = self._hook.run_command([self.command, *self.arguments], env=environment, cwd="/").exit_code
        if exit_code == COMPLETE:
            return
        if exit_code in MEANINGS:
            raise AirflowFailException(f"Exit code {exit_code}: {MEANINGS[exit_code]}.")
        raise AirflowException(f"Exit code {exit_code}: incomplete; the next try goes on where this one was.")

    def on_kill(self) -> None:
        """Let it end in good order: what is in flight may finish, and all is committed."""
        self._hook.send_sigterm()


with DAG(
    dag_id="importer",
    description="Adds the day's contacts to an Exotel Campaigns list",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # the quota is the account's; a second run would be refused
    default_args={
        "retries": 6,
        "retry_delay": timedelta(minutes=10),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(hours=1),
    },
) as dag:
    prune = ImporterOperator(task_id="prune", arguments=["prune", RUNS, "--older-than", "90d"], retries=0)
    # The worker's environment has IMPORTER_SECRETS_DIR, or the EXOTEL_… themselves.
    run = ImporterOperator(
        task_id="run",
        arguments=[
            "run",
            "/srv/contacts/contacts-{{ ds }}.csv",
            "--list",
            "4d61c2a0b5f14f0a9a9b2e0d3c5e7f81",
            "--unfinished",
            "finish",
        ],
        trigger_rule="all_done",  # whatever became of the pruning; and last, so that its end is that of the whole
    )
    prune >> run
