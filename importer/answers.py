"""What one request came to, as a value.

Decides nothing: `reconcile` says what an answer proves of each contact, `retry` what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from importer.envelope import Envelope, Item, Metadata, UnreadableError, read_envelope
from importer.model import ApiError, Reason
from importer.rate import RateLimits


class FromServer(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever has an HTTP answer behind it, perhaps: its status, and what it said of the API's limit of requests."""

    http_status: int | None = None
    limits: RateLimits = RateLimits()


class NotSent(msgspec.Struct, frozen=True):
    """No request left this machine: no connection was had. Nothing was processed."""

    reason: Reason
    detail: str


class Lost(FromServer, frozen=True):
    """The request was sent, and no answer came that could be read. It may have been processed."""

    reason: Reason
    detail: str
    retry_after_seconds: float | None = None
    status: int | None = None


class Throttled(FromServer, frozen=True):
    """429: not processed, and all requests should pause. None where the server did not say how long."""

    retry_after_seconds: float | None


class Refused(FromServer, frozen=True):
    """The request as a whole was refused; nothing of it was processed."""

    status: int
    error: ApiError | None = None


class Answered(FromServer, frozen=True):
    """An answer with items. `unreadable_items` counts those that are no item at all; they stand as empty ones."""

    items: Sequence[Item]
    metadata: Metadata | None = None
    unreadable_items: int = 0
    retry_after_seconds: float | None = None


Answer = NotSent | Lost | Throttled | Refused | Answered
"""Whatever one attempt can come to."""


DUPLICATE_RESOURCE = 1008
"""`error_data.code` of a contact that is in the list already."""


def interpret(status: int, retry_after_seconds: float | None, body: bytes, contacts: int) -> Answer:
    """Tell what the answer to a request with so many `contacts` came to.

    The status line rules, save where the body says more exactly what happened: items of a 4xx that stand for
    each of the contacts are judged one by one, and a 2xx whose body is an error of the whole request is that error.
    """
    if status == 429:
        return Throttled(retry_after_seconds)
    envelope, detail = _read(body)
    if 300 <= status < 400 or status in {401, 402}:
        return Refused(status, envelope.error if envelope else None)
    items = envelope.items if envelope else None
    if envelope and items is not None and (status < 300 or _speaks_of_each(items, status, contacts)):
        return Answered(items, envelope.metadata, envelope.unreadable_items, retry_after_seconds)
    whole = (envelope.http_code if envelope and status < 300 else None) or status
    error_data = envelope.error if envelope else None
    if whole == 429:
        return Throttled(retry_after_seconds)
    if whole == 408:
        return Lost(Reason.TIMED_OUT, f"HTTP {whole}", retry_after_seconds, whole)
    if whole == 409 and not (error_data and error_data.code == DUPLICATE_RESOURCE):
        return Lost(Reason.CONFLICT, f"HTTP {whole}", retry_after_seconds, whole)
    if 400 <= whole < 500:
        return Refused(whole, error_data)
    if whole >= 500:
        return Lost(Reason.SERVER_ERROR, f"HTTP {whole}", retry_after_seconds, whole)
    return Lost(Reason.ANSWER_UNREADABLE, detail, retry_after_seconds, whole)


def _speaks_of_each(items: Sequence[Item], status: int, contacts: int) -> bool:
    """Whether a 4xx has an item for every contact; a lone nameless item may as well be about the request."""
    return status < 500 and len(items) == contacts and (contacts > 1 or bool(items[0].sids))


def _read(body: bytes) -> tuple[Envelope | None, str]:
    """The envelope, or why there is none."""
    try:
        return read_envelope(body), "the answer has no items"
    except UnreadableError as error:
        return None, str(error)
