"""The sandbox on a socket: reads requests, hands them to the engine, and does to the connection what it is told.

Holds no rule of the API; whatever is decided, `engine` has decided it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from importer.sandbox.api import Head
from importer.sandbox.engine import Ending, Engine, Reply
from importer.sandbox.errors import SandboxError
from importer.sandbox.scenario import Scenario
from importer.sandbox.views import list_view, other_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from importer.sandbox.ledger import Ledger

# How long a handler that was cancelled may take to end; it has nothing left to do.
_CLOSE_SECONDS = 0.05


class Sandbox:
    """A stand-in of the API. Its ledger and its clock outlive the serving, so that it can go down and come back."""

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        clock: Callable[[], float] | None = None,
        wall_clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.scenario = scenario or Scenario()
        # Limits and latencies follow the loop's clock, so that a loop with virtual time plays hours in moments.
        self.engine = Engine(self.scenario, clock=clock or _loop_time, wall_clock=wall_clock)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def ledger(self) -> Ledger:
        """What truly happened since the beginning or the last reset."""
        return self.engine.ledger

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve while the context lasts and give the base URL; port 0 picks a free one.

        On leaving, whatever is still open is closed at once. Raises SandboxError where it cannot listen.
        """
        loop = asyncio.get_running_loop()
        server = web.Server(self._handle, request_factory=self._request, access_log=None)
        try:
            listener = await loop.create_server(
                lambda: server() if self.engine.accepts_connections() else _Refusal(), host, port, backlog=1024
            )
        except OSError as error:
            reason = errno.errorcode.get(error.errno or 0, "") and error.strerror
            msg = f"cannot listen on {host}:{port}: {reason or error}; choose another port, or 0 for a free one"
            raise SandboxError(msg) from error
        bound = listener.sockets[0].getsockname()[1]
        try:
            yield f"http://{host}:{bound}"
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await server.shutdown(_CLOSE_SECONDS)
            await listener.wait_closed()

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        bound = self.scenario.api.max_body_bytes
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=bound)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is handled in a task")
        self._tasks.add(task)
        try:
            return await self._answered(request)
        except ConnectionError:
            # The client has gone before its answer: nobody is left to tell, and nothing is wrong here.
            return web.Response()
        finally:
            self._tasks.discard(task)

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/_ledger"):
            return await other_view(self.engine, request)
        if not self.engine.accepts_connections():
            return _aborted(request)
        match request.path.split("/"):
            case ["", "v2", "accounts", account, "lists", list_sid, "contacts"] if request.method == "POST":
                return await self._call(request, _head(request, account, list_sid))
            case ["", "v2", "accounts", account, "lists", list_sid] if request.method == "GET":
                return list_view(self.engine, _head(request, account, list_sid))
        return await other_view(self.engine, request)

    async def _call(self, request: web.BaseRequest, head: Head) -> web.StreamResponse:
        visit = self.engine.arrive(head)
        if visit.is_reset_before_reading:
            self.engine.abandon("reset")
            return _aborted(request)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return await _sent(request, self.engine.oversized(visit), self.engine)
        except BaseException:
            # The client has gone or the sandbox stops: the contacts have not been looked at.
            self.engine.abandon("incomplete")
            raise
        return await _sent(request, self.engine.receive(visit, body), self.engine)


async def _sent(request: web.BaseRequest, reply: Reply, engine: Engine) -> web.StreamResponse:
    if reply.delay_seconds:
        await asyncio.sleep(reply.delay_seconds)
    if reply.ending is Ending.RESET:
        return _aborted(request)
    headers = {"Date": engine.http_date, **reply.headers, "Content-Type": reply.content_type}
    if reply.ending is Ending.COMPLETE and not reply.slow_seconds:
        return web.Response(body=reply.body, status=reply.status, headers=headers)
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_length = reply.announced_length
    if reply.ending is Ending.CUT:
        response.force_close()
    await response.prepare(request)
    size = max(1, -(-len(reply.body) // reply.chunks))
    for start in range(0, len(reply.body), size):
        if reply.slow_seconds:
            await asyncio.sleep(reply.slow_seconds / reply.chunks)
        await response.write(reply.body[start : start + size])
    return response


def _head(request: web.BaseRequest, account_sid: str, list_sid: str) -> Head:
    authorization = request.headers.get("Authorization", "")
    return Head(account_sid, list_sid, authorization, request.headers.get("Content-Type", ""))


def _aborted(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection; the response returned goes nowhere."""
    if request.transport is not None:
        _abort(request.transport)
    return web.Response()


def _abort(transport: asyncio.BaseTransport) -> None:
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        # Lingering for zero seconds turns the close into a reset.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


class _Refusal(asyncio.Protocol):
    """A connection that is closed as soon as it is accepted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _abort(transport)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
