"""The command tells its metrics: on a port, in a file, at a gateway; and ends as it would have without."""

from __future__ import annotations

import json
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_startup import loaded_by
from tests.harness import (
    LIST,
    ServedSandbox,
    environment,
    importer,
    importer_here,
    running,
    serving,
    sids_of,
    summary_of,
    write_csv,
)

SUCCESS = "importer_last_success_timestamp_seconds"


@contextmanager
def gateway() -> Iterator[tuple[str, list[str]]]:
    """A tiny gateway on loopback: its address, and what is pushed to it."""
    pushed: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            pushed.append(self.path + "\n" + self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", pushed
        server.shutdown()
        thread.join()


def values_of(text: str) -> dict[str, float]:
    """Each sample by its name and labels."""
    samples = (line.rpartition(" ") for line in text.splitlines() if line.startswith("importer_"))
    return {name: float(value) for name, _, value in samples}


def counts_of(values: dict[str, float], metric: str) -> dict[str, int]:
    """The counts of one metric by the value of its label, without zeros."""
    found = ((re.fullmatch(rf'{metric}{{\w+="(\w+)"}}', name), value) for name, value in values.items())
    return {match[1]: int(value) for match, value in found if match and value}


def test_file_and_gateway_say_what_the_summary_says(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """After a run its metrics agree with its summary, in the file and at the gateway alike, and name nobody."""
    sids = sids_of(1_000)
    contacts = write_csv(tmp_path / "contacts.csv", sids)
    with gateway() as (url, pushed):
        options = ["--metrics-textfile", "importer.prom", "--metrics-pushgateway", url, "--batch-size", 300]
        ended = importer("run", contacts, *sandbox.run_options(tmp_path / "run"), *options, cwd=tmp_path)

    assert ended.code == 1, ended.err
    summary = summary_of(tmp_path / "run")
    text = (tmp_path / "importer.prom").read_text()
    values = values_of(text)
    assert counts_of(values, "importer_contacts_total") == {k: v for k, v in summary["outcomes"].items() if v}
    assert counts_of(values, "importer_requests_total") == {"2xx": summary["requests"]}
    assert values["importer_batches_total"] == summary["batches"] == 4
    assert (values["importer_run_complete"], values["importer_last_run_exit_code"]) == (1, 1)
    assert SUCCESS in values
    assert pushed == ["/metrics/job/importer\n" + text]
    assert not any(private in text for private in (LIST, *sids, str(tmp_path), "contacts.csv", "sandbox"))


def test_port_tells_of_the_run_under_way_and_a_restart_goes_on(tmp_path: Path) -> None:
    """A resumed run tells the counts of the whole run as soon as it tells any: no counter goes back."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(400))
    with serving("population: {member: 0.05}") as sandbox:
        options = ["run", contacts, *sandbox.run_options(tmp_path / "run"), "--batch-size", 10, "--concurrency", 1]
        options += ["--requests-per-minute", 600, "--metrics-textfile", "importer.prom"]
        with running(*options, cwd=tmp_path) as first:
            first.wait_for_word("batch_finished")
            first.send(signal.SIGTERM)
            stopped = first.finish()
        left = values_of((tmp_path / "importer.prom").read_text())
        with running(*options, "--metrics-port", 0, cwd=tmp_path) as second:
            second.wait_for_word("run_resumed")
            port = next(json.loads(line)["port"] for line in second.err.splitlines() if "metrics_served" in line)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                scraped = values_of(answer.read().decode())
            second.send(signal.SIGINT)
            second.finish()

    assert stopped.code == left["importer_last_run_exit_code"] == 5
    assert SUCCESS not in left
    assert left["importer_batches_total"] > 0
    for counter in ("importer_batches_total", 'importer_requests_total{status_class="2xx"}'):
        assert scraped[counter] >= left[counter]
    assert (scraped["importer_running"], scraped["importer_last_run_exit_code"]) == (1, 5)


def test_a_port_in_use_is_refused_before_anything_is_sent(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """Where the port is taken the command says so, exits with 2, and has not made a request."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(10))
    port = sandbox.url.rpartition(":")[2]
    options = [*sandbox.run_options(tmp_path / "run"), "--metrics-port", port]
    ended = importer_here("run", contacts, *options, cwd=tmp_path)

    assert ended.code == 2
    assert ended.err.startswith(f"importer: metrics.port: 127.0.0.1:{port} cannot be listened on")
    assert len(ended.err.splitlines()) == 1
    assert sandbox.ledger()["requests"] == 0
    assert not (tmp_path / "run").exists()


def test_an_input_that_is_missing_is_told_of(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """The file that did not come tonight is exit code 2 in the metrics, and the last success stays what it was."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(10))
    options = [*sandbox.run_options(tmp_path / "run"), "--metrics-textfile", "importer.prom"]
    importer_here("run", contacts, *options, cwd=tmp_path)
    before = values_of((tmp_path / "importer.prom").read_text())
    contacts.unlink()
    ended = importer_here("run", contacts, *options, cwd=tmp_path)
    after = values_of((tmp_path / "importer.prom").read_text())

    assert ended.code == after["importer_last_run_exit_code"] == 2
    assert after[SUCCESS] == before[SUCCESS] == before["importer_last_run_timestamp_seconds"]


def test_credentials_of_the_gateway_stay_secret(tmp_path: Path, sandbox: ServedSandbox) -> None:
    """They come from the environment, stand in no file and no log, and are refused as a flag."""
    contacts = write_csv(tmp_path / "contacts.csv", sids_of(10))
    options = sandbox.run_options(tmp_path / "run")
    url = "http://someone:hush@127.0.0.1:1"
    ended = importer_here("run", contacts, *options, cwd=tmp_path, env=environment(IMPORTER_METRICS__PUSHGATEWAY=url))
    refused = importer_here("run", contacts, *options, "--metrics-pushgateway", url, cwd=tmp_path)

    assert (ended.code, refused.code) == (1, 2)
    assert "metrics_not_pushed" in ended.err
    assert "IMPORTER_METRICS__PUSHGATEWAY" in " ".join(refused.err.split())
    shown = b"".join(path.read_bytes() for path in (tmp_path / "run").iterdir()).decode("latin-1")
    assert "hush" not in shown + ended.err + ended.out + refused.err + refused.out


@pytest.mark.parametrize("option", [(), ("--metrics-textfile", "importer.prom")])
def test_the_library_is_loaded_for_those_who_ask(tmp_path: Path, option: tuple[str, ...]) -> None:
    """A run that nobody watches does not wait for the library of the metrics."""
    loaded = loaded_by(tmp_path, "-m", "importer", "run", "missing.csv", "--list", LIST, *option)

    assert ("prometheus_client" in loaded) == bool(option)
