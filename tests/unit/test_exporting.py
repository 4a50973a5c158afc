"""Metrics are served, written and pushed; nothing that happens to them ever changes how a run ends."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from importer import exporting as module
from importer.errors import ImporterError, IncompleteError, InputError, RefusedError, SettingsError, ThresholdError
from importer.exporting import exporting
from importer.journal import Journal
from importer.metrics import FIRST_WORDS
from importer.metrics_http import MOST_CLIENTS
from importer.model import Attempt, ExitCode, Tally
from importer.recovery import STATE
from importer.settings import MetricsSettings, Settings
from tests.harness import wait_until
from tests.unit.runs import IDENTITY

NOW = 1_795_416_618.5
SUCCESS = "importer_last_success_timestamp_seconds"


def begun(**counts: Any) -> Tally:
    """The tally of a run that has begun."""
    return Tally(seconds=0.1, **counts)


def run(settings: MetricsSettings, directory: Path, exit_code: int = 0, *, at: float = NOW) -> None:
    """A command that ends with an exit code."""
    with exporting(settings, wall_clock=lambda: at) as export:
        export.of(directory, begun(batches=1))
        export.ended(exit_code)


def values_of(text: str) -> dict[str, float]:
    """The samples without labels."""
    lines = (line.split() for line in text.splitlines() if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in lines}


class Gateway:
    """A server that keeps what is posted to it, and answers as it is told."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.requests: list[tuple[str, str, str | None]] = []
        self.bodies: list[str] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                gateway.requests.append((self.command, self.path, self.headers["Authorization"]))
                gateway.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            do_PUT = do_GET = do_DELETE = do_POST  # noqa: N815  # so that another method would be seen

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def gateways() -> Iterator[Any]:
    """Makes gateways, which are closed at the end."""
    with ExitStack() as stack:

        def make(status: int = 200, **headers: str) -> Gateway:
            return stack.enter_context(closing(Gateway(status, headers)))

        yield make


def pushing_to(url: str) -> MetricsSettings:
    return MetricsSettings(pushgateway=SecretStr(url))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def served_port(logs: list[Any]) -> int:
    return next(int(each["port"]) for each in logs if each["event"] == "metrics_served")


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_nothing_is_done_where_nobody_asked(tmp_path: Path) -> None:
    """Without settings of metrics, what a run tells goes nowhere, and its exit code is handed on."""
    threads = threading.active_count()
    with exporting(MetricsSettings()) as export:
        export.of(tmp_path, Tally())(Attempt(1.0, 1.0, 1.0, 1, 200))

        assert export.ended(3) == 3
        assert threading.active_count() == threads


# The port


def test_port_serves_while_the_run_goes_on(tmp_path: Path) -> None:
    """Port 0 picks a free one and says which; it tells the counts of the moment, and closes with the run."""
    tally = begun()
    with capture_logs() as logs, exporting(MetricsSettings(port=0)) as export:
        watch = export.of(tmp_path, tally)
        port = served_port(logs)
        first = values_of(scrape(port))
        tally.batches += 2
        watch(Attempt(1.0, 1.0, 4.5, 1, 200))
        second = values_of(scrape(port))

    assert (first["importer_batches_total"], second["importer_batches_total"]) == (0, 2)
    assert second["importer_quota_wait_seconds_total"] == 4.5
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_port_in_use_is_one_sentence() -> None:
    """A port that another program listens on is refused before the run begins."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError) as refused, exporting(MetricsSettings(port=port)):
            pytest.fail("the run began")

    assert str(refused.value) == (
        f"metrics.port: 127.0.0.1:{port} cannot be listened on (Address already in use). "
        "Choose another one, or 0 for any that is free."
    )


def test_address_that_is_not_ours_is_one_sentence() -> None:
    """An address that this machine does not have is refused as a port in use is."""
    with (
        pytest.raises(SettingsError, match=r"^metrics.port: 192\.0\.2\.1:0 cannot be listened on \(.+\)\. Choose"),
        exporting(MetricsSettings(port=0, address="192.0.2.1")),
    ):
        pytest.fail("the run began")


def test_clients_that_never_finish_hold_nobody_up(tmp_path: Path) -> None:
    """With as many silent clients as there may be, others are turned away, and the run ends at once all the same."""
    with ExitStack() as clients:
        with capture_logs() as logs, exporting(MetricsSettings(port=0)) as export:
            export.of(tmp_path, begun())
            address = ("127.0.0.1", served_port(logs))
            for _ in range(MOST_CLIENTS):
                client = clients.enter_context(socket.create_connection(address))
                client.sendall(b"GET /metrics HTTP/1.1\r\n")
            late = clients.enter_context(socket.create_connection(address, timeout=10))
            with suppress(ConnectionError):
                assert late.recv(1) == b""
            began = time.monotonic()

        assert time.monotonic() - began < 5


def test_a_client_that_goes_away_is_no_event(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody hears of a client that asks and hangs up; the next one is answered."""
    with capture_logs() as logs, exporting(MetricsSettings(port=0)) as export:
        export.of(tmp_path, begun())
        port = served_port(logs)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")

        assert SUCCESS not in scrape(port)

    assert [each["event"] for each in logs] == ["metrics_served"]
    assert capfd.readouterr().err == ""


def test_only_reading_is_answered() -> None:
    """Whoever wants to change something is told that there is nothing to change."""
    with (
        capture_logs() as logs,
        exporting(MetricsSettings(port=0)),
        pytest.raises(HTTPError, match="501") as refused,
    ):
        urllib.request.urlopen(f"http://127.0.0.1:{served_port(logs)}/metrics", data=b"x")
    refused.value.close()


# The file


def test_file_is_for_all_to_read_and_alone(tmp_path: Path) -> None:
    """The file has the run's last word and mode 0644 under any umask, and nothing is left beside it."""
    folder = tmp_path / "textfiles"
    folder.mkdir()
    before = os.umask(0o077)
    try:
        run(MetricsSettings(textfile=folder / "importer.prom"), tmp_path)
    finally:
        os.umask(before)

    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert file.read_text().startswith(FIRST_WORDS)
    assert {"importer_batches_total": 1, "importer_running": 0, SUCCESS: NOW}.items() <= values_of(
        file.read_text()
    ).items()


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (InputError("x"), ExitCode.USAGE),
        (ThresholdError("x"), ExitCode.THRESHOLD),
        (RefusedError("x"), ExitCode.REFUSED),
        (IncompleteError("x"), ExitCode.INCOMPLETE),
        (ZeroDivisionError(), ExitCode.INCOMPLETE),
        (KeyboardInterrupt(), ExitCode.INCOMPLETE),
    ],
)
def test_a_run_that_fails_is_told_of_and_the_last_success_is_kept(
    tmp_path: Path, error: BaseException, exit_code: ExitCode
) -> None:
    """Whatever ends a command early is in the file as its exit code, beside the time at which one last finished."""
    settings = MetricsSettings(textfile=tmp_path / "importer.prom")
    run(settings, tmp_path, at=NOW)
    with pytest.raises(type(error)), exporting(settings, wall_clock=lambda: NOW + 60):
        raise error
    values = values_of((tmp_path / "importer.prom").read_text())

    assert values["importer_last_run_exit_code"] == exit_code
    assert (values["importer_last_run_timestamp_seconds"], values[SUCCESS]) == (NOW + 60, NOW)
    assert "importer_batches_total" not in values


def test_a_refused_port_is_told_of(tmp_path: Path) -> None:
    """A run that is refused for its port leaves exit code 2 in the file."""
    settings = MetricsSettings(port=0, address="192.0.2.1", textfile=tmp_path / "importer.prom")
    with pytest.raises(SettingsError), exporting(settings):
        pytest.fail("the run began")

    assert values_of((tmp_path / "importer.prom").read_text())["importer_last_run_exit_code"] == 2


def test_file_follows_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run goes on its file is written again and again, with what the run before it left."""
    monkeypatch.setattr(module, "REWRITE_SECONDS", 0.001)
    file = tmp_path / "importer.prom"
    run(MetricsSettings(textfile=file), tmp_path)
    tally = begun()
    with exporting(MetricsSettings(textfile=file)) as export:
        export.of(tmp_path, tally)
        tally.batches = 7
        wait_until(lambda: values_of(file.read_text()).get("importer_batches_total") == 7)
        values = values_of(file.read_text())

    assert (values["importer_running"], values[SUCCESS], values["importer_last_run_exit_code"]) == (1, NOW, 0)


def test_a_run_that_was_complete_is_no_new_success(tmp_path: Path) -> None:
    """The command once more, after its run has finished, leaves the time of the success as it is."""
    settings = MetricsSettings(textfile=tmp_path / "importer.prom")
    run(settings, tmp_path)
    write_journal(tmp_path, is_complete=True)
    run(settings, tmp_path, at=NOW + 60)
    values = values_of((tmp_path / "importer.prom").read_text())

    assert (values["importer_last_run_timestamp_seconds"], values[SUCCESS]) == (NOW + 60, NOW)


def write_journal(directory: Path, attempts: int = 0, *, is_complete: bool = False) -> None:
    """The journal of an earlier process."""

    async def write() -> None:
        journal = Journal(directory / STATE)
        await journal.begin(IDENTITY)
        for _ in range(attempts):
            journal.observe(Attempt(1.0, 2.0, 0.5, 5000, 503))
        await journal.save_counts(Tally())
        if is_complete:
            await journal.complete(ExitCode.COMPLETE, Tally())
        await journal.close()

    asyncio.run(write())


def test_a_resumed_run_counts_the_requests_of_its_journal(tmp_path: Path) -> None:
    """What earlier processes of a run sent stands in its journal, and goes on to be counted."""
    write_journal(tmp_path, attempts=3)
    with capture_logs() as logs, exporting(MetricsSettings(port=0)) as export:
        export.of(tmp_path, begun())(Attempt(1.0, 2.0, 0.5, 5000, 503))
        text = scrape(served_port(logs))

    assert 'importer_requests_total{status_class="5xx"} 4.0' in text
    assert values_of(text)["importer_quota_wait_seconds_total"] == 2.0


def test_a_journal_that_cannot_be_read_is_left_to_the_run(tmp_path: Path) -> None:
    """What is wrong with a journal is not for the metrics to say."""
    (tmp_path / STATE).write_text("no journal")
    with exporting(MetricsSettings(textfile=tmp_path / "importer.prom")) as export:
        export.of(tmp_path, begun())
        export.ended(2)

    assert 'importer_requests_total{status_class="2xx"} 0.0' in (tmp_path / "importer.prom").read_text()


def test_a_link_is_followed(tmp_path: Path) -> None:
    """Where the file is a link, what it leads to is replaced."""
    (tmp_path / "link.prom").symlink_to("real.prom")
    run(MetricsSettings(textfile=tmp_path / "link.prom"), tmp_path)

    assert (tmp_path / "link.prom").is_symlink()
    assert (tmp_path / "real.prom").read_text().startswith(FIRST_WORDS)


@pytest.mark.parametrize("name", ["contacts.csv", "device"])
def test_a_file_of_something_else_is_not_replaced(tmp_path: Path, name: str) -> None:
    """Neither contacts nor a device are overwritten, by whatever slip they are named as the file."""
    (tmp_path / "contacts.csv").write_text("contact_sid\n")
    (tmp_path / "device").symlink_to("/dev/null")
    with (
        pytest.raises(SettingsError, match=r"^metrics.textfile: .* holds something else, and would be replaced"),
        exporting(MetricsSettings(textfile=tmp_path / name)),
    ):
        pytest.fail("the run began")

    assert (tmp_path / "contacts.csv").read_text() == "contact_sid\n"


@pytest.mark.parametrize("name", ["missing/importer.prom", "."])
def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    """A wrong path is one sentence before the run begins, not a surprise after hours."""
    with (
        pytest.raises(SettingsError, match=r"^metrics.textfile: /.* cannot be written: .+\.$"),
        exporting(MetricsSettings(textfile=tmp_path / name)),
    ):
        pytest.fail("the run began")


def test_a_file_that_cannot_be_written_at_the_end_is_a_warning(tmp_path: Path) -> None:
    """If its directory goes away during the run, the run ends as it would have."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "importer.prom"
    with capture_logs() as logs, exporting(MetricsSettings(textfile=file)) as export:
        file.unlink()
        file.parent.rmdir()
        export.ended(0)

    assert [(each["event"], each["log_level"]) for each in logs] == [("metrics_not_written", "warning")]


def test_a_damaged_file_of_ours_is_replaced(tmp_path: Path) -> None:
    """What a crash of the machine left of the file keeps no run from writing it."""
    file = tmp_path / "importer.prom"
    for damaged in ("", f"{FIRST_WORDS}x\n{SUCCESS} 17x\n"):
        file.write_text(damaged)
        run(MetricsSettings(textfile=file), tmp_path)

        assert values_of(file.read_text())[SUCCESS] == NOW


# The gateway


def test_end_is_pushed_as_the_job(tmp_path: Path, gateways: Any) -> None:
    """At the end the metrics are added to the group of the job: POST, which leaves others in the group as they are."""
    gateway = gateways()
    settings = MetricsSettings(pushgateway=SecretStr(f"http://{gateway.address}/prefix/"), job="nightly")
    run(settings, tmp_path, 1)

    assert gateway.requests == [("POST", "/prefix/metrics/job/nightly", None)]
    assert {"importer_last_run_exit_code": 1, SUCCESS: NOW, "importer_batches_total": 1}.items() <= values_of(
        gateway.bodies[0]
    ).items()


def test_a_failed_run_leaves_the_success_at_the_gateway(tmp_path: Path, gateways: Any) -> None:
    """A run that fails says nothing of the last success, not even what stands in the file: so the gateway keeps it."""
    gateway = gateways()
    settings = MetricsSettings(textfile=tmp_path / "importer.prom", pushgateway=SecretStr(f"http://{gateway.address}"))
    run(settings, tmp_path)
    with pytest.raises(ImporterError), exporting(settings, wall_clock=lambda: NOW + 60):
        raise InputError("x")

    first, second = map(values_of, gateway.bodies)
    assert first[SUCCESS] == NOW
    assert SUCCESS not in second
    assert second["importer_last_run_exit_code"] == 2
    assert values_of((tmp_path / "importer.prom").read_text())[SUCCESS] == NOW


def test_credentials_of_the_address_are_sent_and_not_shown(tmp_path: Path, gateways: Any) -> None:
    """User and password go into the header, decoded; no log event and no setting shows them."""
    gateway = gateways(403)
    settings = pushing_to(f"http://someone:p%40ss@{gateway.address}")
    with capture_logs() as logs:
        run(settings, tmp_path)

    assert gateway.requests[0][2] == "Basic " + b64encode(b"someone:p@ss").decode()
    assert logs == [
        {
            "event": "metrics_not_pushed",
            "log_level": "warning",
            "gateway": "127.0.0.1",
            "error": "it answers 403 Forbidden",
        }
    ]
    shown = f"{settings!r} {settings.model_dump(mode='json')} {Settings(metrics=settings).model_dump_json()}"
    assert "p%40ss" not in shown
    assert "someone" not in shown


def test_credentials_follow_no_redirect(tmp_path: Path, gateways: Any) -> None:
    """A gateway that sends us elsewhere is a warning, and elsewhere hears nothing."""
    elsewhere = gateways()
    gateway = gateways(302, Location=f"http://{elsewhere.address}/")
    with capture_logs() as logs:
        run(pushing_to(f"http://someone:secret@{gateway.address}"), tmp_path)

    assert [each["error"] for each in logs] == ["it answers 302 Found"]
    assert elsewhere.requests == []


def test_a_gateway_that_is_down_is_a_warning(tmp_path: Path) -> None:
    """Nothing listens there: the run ends as it would have."""
    with capture_logs() as logs:
        run(pushing_to(f"http://127.0.0.1:{free_port()}"), tmp_path)

    assert [(each["event"], each["log_level"]) for each in logs] == [("metrics_not_pushed", "warning")]
    assert "refused" in logs[0]["error"]


def test_a_gateway_that_says_nothing_is_waited_for_no_longer_than_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that takes the connection and never answers delays the end by the time-out, and changes nothing."""
    monkeypatch.setattr(module, "PUSH_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, capture_logs() as logs:
        run(pushing_to(f"http://127.0.0.1:{silent.getsockname()[1]}"), tmp_path)

    assert [each["event"] for each in logs] == ["metrics_not_pushed"]
    assert "timed out" in logs[0]["error"] or "no answer within" in logs[0]["error"]


def test_a_gateway_that_talks_nonsense_is_a_warning(tmp_path: Path) -> None:
    """What answers there need not speak HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with capture_logs() as logs:
            run(pushing_to(f"http://127.0.0.1:{server.getsockname()[1]}"), tmp_path)
        thread.join()

    assert [each["event"] for each in logs] == ["metrics_not_pushed"]


# The settings


@pytest.mark.parametrize(
    ("section", "error"),
    [
        ({"port": 65536}, "less than or equal to 65535"),
        ({"port": -1}, "greater than or equal to 0"),
        ({"address": "localhost"}, "must be an IP address, such as 127.0.0.1 or 0.0.0.0"),
        ({"pushgateway": "127.0.0.1:9091"}, "must be the address of a Pushgateway, such as http://127.0.0.1:9091"),
        ({"pushgateway": "ftp://host"}, "must be the address of a Pushgateway"),
        ({"pushgateway": "http://host:port"}, "must be the address of a Pushgateway"),
        ({"pushgateway": "http://host/?a=b"}, "must be the address of a Pushgateway"),
        ({"pushgateway": "http://[::1"}, "must be the address of a Pushgateway"),
        ({"pushgateway": "http://ho\nst"}, "must be the address of a Pushgateway"),
        ({"job": ""}, "at least 1 character"),
    ],
)
def test_a_wrong_setting_is_explained(section: dict[str, Any], error: str) -> None:
    """Each setting of metrics that cannot be meant is refused with what it must be."""
    with pytest.raises(ValidationError) as refused:
        MetricsSettings.model_validate(section)

    assert error in str(refused.value)


@pytest.mark.parametrize(
    "section", [{"address": "::1"}, {"pushgateway": "https://user:word@gateway/metrics-of/us"}, {"port": "9464"}]
)
def test_a_right_setting_is_taken(section: dict[str, Any]) -> None:
    """Addresses of both kinds, an address below a path, and numbers in digits are right."""
    assert MetricsSettings.model_validate(section)
