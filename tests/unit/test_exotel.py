"""One attempt of the call, against scripted answers and against real servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import gzip
import inspect
import json
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from shutil import which
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse, web
from aioresponses import aioresponses
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from importer.answers import Answer, Answered, Lost, NotSent, Refused, Throttled
from importer.exotel import Exotel, encode_body, max_answer_bytes, read_limits, retry_after_seconds
from importer.model import ApiError, Outcome, Reason
from importer.rate import RateLimits
from importer.reconcile import reconcile
from importer.settings import REGIONS
from tests.unit.fakes import LIST, encode, failure, sids_of, success
from tests.virtual_time import in_virtual_time

KEY, TOKEN = "thekey", "thetoken:ü"
AUTHORIZATION = "Basic " + base64.b64encode(f"{KEY}:{TOKEN}".encode()).decode()
PATH = f"/v2/accounts/acme/lists/{LIST}/contacts"
TWO = sids_of(2)
BOTH = encode([success(sid) for sid in TWO], metadata={"total": 2, "success": 2, "failed": 0})

RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def exotel(base_url: str) -> Exotel:
    return Exotel(
        base_url=base_url,
        account_sid="acme",
        list_sid=LIST,
        api_key=KEY,
        api_token=TOKEN,
        connect_timeout_seconds=10,
        request_timeout_seconds=120,
    )


async def ask(base_url: str, sids: list[str] | None = None) -> Answer:
    async with exotel(base_url) as api:
        return await api.add_contacts(TWO if sids is None else sids)


def seconds() -> float:
    return asyncio.get_running_loop().time()


class Seen:
    """The requests that a server got."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []


@asynccontextmanager
async def server(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], **site: Any
) -> AsyncIterator[tuple[str, Seen]]:
    """Serve every path on loopback."""
    seen = Seen()

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.requests.append(request)
        seen.bodies.append(await request.read())
        return await answer(request)

    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    listener = web.SockSite(runner, listening_socket(), **site)
    await listener.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'https' if site else 'http'}://127.0.0.1:{port}", seen
    finally:
        await runner.cleanup()


def listening_socket(backlog: int = 128) -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener


@asynccontextmanager
async def raw_server(answer: RawHandler) -> AsyncIterator[str]:
    """Read a request, and then do as told with the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(length)
            await answer(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


def saying(data: bytes) -> RawHandler:
    """Make a handler that sends these bytes, and closes the connection."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


async def fully_added(_: web.Request) -> web.StreamResponse:
    return web.Response(body=BOTH, status=207, content_type="application/json")


# --- Classification


class ScriptedResponse(ClientResponse):
    """What aioresponses builds. Recent releases of aiohttp want an argument that it does not know of."""

    def __init__(self, method: str, url: URL, **arguments: Any) -> None:
        known = inspect.signature(ClientResponse.__init__).parameters
        late: dict[str, Any] = {"stream_writer": SimpleNamespace(output_size=0)} if "stream_writer" in known else {}
        super().__init__(method, url, **late, **arguments)


@pytest.mark.parametrize("region", ["mumbai", "singapore"])
async def test_call_goes_to_the_region(region: str) -> None:
    """Each region has its host, and the path is as documented."""
    url = REGIONS[region] + PATH

    with aioresponses() as mocked:
        mocked.post(url, status=207, body=BOTH, response_class=ScriptedResponse)
        answer = await ask(REGIONS[region])

    assert isinstance(answer, Answered)
    assert [("POST", url)] == [(method, str(asked)) for method, asked in mocked.requests]


def test_regions_are_the_documented_ones() -> None:
    """Mumbai and Singapore have the hosts that the vendor names."""
    assert REGIONS == {"mumbai": "https://api.in.exotel.com", "singapore": "https://api.exotel.com"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (401, {}, b"<html>", Refused(401)),
        (
            403,
            {},
            encode(failure(403, 1003), http_code=403),
            Refused(403, ApiError(1003, "Invalid parameter", "so it is")),
        ),
        (404, {}, b"", Refused(404)),
        (429, {"Retry-After": "30"}, b"slow down", Throttled(30.0)),
        (429, {}, b'{"message": "Too many"}', Throttled(None)),
        (429, {"Retry-After": "soon"}, b"", Throttled(None)),
        (503, {"Retry-After": "7"}, b"", Lost(Reason.SERVER_ERROR, "HTTP 503", 7.0, 503)),
        (500, {}, b"<html>", Lost(Reason.SERVER_ERROR, "HTTP 500", None, 500)),
        (400, {}, encode(failure(400)), Refused(400, ApiError(1002, "Invalid parameter", "so it is"))),
        (413, {}, b"", Refused(413)),
    ],
)
async def test_answer_is_classified(status: int, headers: dict[str, str], body: bytes, expected: Answer) -> None:
    """Status, headers and body become one value."""
    with aioresponses() as mocked:
        mocked.post(
            REGIONS["mumbai"] + PATH, status=status, headers=headers, body=body, response_class=ScriptedResponse
        )
        answer = await ask(REGIONS["mumbai"])

    assert msgspec.structs.replace(expected, http_status=status) == answer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), Reason.TIMED_OUT),
        (ConnectionResetError("gone"), Reason.CONNECTION_LOST),
        (OSError("disk on fire"), Reason.CONNECTION_LOST),
    ],
)
async def test_errors_become_values(error: Exception, reason: Reason) -> None:
    """Whatever the network raises once a connection was had is a lost request."""
    with aioresponses() as mocked:
        mocked.post(REGIONS["mumbai"] + PATH, exception=error)
        answer = await ask(REGIONS["mumbai"])

    assert isinstance(answer, Lost)
    assert reason == answer.reason


# --- The request as the server sees it


@in_virtual_time
async def test_request_is_as_documented() -> None:
    """Path, header, content type and body are the vendor's; the credentials are in the header alone."""
    async with server(fully_added) as (url, seen):
        await ask(url)

    request = seen.requests[0]
    assert (request.method, request.path_qs) == ("POST", PATH)
    assert request.headers["Authorization"] == AUTHORIZATION
    assert request.headers["Content-Type"] == "application/json"
    assert {"contact_references": [{"contact_sid": sid} for sid in TWO]} == json.loads(seen.bodies[0])
    assert not [name for name, value in request.headers.items() if "thetoken" in value]


@in_virtual_time
async def test_connection_is_used_again_and_cookies_are_not() -> None:
    """Requests share a connection, and a cookie that the server sets is never sent back."""

    async def answer(_: web.Request) -> web.StreamResponse:
        response = web.Response(body=BOTH, status=207)
        response.set_cookie("session", "42")
        return response

    async with server(answer) as (url, seen), exotel(url.replace("127.0.0.1", "localhost")) as api:
        for _ in range(3):
            await api.add_contacts(TWO)
        ports = {request.transport and request.transport.get_extra_info("peername") for request in seen.requests}

    assert [request.headers.get("Cookie") for request in seen.requests] == [None] * 3
    assert len(ports) == 1


@in_virtual_time
async def test_full_batch_is_added() -> None:
    """Five thousand contacts go out and come back, in one request."""
    sids = sids_of(5000)

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=encode([success(sid) for sid in sids]), status=207)

    async with server(answer) as (url, seen):
        found = await ask(url, sids)

    assert isinstance(found, Answered)
    assert [verdict.outcome for verdict in reconcile(sids, found, LIST).verdicts] == [Outcome.ADDED] * 5000
    assert encode_body(sids) == seen.bodies[0]
    assert len(seen.bodies[0]) == pytest.approx(255_000, rel=0.05)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_refused_and_never_followed(status: int) -> None:
    """A redirect is an answer, and the credentials go nowhere else."""

    @in_virtual_time
    async def scenario() -> tuple[Answer, int, int]:
        async with server(fully_added) as (elsewhere, lured):

            async def answer(_: web.Request) -> web.StreamResponse:
                return web.Response(status=status, headers={"Location": elsewhere + PATH})

            async with server(answer) as (url, seen):
                return await ask(url), len(seen.requests), len(lured.requests)

    assert (Refused(status, http_status=status), 1, 0) == scenario()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_proxies_of_the_environment_are_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes to the API alone, whatever the environment says."""

    @in_virtual_time
    async def scenario() -> tuple[Answer, int]:
        async with server(fully_added) as (proxy, lured), server(fully_added) as (url, _):
            monkeypatch.setenv(name, proxy)
            return await ask(url), len(lured.requests)

    answer, lured = scenario()

    assert isinstance(answer, Answered)
    assert lured == 0


# --- What goes wrong


@in_virtual_time
async def test_silence_after_sending_is_a_time_out() -> None:
    """A server that reads the request and never answers may have processed it."""
    silence = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await silence.wait()
        return web.Response()

    async with server(answer) as (url, seen):
        found = await ask(url)

    assert isinstance(found, Lost)
    assert found.reason == Reason.TIMED_OUT
    assert len(seen.requests) == 1
    assert seconds() == pytest.approx(120, abs=2)


@in_virtual_time
async def test_answer_that_never_ends_is_a_time_out() -> None:
    """A server that sends its answer a byte at a time is left once the time is over."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(1)

    async with server(answer) as (url, _):
        found = await ask(url)

    assert isinstance(found, Lost)
    assert found.reason == Reason.TIMED_OUT
    assert seconds() == pytest.approx(120, abs=2)


@in_virtual_time
async def test_refused_connection_is_not_sent() -> None:
    """Where nobody listens, nothing was sent."""
    listener = listening_socket()
    port = listener.getsockname()[1]
    listener.close()

    answer = await ask(f"http://127.0.0.1:{port}")

    assert isinstance(answer, NotSent)
    assert answer.reason == Reason.NOT_CONNECTED
    assert answer.detail


@in_virtual_time
async def test_connection_that_does_not_come_is_not_sent() -> None:
    """Where the connection is not had within its time, nothing was sent."""
    listener = listening_socket(backlog=0)
    crowd = [socket.socket() for _ in range(8)]
    for each in crowd:  # fills the backlog, so that the kernel ignores whoever comes next
        each.setblocking(False)
        each.connect_ex(listener.getsockname())

    answer = await ask(f"http://127.0.0.1:{listener.getsockname()[1]}")

    for each in [*crowd, listener]:
        each.close()
    assert isinstance(answer, NotSent)
    assert answer.reason == Reason.NOT_CONNECTED
    assert seconds() == pytest.approx(10, abs=2)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def reset_amid_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 5000\r\n\r\n" + BOTH[:100])
    await writer.drain()
    await asyncio.sleep(1)
    await reset(reader, writer)


OK = b"HTTP/1.1 207 Multi-Status\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BOTH)


@pytest.mark.parametrize(
    ("handler", "reasons"),
    [
        pytest.param(reset, {Reason.CONNECTION_LOST}, id="reset"),
        pytest.param(
            reset_amid_the_answer, {Reason.CONNECTION_LOST, Reason.ANSWER_UNREADABLE}, id="reset amid the answer"
        ),
        pytest.param(saying(b""), {Reason.CONNECTION_LOST}, id="closed"),
        pytest.param(saying(OK + LENGTH + BOTH[:-9]), {Reason.ANSWER_UNREADABLE}, id="cut short"),
        pytest.param(
            saying(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + BOTH[:99]),
            {Reason.ANSWER_UNREADABLE},
            id="chunk cut",
        ),
        pytest.param(
            saying(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + BOTH), {Reason.ANSWER_UNREADABLE}, id="chunk odd"
        ),
        pytest.param(saying(OK + b"\r\n" + BOTH[:-9]), {Reason.ANSWER_UNREADABLE}, id="cut short, of no stated length"),
        pytest.param(saying(b"\x16\x03\x01 this is no HTTP\r\n\r\n"), {Reason.ANSWER_UNREADABLE}, id="no HTTP"),
        pytest.param(saying(b"HTTP/1.1 abc\r\n\r\n"), {Reason.ANSWER_UNREADABLE}, id="no status"),
        pytest.param(saying(OK + b"Content-Length: many\r\n\r\n"), {Reason.ANSWER_UNREADABLE}, id="no length"),
        pytest.param(saying(OK + b"X: " + b"x" * 10**6 + b"\r\n\r\n"), {Reason.ANSWER_UNREADABLE}, id="huge header"),
        pytest.param(
            saying(OK + b"Content-Encoding: gzip\r\n" + LENGTH + BOTH),
            {Reason.ANSWER_UNREADABLE},
            id="not what it says",
        ),
        pytest.param(saying(OK + b"Content-Length: 0\r\n\r\n"), {Reason.ANSWER_UNREADABLE}, id="empty"),
    ],
)
def test_broken_answer_is_lost(handler: RawHandler, reasons: set[Reason]) -> None:
    """A request that was sent and not answered readably may have been processed; nothing is raised."""

    @in_virtual_time
    async def scenario() -> Answer:
        async with raw_server(handler) as url:
            return await ask(url)

    answer = scenario()

    assert isinstance(answer, Lost)
    assert answer.reason in reasons
    assert answer.detail


@in_virtual_time
async def test_garbage_never_raises_and_never_adds() -> None:
    """Whatever bytes come back, the attempt comes to a value, and to no proof."""
    random = Random(7)
    good = OK + LENGTH + BOTH
    answers = []

    for _ in range(60):
        cut = random.randrange(len(good) - 5)
        junk = random.randbytes(random.choice([1, 3, 40]))
        data = random.choice([junk, good[:cut] + junk, junk + good, b"HTTP/1.1 " + junk + b"\r\n\r\n"])
        async with raw_server(saying(data)) as url:
            answers.append(await ask(url))

    assert [answer for answer in answers if isinstance(answer, Answered)] == []


@in_virtual_time
async def test_unwelcome_compression_is_read() -> None:
    """A proxy that compresses in spite of what was asked for costs no proof."""
    packed = gzip.compress(BOTH)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)

    async with raw_server(saying(head + packed)) as url:
        answer = await ask(url)

    assert isinstance(answer, Answered)


class Flood:
    """An answer without end; it counts what was taken of it."""

    def __init__(self, status: int = 207) -> None:
        self.bytes_sent = 0
        self.ended = asyncio.Event()
        self._status = status

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self._status)
        try:
            await response.prepare(request)
            while True:
                await response.write(b" " * 2**16)
                self.bytes_sent += 2**16
        finally:
            self.ended.set()


@in_virtual_time
async def test_answer_too_large_is_not_read_to_its_end() -> None:
    """Beyond its bound an answer is left, and the connection closed."""
    flood = Flood()

    async with server(flood) as (url, _), exotel(url) as api:
        answer = await api.add_contacts(TWO)
        await flood.ended.wait()

    assert isinstance(answer, Lost)
    assert (answer.reason, answer.status) == (Reason.ANSWER_UNREADABLE, 207)
    assert flood.bytes_sent < max_answer_bytes(2) + 2**25  # what sockets buffer


@pytest.mark.parametrize(("status", "expected"), [(401, Refused(401)), (404, Refused(404)), (429, Throttled(None))])
def test_status_that_says_enough_needs_no_body(status: int, expected: Answer) -> None:
    """A refusal with a page too large to read is still that refusal."""

    @in_virtual_time
    async def scenario() -> Answer:
        async with server(Flood(status)) as (url, _):
            return await ask(url)

    assert msgspec.structs.replace(expected, http_status=status) == scenario()


@in_virtual_time
async def test_answer_that_unpacks_without_bound_is_left() -> None:
    """A small answer that unpacks to a huge one is unreadable, and not kept."""
    packed = gzip.compress(b" " * 2**26)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)

    async with raw_server(saying(head + packed)) as url:
        answer = await ask(url)

    assert isinstance(answer, Lost)
    assert answer.reason == Reason.ANSWER_UNREADABLE


def test_bound_leaves_room_for_documented_answers() -> None:
    """The bound is several times what the documented answer takes, for one contact and for 5,000."""
    for contacts in (1, 5000):
        assert len(encode([success(sid) for sid in sids_of(contacts)])) * 5 < max_answer_bytes(contacts)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that nobody trusts, and its key."""
    if which("openssl") is None:
        pytest.skip("needs the openssl command")
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_untrusted_certificate_is_not_sent(certificate: tuple[Path, Path]) -> None:
    """A server whose certificate is not to be trusted gets no request, and no credentials."""

    @in_virtual_time
    async def scenario() -> tuple[Answer, int]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # the server's own complaint
        async with server(fully_added, ssl_context=context) as (url, seen):
            return await ask(url), len(seen.requests)

    answer, requests = scenario()

    assert isinstance(answer, NotSent)
    assert answer.reason == Reason.NOT_CONNECTED
    assert "certificate" in answer.detail.lower()
    assert requests == 0


@in_virtual_time
async def test_server_without_tls_is_not_sent() -> None:
    """A server that speaks no TLS where it should gets no request."""
    async with server(fully_added) as (url, seen):
        answer = await ask(url.replace("http://", "https://"))

    assert isinstance(answer, NotSent)
    assert seen.requests == []


@in_virtual_time
async def test_cancelled_request_closes_its_connection() -> None:
    """A request that is cut off is over for the server too, and the session serves others."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if begun.is_set():
            return await fully_added(request)
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            gone.set()
        return web.Response()

    async with server(answer) as (url, _), exotel(url) as api:
        first = asyncio.create_task(api.add_contacts(TWO))
        await begun.wait()
        first.cancel()
        await asyncio.wait([first])
        await gone.wait()
        second = await api.add_contacts(TWO)

    assert first.cancelled()
    assert isinstance(second, Answered)
    assert seconds() < 10


# --- Retry-After


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "30"}, 30.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "."}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:09 GMT"}, 50.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "yesterday"}, None),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59", "Date": "Fri, 31 Dec 1999 23:59:09 GMT"}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], expected: float | None) -> None:
    """Seconds or a date, and nothing where it makes no sense."""
    assert expected == retry_after_seconds(headers)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    st.text(max_size=30) | st.from_regex(r"\w{0,3},? ?[\d-]{1,12} \w{3} [\d-]{1,9} [\d:]{1,12} .{0,5}"),
    st.text(max_size=9),
)
def test_any_retry_after_is_read_or_ignored(value: str, date: str) -> None:
    """No header makes the reader raise, or ask for a wait that is none."""
    found = retry_after_seconds({"Retry-After": value, "Date": date})

    assert found is None or found >= 0


DATE = "Tue, 01 Jan 2030 00:00:00 GMT"
MIDNIGHT = 1893456000


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "expected"),
    [
        ("30", "29", "60", RateLimits(30, 29, 60)),
        (" 30 ", "0", "1", RateLimits(30, 0, 1)),
        ("30", "30", "0", RateLimits(30, 30, 0)),
        ("30", None, None, RateLimits(30)),
        ("30", "12", None, RateLimits(30, 12)),
        ("30", "many", "soon", RateLimits(30)),
        ("30", "-1", "60", RateLimits(30, None, 60)),
        ("30", "2", str(MIDNIGHT + 45), RateLimits(30, 2, 45)),  # a time of day, by the server's own clock
        ("30", "2", str(MIDNIGHT - 45), RateLimits()),  # … that has passed
        ("30", "2", str((MIDNIGHT + 45) * 1000), RateLimits(30, 2)),  # … in milliseconds
        ("5000", "4999", "3600", RateLimits()),  # of an hour, not of a minute
        ("30", "31", "60", RateLimits()),  # more remain than there are
        ("0", "0", "60", RateLimits()),
        ("-30", "1", "60", RateLimits()),
        ("30.5", "1", "60", RateLimits()),
        ("\u0663\u0660", "1", "60", RateLimits()),
        ("9" * 13, "1", "60", RateLimits()),
        ("30, 30;w=60", "1", "60", RateLimits()),
        (None, "1", "60", RateLimits()),
        (None, None, None, RateLimits()),
    ],
)
def test_limits_are_believed_where_they_make_sense(
    limit: str | None, remaining: str | None, reset: str | None, expected: RateLimits
) -> None:
    """Headers of another period, contradictions and rubbish count as none."""
    values = {"Limit": limit, "Remaining": remaining, "Reset": reset}
    headers = {f"X-RateLimit-{name}": value for name, value in values.items() if value is not None}

    assert expected == read_limits({"Date": DATE, **headers})


def test_time_of_reset_counts_from_our_clock_where_the_server_tells_none() -> None:
    """Without a Date, a reset as a time of day is compared with our own clock."""
    reset = str(int(datetime.now(UTC).timestamp()) + 30)

    limits = read_limits({"X-RateLimit-Limit": "30", "X-RateLimit-Reset": reset})

    assert limits.reset_seconds is not None
    assert 25 <= limits.reset_seconds <= 31
