"""The promises that need sockets: real HTTP against a served sandbox."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from importer.sandbox import DEFAULT_LIST, Sandbox, SandboxError, Scenario, digest_of
from tests.unit.sandbox.support import HEADERS, PATH, VirtualLoop, body_of, some_sids, until

SIDS = some_sids(10)
NO_LIMIT = aiohttp.ClientTimeout(total=None)


@asynccontextmanager
async def served(text: str = "") -> AsyncIterator[tuple[Sandbox, aiohttp.ClientSession]]:
    sandbox = Sandbox(Scenario.from_text(text))
    async with sandbox.serve() as url, aiohttp.ClientSession(url, headers=HEADERS) as session:
        yield sandbox, session


async def post(session: aiohttp.ClientSession, sids: list[str] | None = None, **options: Any) -> tuple[int, bytes]:
    body = body_of(SIDS if sids is None else sids)
    async with session.post(PATH, data=body, timeout=NO_LIMIT, **options) as response:
        return response.status, await response.read()


def request_head(length: int) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in HEADERS.items())]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


async def get_json(session: aiohttp.ClientSession, path: str) -> Any:
    async with session.get(path) as response:
        return await response.json()


async def test_contacts_are_added_over_http() -> None:
    """A full request over HTTP is processed, and the ledger tells the same in process and over HTTP."""
    async with served() as (sandbox, session):
        status, body = await post(session)
        ledger = await get_json(session, "/_ledger")

        assert (status, len(json.loads(body)["response"])) == (207, 10)
        assert ledger == sandbox.engine.snapshot()
        assert ledger["lists"][DEFAULT_LIST]["digest"] == digest_of(SIDS)
        assert ledger["requests"] == sandbox.ledger.requests == 1


async def test_credentials_and_content_type_are_read_from_headers() -> None:
    """Wrong headers are breaches over HTTP too."""
    async with served() as (_, session):
        assert (await post(session, headers={"Authorization": "Basic eDp5"}))[0] == 401
        assert (await post(session, headers={"Content-Type": "text/plain"}))[0] == 415


async def test_answers_carry_the_limit() -> None:
    """The limit's headers and the 429's Retry-After travel."""
    async with served("limit: {requests_per_minute: 1}") as (_, session):
        async with session.post(PATH, data=body_of(SIDS)) as first:
            assert first.headers["X-RateLimit-Remaining"] == "0"
        async with session.post(PATH, data=body_of(SIDS)) as second:
            assert second.status == 429
            assert 1 <= int(second.headers["Retry-After"]) <= 60


async def test_a_full_size_request_is_taken() -> None:
    """Five thousand contacts go in, five thousand items come out."""
    sids = some_sids(5000)
    async with served() as (_, session):
        status, body = await post(session, sids)

        assert status == 207
        assert [item["data"]["sid"] for item in json.loads(body)["response"]] == sids


async def test_a_body_beyond_the_bound_is_refused() -> None:
    """A body that is too long is 413 and not processed."""
    async with served("api: {max_body_bytes: 1000}") as (sandbox, session):
        status, body = await post(session, some_sids(100))

        assert (status, json.loads(body)["response"]["code"]) == (413, 413)
        assert (sandbox.ledger.incomplete, sandbox.engine.snapshot()["contacts_sent"]) == (1, 0)


@pytest.mark.parametrize(("when", "added"), [("before", 0), ("after", 10)])
async def test_a_reset_is_a_reset(when: str, added: int) -> None:
    """The connection is reset, before reading or after processing, and the next request is served."""
    async with served(f"faults: [{{requests: 1, reset: {when}}}]") as (sandbox, session):
        with pytest.raises((aiohttp.ClientOSError, ConnectionResetError)) as caught:
            await post(session)

        assert isinstance(caught.value, ConnectionResetError) or caught.value.errno in (32, 104)
        figures = sandbox.engine.snapshot()
        assert (figures["lists"][DEFAULT_LIST]["added"], figures["by_status"]) == (added, {"reset": 1})
        assert (await post(session))[0] == 207


async def test_a_cut_body_is_a_transport_error() -> None:
    """A body shorter than its announced length ends in a transport error, and the next request is served."""
    async with served("faults: [{requests: 1, truncate: 0.5, content_length: full}]") as (sandbox, session):
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(session)

        assert sandbox.engine.snapshot()["lists"][DEFAULT_LIST]["added"] == 10
        assert (await post(session))[0] == 207


async def test_a_short_body_is_broken_json() -> None:
    """A body cut with an honest length arrives, and is no JSON."""
    async with served("faults: [{truncate: 0.5}]") as (_, session):
        status, body = await post(session)

        assert status == 207
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)


async def test_a_slow_body_arrives_whole() -> None:
    """A dribbled answer is the true one, over no less than the time asked for."""
    loop = asyncio.get_running_loop()
    async with served("faults: [{slow_body: 0.05, chunks: 5}]") as (_, session):
        began = loop.time()
        status, body = await post(session)

        assert loop.time() - began >= 0.05
        assert (status, len(json.loads(body)["response"])) == (207, 10)


async def test_a_delay_holds_the_answer_back() -> None:
    """The request is processed at once and answered later."""
    loop = asyncio.get_running_loop()
    async with served("faults: [{delay_seconds: 0.05}]") as (_, session):
        began = loop.time()
        await post(session)

        assert loop.time() - began >= 0.05


async def test_an_empty_body_and_a_redirect_travel() -> None:
    """Answers without a body keep their status and headers."""
    text = "faults: [{requests: 1, status: 502, body: empty}, {requests: 2, redirect: '/elsewhere'}]"
    async with served(text) as (_, session):
        assert await post(session) == (502, b"")
        async with session.post(PATH, data=body_of(SIDS), allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (307, "/elsewhere")


async def test_refused_connections_are_closed_at_once() -> None:
    """During an outage connections are closed; afterwards, by the sandbox's own clock, everything goes on."""
    now = 50.0
    scenario = Scenario.from_text("faults: [{from_seconds: 10, until_seconds: 20, refuse_connections: true}]")
    sandbox = Sandbox(scenario, clock=lambda: now)
    async with sandbox.serve() as url, aiohttp.ClientSession(url, headers=HEADERS) as session:
        assert (await post(session))[0] == 207
        now = 65.0
        # The first comes on a connection that is still open, the second on a new one.
        for _ in range(2):
            with pytest.raises((aiohttp.ClientConnectionError, ConnectionResetError)):
                await post(session)
        now = 70.0
        assert (await post(session))[0] == 207

    assert sandbox.ledger.requests == 2
    assert sandbox.ledger.connections_refused >= 2


async def test_a_client_that_leaves_midway_changes_nothing() -> None:
    """A request whose body breaks off is counted, and adds nobody."""
    sandbox = Sandbox()
    async with sandbox.serve() as url, aiohttp.ClientSession(url, headers=HEADERS) as session:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(request_head(1000) + b'{"contact_')
        await until(lambda: sandbox.ledger.requests == 1)
        writer.close()
        await until(lambda: sandbox.ledger.incomplete == 1)

        assert await reader.read() == b""
        assert sandbox.engine.snapshot()["by_status"] == {"incomplete": 1}
        assert (await post(session))[0] == 207
        assert sandbox.engine.snapshot()["lists"][DEFAULT_LIST]["added"] == 10


@pytest.mark.parametrize(
    "rule", ["delay_seconds: 60", "slow_body: 60", "truncate: 0.5, content_length: full", "reset: after"]
)
def test_a_client_that_leaves_before_its_answer_is_no_error(rule: str, caplog: pytest.LogCaptureFixture) -> None:
    """A client that does not wait has its contacts added, and the sandbox makes no fuss."""
    sandbox = Sandbox(Scenario.from_text(f"faults: [{{{rule}}}]"))

    async def leave() -> None:
        async with sandbox.serve() as url:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            body = body_of(SIDS)
            writer.write(request_head(len(body)) + body)
            await until(lambda: bool(sandbox.ledger.by_status))
            writer.transport.abort()
            await asyncio.sleep(3600)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(leave())

    assert sandbox.engine.snapshot()["lists"][DEFAULT_LIST]["added"] == 10
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_leaving_closes_hanging_requests() -> None:
    """The sandbox shuts down at once though an answer, a body and an idle connection are still open."""
    loop = asyncio.get_running_loop()
    sandbox = Sandbox(
        Scenario.from_text("faults: [{requests: 2, delay_seconds: 3600}, {requests: 3, slow_body: 3600}]")
    )
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        async with sandbox.serve() as url:
            await (await session.post(url + PATH, data=body_of(SIDS))).read()
            waiting = asyncio.gather(
                *(session.post(url + PATH, data=body_of(SIDS)) for _ in range(2)), return_exceptions=True
            )
            await until(lambda: sandbox.ledger.requests == 3)
            began = loop.time()

        assert loop.time() - began < 1.0
        for outcome in await waiting:
            if isinstance(outcome, aiohttp.ClientResponse):
                with pytest.raises(aiohttp.ClientPayloadError):
                    await outcome.read()
            else:
                assert isinstance(outcome, aiohttp.ClientError)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(url + PATH, data=b"")


async def test_a_sandbox_can_come_back() -> None:
    """What was added is remembered when the same sandbox is served again on the same port."""
    sandbox = Sandbox()
    async with sandbox.serve() as url, aiohttp.ClientSession(url, headers=HEADERS) as session:
        await post(session)
    async with (
        sandbox.serve(port=int(url.rpartition(":")[2])) as again,
        aiohttp.ClientSession(again, headers=HEADERS) as session,
    ):
        status, body = await post(session)

    assert (url, status, json.loads(body)["metadata"]["failed"]) == (again, 207, 10)


async def test_a_port_in_use_is_a_clear_error() -> None:
    """Where the sandbox cannot listen, the sentence says where and what to do."""
    async with Sandbox().serve() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(SandboxError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another port"):
            async with Sandbox().serve(port=port):
                pass


async def test_the_ledger_lists_and_looks_up_contacts() -> None:
    """What was added can be read line by line, and asked for sid by sid."""
    async with served() as (_, session):
        await post(session)
        async with session.get(f"/_ledger/lists/{DEFAULT_LIST}/contacts") as response:
            lines = (await response.text()).splitlines()
        async with session.post(f"/_ledger/lookup?list={DEFAULT_LIST}", data=json.dumps([SIDS[0], "odd"])) as response:
            found = await response.json()

        assert sorted(lines) == sorted(SIDS)
        assert found == {SIDS[0]: True, "odd": False}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/_ledger/lists/none/contacts", b"", 404),
        ("POST", "/_ledger/lookup?list=none", b"[]", 404),
        ("POST", "/_ledger/lookup", b"{}", 400),
        ("POST", "/_ledger", b"", 404),
        ("GET", "/", b"", 404),
        ("GET", PATH, b"", 404),
        ("POST", PATH + "/x", b"", 404),
    ],
)
async def test_other_addresses_are_refused(method: str, path: str, body: bytes, status: int) -> None:
    """Addresses that do not exist, or questions that make no sense, get a JSON error and count as no request."""
    async with served() as (sandbox, session), session.request(method, path, data=body) as response:
        assert (response.status, type(await response.json())) == (status, dict)
        assert sandbox.ledger.requests == 0


async def test_the_ledger_can_be_reset() -> None:
    """After a reset over HTTP, the sandbox has never seen anybody."""
    async with served() as (sandbox, session):
        await post(session)
        async with session.post("/_ledger/reset") as response:
            assert response.status == 200

        assert sandbox.ledger.requests == 0
        assert (await post(session))[0] == 207


async def test_a_list_can_be_asked_for() -> None:
    """A list tells how many contacts were added; a stranger, or a list that is not there, is refused."""
    path = f"/v2/accounts/sandbox/lists/{DEFAULT_LIST}"
    async with served() as (_, session):
        await post(session)

        assert (await get_json(session, path))["response"]["data"]["contact_count"] == 10
        assert (await get_json(session, path[:-1] + "x"))["response"]["error_data"]["code"] == 1000
        async with session.get(path, headers={"Authorization": ""}) as response:
            assert response.status == 401


def test_hours_pass_in_moments_under_virtual_time() -> None:
    """Client and sandbox in one loop with virtual time: limits, delays and outages follow that loop's clock alone."""

    async def play() -> tuple[list[int], float]:
        loop = asyncio.get_running_loop()
        text = """
            limit: {requests_per_minute: 1}
            faults: [{requests: 1, delay_seconds: 3600}, {from_seconds: 7000, status: 503}]
        """
        async with served(text) as (_, session):
            began = loop.time()
            statuses = [(await post(session))[0] for _ in range(3)]
            await asyncio.sleep(3600)
            statuses.append((await post(session))[0])
            return statuses, loop.time() - began

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        statuses, seconds = runner.run(play())

    assert statuses == [207, 207, 429, 503]
    assert 7200 <= seconds < 7210
