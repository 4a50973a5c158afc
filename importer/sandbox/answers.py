"""The shapes of the API's answers: envelope, items, errors and 429 bodies, as JSON text.

Says how things are written, never which of them is due.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from importer.sandbox.sections import Api

JSON = "application/json"

_MESSAGES = {
    1000: "Not found",
    1001: "Mandatory parameter missing",
    1002: "Invalid parameter",
    1003: "Not authorised for this resource",
    1007: "Invalid request body",
    1008: "Duplicate resource",
    1010: "Authorization failed",
    1011: "Unsupported content type",
    1100: "Internal error",
}
_CODES = {401: 1010, 403: 1003, 404: 1000, 409: 1008, 415: 1011}


class Verdict(enum.Enum):
    """What became of one reference of a request."""

    ADDED = "added"
    MEMBER = "member"
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    MALFORMED = "malformed"
    POISONED = "poisoned"
    FULL = "full"
    # Not looked at: a fault answers its item.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Breach:
    """Why a whole request is refused."""

    status: int
    code: int
    description: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """The vendor's envelope, its parts already JSON text. Of `items`, `pieces` and `response` one is given."""

    request_id: str
    method: str
    http_code: int
    # None leaves the key out.
    metadata: str | None
    # What `response` lists, an item each: the form that can still be changed.
    items: Sequence[str] | None = None
    # The same list as one text in pieces, which is never put together before the whole body is.
    pieces: Sequence[str] | None = None
    # What stands there instead of a list; None leaves the key out.
    response: str | None = None
    padding: int = 0

    def encode(self) -> bytes:
        """Return the body."""
        head = f'{{"request_id":"{self.request_id}","method":"{self.method}","http_code":{self.http_code}'
        if self.metadata is not None:
            head += f',"metadata":{self.metadata}'
        tail = f',"padding":"{"x" * self.padding}"}}' if self.padding else "}"
        if self.pieces is not None:
            return "".join((head, ',"response":', *self.pieces, tail)).encode()
        response = self.response if self.items is None else f"[{','.join(self.items)}]"
        return "".join((head, f',"response":{response}' if response is not None else "", tail)).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said to a request, before anything happens to it on the wire."""

    status: int
    body: Envelope | bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON

    @property
    def encoded(self) -> bytes:
        """The body's bytes."""
        return self.body if isinstance(self.body, bytes) else self.body.encode()


def refusal(breach: Breach, request_id: str, method: str = "POST") -> Answer:
    """Return the answer to a whole request that is refused."""
    response = _failure(breach.status, breach.code, breach.description, "null")
    envelope = Envelope(request_id, method, breach.status, metadata="null", response=response)
    return Answer(breach.status, envelope)


def failure_of_status(status: int) -> Breach:
    """Return what a status that comes out of the blue says in the envelope."""
    code = _CODES.get(status, 1100 if status >= 500 else 1002)
    return Breach(status, code, "The service could not handle this request; try again")


def too_many_requests(limit: int, wait_seconds: int, shape: Literal["rest_exception", "error"]) -> bytes:
    """Return one of the two bodies that a 429 is documented with; neither is the envelope."""
    if shape == "rest_exception":
        message = f"Rate limit of {limit} requests per minute exceeded"
        return msgspec.json.encode({"RestException": {"Status": 429, "Message": message}})
    body = {"error": "Too Many Requests", "message": "Rate limit exceeded", "retry_after": wait_seconds}
    return msgspec.json.encode(body)


def metadata_of(succeeded: int, total: int) -> str:
    """Return the envelope's metadata as JSON text."""
    return f'{{"failed":{total - succeeded},"total":{total},"success":{succeeded}}}'


def request_id_of(seed: int, number: int) -> str:
    """Return the id of one request, 32 hexadecimal digits."""
    return hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=16).hexdigest()


class ItemWriter:
    """Items for the contacts of one request, all with the same account, list and date."""

    def __init__(self, account_sid: str, list_sid: str, date: datetime, api: Api) -> None:
        self._api = api
        # The vendor prints nanoseconds.
        stamp = date.strftime("%Y-%m-%dT%H:%M:%S.%f000%z")
        stamp = f"{stamp[:-2]}:{stamp[-2:]}"
        account, listed = _text(account_sid)[1:-1], _text(list_sid)[1:-1]
        self._reasons = {
            Verdict.UNKNOWN: (api.unknown_contact, 1000, "The contact does not exist"),
            Verdict.REFUSED: (400, 1002, "The contact cannot be added to a list"),
            Verdict.MALFORMED: (400, 1002, "contact_sid is not a valid sid"),
            Verdict.POISONED: (400, 1002, "The contact is not valid"),
            Verdict.FULL: (api.list_cap_code, 1002, "The list is full"),
        }
        self._start = '{"code":200,"error_data":null,"status":"success","data":{"sid":"'
        self._between = (
            f'","date_created":"{stamp}","date_updated":"{stamp}","account_sid":"{account}",'
            f'"list_id":"{listed}","uri":"/v2/Accounts/{account}/contacts/'
        )

    def added(self, sids: Sequence[str]) -> list[str]:
        """Return success items for well-formed sids."""
        start, between = self._start, self._between
        return [f'{start}{sid}{between}{sid}"}}}}' for sid in sids]

    def pieces(self, sids: Sequence[str], others: Mapping[int, str]) -> list[str]:
        """Return one JSON list in pieces: success items for the sids, but at some positions other items.

        Thousands of texts of a third of a kilobyte, made and thrown away for each request, cost more than the join.
        """
        pieces = ["," + self._start, "", self._between, "", '"}}'] * len(sids)
        pieces[1::5] = pieces[3::5] = sids
        for position, item in others.items():
            pieces[5 * position : 5 * position + 5] = ("," + item, "", "", "", "")
        pieces[0] = "[" + pieces[0][1:]
        pieces.append("]")
        return pieces

    def item(self, sid: str, verdict: Verdict) -> str:
        """Return the item that tells what became of this sid."""
        api = self._api
        if verdict is Verdict.ADDED or (verdict is Verdict.MEMBER and api.already_member == 200):
            return self.added((sid,))[0]
        if verdict in (Verdict.MEMBER, Verdict.REPEATED):
            data = self._data(sid) if api.member_data == "full" else "null"
            return _failure(409, 1008, "The contact is already in the list", data)
        status, code, description = self._reasons[verdict]
        return _failure(status, code, description, self._failed_data(sid))

    def scripted(self, sid: str, code: int) -> str:
        """Return an item with a code that a fault asks for."""
        if code < 300:
            return self.added((sid,))[0].replace('"code":200', f'"code":{code}', 1)
        breach = failure_of_status(code)
        return _failure(code, breach.code, breach.description, self._failed_data(sid))

    def _failed_data(self, sid: str) -> str:
        return f'{{"sid":{_text(sid)}}}' if self._api.failed_data == "sid" else "null"

    def _data(self, sid: str) -> str:
        return f'{{"sid":"{sid}{self._between}{sid}"}}'


def succeeds(verdict: Verdict, api: Api) -> bool:
    """Return whether an item with this verdict has a 2xx code."""
    return verdict is Verdict.ADDED or (verdict is Verdict.MEMBER and api.already_member == 200)


def _failure(status: int, code: int, description: str, data: str) -> str:
    return (
        f'{{"code":{status},"error_data":{{"code":{code},"message":"{_MESSAGES[code]}",'
        f'"description":{_text(description)}}},"status":"failure","data":{data}}}'
    )


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()
