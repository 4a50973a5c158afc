"""The demonstration: a CSV file, a sandbox, an import, and a check of the report against the ledger."""

from __future__ import annotations

import csv
import random
import shlex
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
from pydantic import SecretStr

from importer.inputs import Input
from importer.job import job_of
from importer.logs import Masker, configure_logs
from importer.model import ContactResult, Outcome, Tally
from importer.progress import showing
from importer.recovery import REPORT
from importer.run import run
from importer.sandbox import Sandbox, Scenario, digest_of
from importer.settings import ApiSettings, Credentials, DeliverySettings, RetrySettings, Settings
from importer.shutdown import Shutdown
from importer.tables import show_summary

ROWS = 60_000
_SCENARIO = """
seed: 11
population: {member: 0.01, unknown: 0.002, refused: 0.001}
latency: {median_seconds: 0.4, spread: 0.3}
limit: {requests_per_minute: 150, headers: true}
faults:
  - {requests: [3], status: 503}
  - {requests: [6], reset: after}
  - {requests: [9], items: missing, fraction: 0.02}
  - {requests: [2], items: shuffled}
"""


async def run_demo(directory: Path | None, echo: Callable[[str], None], on_start: Callable[[Shutdown], None]) -> int:
    """Run it below `directory`, and give the exit code: 0 if report and ledger agree."""
    folder = _make_folder(directory)
    contacts = folder / "contacts.csv"
    echo(f"Making {contacts}: {ROWS:,} contacts, some of them bad …")
    _make_contacts(contacts, random.Random(11))  # noqa: S311  # made-up contacts, not cryptography
    scenario = Scenario.from_text(_SCENARIO, origin="demo")
    sandbox = Sandbox(scenario)
    tally, shutdown = Tally(), Shutdown(grace_seconds=5)
    on_start(shutdown)
    configure_logs("warning", "auto", Masker())
    async with sandbox.serve() as url:
        echo(f"Importing it into a sandbox at {url}, which has a bad day …")
        settings = Settings(
            api=ApiSettings(base_url=url),
            delivery=DeliverySettings(requests_per_minute=140),
            retry=RetrySettings(initial_wait_seconds=0.5),
        )
        list_sid = scenario.lists[0]
        source = Input(str(contacts))
        credentials = Credentials(api_key=SecretStr(scenario.api_key), api_token=SecretStr(scenario.api_token))
        job = job_of(source, list_sid, settings, scenario.account_sid, credentials, folder / "run")
        async with showing(tally, job, shutdown):
            summary = (await run(job, tally, shutdown)).summary
    show_summary(summary, job.directory)
    if summary.error:
        echo(f"importer: {summary.error}")
        return int(summary.exit_code or 0)
    differences = _compare(job.directory / REPORT, sandbox, scenario.lists[0])
    for difference in differences:
        echo(f"DIFFERENCE: {difference}")
    if not differences:
        echo("\nThe report agrees with the sandbox's own ledger, contact by contact:")
        echo("nothing lost, nothing made up.")
    echo(f"The files are in {folder}: contacts.csv and the run's own directory, run.\n")
    run_dir = shlex.quote(str(job.directory))
    echo(f"Next: prove it again         importer verify {run_dir}")
    echo(f"      what did not get in    importer failed {run_dir}")
    echo("      look at your own file  importer check FILE --column NAME")
    echo("      play with the API      importer sandbox --scenario rough-night")
    return 1 if differences else 0


def _make_folder(wanted: Path | None) -> Path:
    """Make the folder; without a wanted one, the first that is not there yet."""
    names = (Path("importer-demo") if number == 1 else Path(f"importer-demo-{number}") for number in count(1))
    folder = wanted or next(path for path in names if not path.exists())
    folder.mkdir(parents=True)
    return folder


def _make_contacts(path: Path, chance: random.Random) -> None:
    sids: list[str] = []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "contact_sid", "city", "note"])
        for number in range(1, ROWS + 1):
            sid = f"{chance.getrandbits(128):032x}"
            match chance.randrange(1000):
                case 0:
                    sid = ""
                case 1:
                    sid = sid[:-3]
                case 2 | 3 if sids:
                    sid = sids[-chance.randrange(1, min(len(sids), 50) + 1)]
            sids.append(sid)
            writer.writerow([f"Person {number}", sid, chance.choice(["Pune", "Delhi", "Kochi"]), 'says "hi",\nand bye'])


def _compare(report: Path, sandbox: Sandbox, list_sid: str) -> list[str]:
    """Compare what the report says with what the sandbox did."""
    decode = msgspec.json.Decoder(ContactResult).decode
    rows: set[int] = set()
    in_list: set[str] = set()
    with report.open("rb") as lines:
        for line in map(decode, lines):
            rows.add(line.row)
            if line.outcome in {Outcome.ADDED, Outcome.ALREADY_PRESENT} and line.contact_sid:
                in_list.add(line.contact_sid)
    members = {sid for sid in in_list if sandbox.scenario.population.standing(sid).name == "MEMBER"}
    differences = []
    if rows != set(range(1, ROWS + 1)):
        differences.append(f"the report has {len(rows):,} of {ROWS:,} rows")
    truth = sandbox.ledger.snapshot()["lists"][list_sid]
    if (len(in_list - members), digest_of(in_list - members)) != (truth["added"], truth["digest"]):
        differences.append(f"the report has {len(in_list - members):,} contacts added, the ledger {truth['added']:,}")
    return differences
