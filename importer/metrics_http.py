"""Metrics over HTTP: served to Prometheus while a run goes on, pushed to a Pushgateway at its end."""

from __future__ import annotations

import base64
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from threading import BoundedSemaphore, Thread
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import structlog
from prometheus_client import CollectorRegistry, MetricsHandler, pushadd_to_gateway

from importer.metrics import RunMetrics

CLIENT_TIMEOUT_SECONDS = 10.0
MOST_CLIENTS = 16  # at a time: whoever connects and never asks must not use up the run's files and threads


@contextmanager
def serving(metrics: RunMetrics, address: str, port: int) -> Iterator[int]:
    """Serve the metrics from threads of their own, and give the port. Raises OSError where that is not to be had."""
    server = _Server(address, port, metrics.registry)
    # Its threads are daemons: no client, however slow, holds up the end of the run.
    Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def push(metrics: RunMetrics, url: str, job: str, timeout_seconds: float) -> None:
    """Send what a run has to say to a Pushgateway. Raises whatever stands in the way.

    What it has not to say stays there as it is: the time of the last success above all.
    """
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    send = _sender(unquote(parts.username or ""), unquote(parts.password or ""))
    # Not with an `instance`: it is the import that succeeds or fails, wherever it happens to run.
    pushadd_to_gateway(address, job, metrics.own(), timeout=timeout_seconds, handler=send)


class _Handler(MetricsHandler):
    """Answers one request of a client, which has to go on asking."""

    timeout = CLIENT_TIMEOUT_SECONDS
    server_version = "importer"
    sys_version = ""


class _Server(ThreadingHTTPServer):
    """Serves a few clients at a time, and concerns nobody with their troubles."""

    daemon_threads = True
    request_queue_size = MOST_CLIENTS

    def __init__(self, address: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._free = BoundedSemaphore(MOST_CLIENTS)
        super().__init__((address, port), _Handler.factory(registry))

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would ask the DNS for our name, and wait
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002  # the base class's form
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the base class's form
        error = sys.exception()
        if not isinstance(error, OSError):  # else the client has gone
            structlog.get_logger().warning("metrics_not_served", error=repr(error))


class _NoRedirect(HTTPRedirectHandler):
    """Takes a redirect for an error: credentials must not follow it."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _sender(user: str, password: str) -> Callable[..., Callable[[], None]]:
    """Give what the library sends with: unlike its own, it follows no redirect and closes what it opens."""

    def prepare(
        url: str, method: str, timeout: float, headers: Sequence[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        request = Request(url, data, dict(headers), method=method)  # noqa: S310  # the settings allow http and https only
        if user or password:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {pair}")

        def send() -> None:
            try:
                build_opener(_NoRedirect).open(request, timeout=timeout).close()
            except HTTPError as error:
                with error:
                    raise OSError(f"it answers {error.code} {error.reason}") from None

        return send

    return prepare
