"""What faults do to a whole answer after processing, up to its bytes. Pure: the truth has been entered before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from importer.sandbox.answers import JSON, Answer, Envelope, failure_of_status, refusal
from importer.sandbox.effects import HttpCode, HugeAnswer, Metadata, NotJson, Redirect, Response, Status
from importer.sandbox.mutations import mutated

if TYPE_CHECKING:
    from importer.sandbox.faults import Plan

_HTML = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>\n"
_PHRASES = {429: "429 Too Many Requests", 500: "500 Internal Server Error", 502: "502 Bad Gateway",
            503: "503 Service Unavailable", 504: "504 Gateway Time-out"}  # fmt: skip
_WRONG_METADATA = '{"failed":1,"total":7,"success":123456}'


def scripted_status(effect: Status, request_id: str) -> Answer:
    """Return the answer that a `status` fault asks for."""
    headers = {name: str(value) for name, value in effect.headers.items()}
    if effect.body == "envelope":
        return replace(_scripted_envelope(effect.status, request_id), headers=headers)
    body, content_type = _unstructured(effect.body, effect.status)
    return Answer(effect.status, body, headers, content_type)


def redirection(effect: Redirect) -> Answer:
    """Return the answer that a `redirect` fault asks for."""
    return Answer(effect.redirect_status, b"", {"Location": effect.redirect}, "text/plain")


def distorted(answer: Answer, plan: Plan, request_id: str) -> Answer:
    """Return the answer as the plan's effects on it leave it, whole-answer effects last."""
    if not plan.hits:
        return answer
    if isinstance(answer.body, Envelope):
        answer = replace(answer, body=_distorted_envelope(answer.body, plan))
    status = plan.first(Status)
    if status is not None and status.process == "before" and answer.status < 300:
        answer = scripted_status(status, request_id)
    not_json = plan.first(NotJson)
    if not_json is not None:
        body, content_type = _unstructured(not_json.not_json, answer.status)
        answer = replace(answer, body=body, content_type=content_type)
    return answer


def _distorted_envelope(envelope: Envelope, plan: Plan) -> Envelope:
    if envelope.items is not None:
        items, metadata = mutated(envelope.items, envelope.metadata, plan)
        envelope = replace(envelope, items=items, metadata=metadata)
        response = plan.first(Response)
        if response is not None:
            envelope = replace(envelope, items=None, response=_replaced(response, items))
        claimed = plan.first(Metadata)
        if claimed is not None:
            texts = {"wrong": _WRONG_METADATA, "missing": None}
            envelope = replace(envelope, metadata=texts.get(claimed.metadata or "null", "null"))
    http_code = plan.first(HttpCode)
    if http_code is not None:
        envelope = replace(envelope, http_code=http_code.http_code)
    huge = plan.first(HugeAnswer)
    return envelope if huge is None else replace(envelope, padding=huge.huge_answer)


def _replaced(effect: Response, items: list[str]) -> str | None:
    """Return what stands for the list of items; None leaves the key out."""
    if effect.response == "missing":
        return None
    if effect.response == "text":
        return '"accepted"'
    if effect.response == "object":
        return items[0] if items else "{}"
    return "null"


def _scripted_envelope(status: int, request_id: str) -> Answer:
    if status >= 400:
        return refusal(failure_of_status(status), request_id)
    response = f'{{"code":{status},"error_data":null,"status":"success","data":null}}'
    return Answer(status, Envelope(request_id, "POST", status, metadata="null", response=response))


def _unstructured(kind: str, status: int) -> tuple[bytes, str]:
    phrase = _PHRASES.get(status, f"{status} Answer")
    if kind == "html":
        return _HTML.format(phrase).encode(), "text/html"
    if kind == "text":
        return f"{phrase}\n".encode(), "text/plain"
    return b"", JSON
