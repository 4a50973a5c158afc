"""What the sandbox answers besides the call itself: a list's own page, its ledger, and unknown addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from importer.sandbox import api
from importer.sandbox.answers import JSON, Answer, Breach, Envelope, refusal, request_id_of

if TYPE_CHECKING:
    from importer.sandbox.api import Head
    from importer.sandbox.engine import Engine

_LINES_A_WRITE = 10_000


def list_view(engine: Engine, head: Head) -> web.StreamResponse:
    """Answer whether a list exists and how many contacts were added to it."""
    scenario = engine.scenario
    request_id = request_id_of(scenario.seed, 0)
    breach = (
        api.authentication_breach(head, scenario)
        or api.account_breach(head, scenario)
        or api.list_breach(head, scenario)
    )
    book = engine.ledger.book(head.list_sid)
    if breach is not None or book is None:
        return _response(refusal(breach or Breach(404, 1000, "There is no such list"), request_id, "GET"))
    data = {"sid": head.list_sid, "account_sid": scenario.account_sid, "contact_count": book.added}
    item = {"code": 200, "error_data": None, "status": "success", "data": data}
    response = msgspec.json.encode(item).decode()
    return _response(Answer(200, Envelope(request_id, "GET", 200, metadata=None, response=response)))


async def other_view(engine: Engine, request: web.BaseRequest) -> web.StreamResponse:
    """Answer everything under `/_ledger`, and say of any other address that there is nothing."""
    match (request.method, request.path.strip("/").split("/")):
        case ("GET", ["_ledger"]):
            return _json(engine.snapshot())
        case ("POST", ["_ledger", "reset"]):
            engine.reset()
            return _json({"reset": True})
        case ("POST", ["_ledger", "lookup"]):
            return await _lookup(engine, request)
        case ("GET", ["_ledger", "lists", list_sid, "contacts"]):
            return await _contacts(engine, request, list_sid)
    breach = Breach(404, 1000, f"There is nothing at {request.method} {request.path}")
    return _response(refusal(breach, request_id_of(engine.scenario.seed, 0), request.method))


async def _lookup(engine: Engine, request: web.BaseRequest) -> web.StreamResponse:
    list_sid = request.query.get("list")
    if list_sid is not None and engine.ledger.book(list_sid) is None:
        return _json({"error": f"there is no list {list_sid}"}, status=404)
    try:
        sids = msgspec.json.decode(await request.read(), type=list[str])
    except msgspec.DecodeError as error:
        return _json({"error": f"expected a JSON list of sids: {error}"}, status=400)
    return _json({sid: engine.ledger.was_added(sid, list_sid) for sid in sids})


async def _contacts(engine: Engine, request: web.BaseRequest, list_sid: str) -> web.StreamResponse:
    book = engine.ledger.book(list_sid)
    if book is None:
        return _json({"error": f"there is no list {list_sid}"}, status=404)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    lines: list[str] = []
    for sid in book.added_sids():
        lines.append(sid)
        if len(lines) == _LINES_A_WRITE:
            await response.write(("\n".join(lines) + "\n").encode())
            lines.clear()
    if lines:
        await response.write(("\n".join(lines) + "\n").encode())
    return response


def _response(answer: Answer) -> web.Response:
    headers = {"Content-Type": answer.content_type}
    return web.Response(body=answer.encoded, status=answer.status, headers=headers)


def _json(value: Any, *, status: int = 200) -> web.Response:
    headers = {"Content-Type": JSON}
    return web.Response(body=msgspec.json.encode(value), status=status, headers=headers)
