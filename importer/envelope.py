"""The API's envelope, read as tolerantly as its documentation warns. Says what stands there, and judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, overload

import msgspec

from importer.model import ApiError


class Item(msgspec.Struct, frozen=True):
    """One item of an answer, in whichever of its shapes it came. None where it does not say."""

    sids: tuple[str, ...] = ()  # distinct sids it names, in lower case; more than one contradict each other
    code: int | None = None
    status: str | None = None
    error: ApiError | None = None
    list_sid: str | None = None  # only of an item without a code; nothing depends on that of others


class Items(Sequence[Item]):
    """The items of an answer, each of them read only when it is looked at."""

    def __init__(self, raw: Sequence[_Item]) -> None:
        """Take them as they were decoded."""
        self._raw = raw

    def odd_positions(self, sids: Sequence[str]) -> list[int]:
        """Give the positions of all items but those that plainly say 200 of the contact at their own position."""
        return [
            position
            for position, (item, sid) in enumerate(zip(self._raw, sids, strict=False))
            if not (
                item.code == 200
                and item.data is not None
                and item.data.sid == sid
                and item.status == "success"
                and item.error_data is None
            )
        ]

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __len__(self) -> int:
        return len(self._raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [_item(raw) for raw in self._raw[index]]
        return _item(self._raw[index])


class Metadata(msgspec.Struct, frozen=True):
    """The counts that an answer claims of itself."""

    total: int | None = None
    success: int | None = None
    failed: int | None = None


class UnreadableError(Exception):
    """An answer's body is not the API's envelope."""


class Envelope(msgspec.Struct, frozen=True):
    """The API's envelope. `items` is None where the answer is about the request as a whole."""

    items: Sequence[Item] | None
    metadata: Metadata | None
    http_code: int | None
    error: ApiError | None
    unreadable_items: int = 0


_Code = Annotated[int, msgspec.Meta(ge=0, le=10**6)]


class _ErrorData(msgspec.Struct, gc=False):
    code: _Code | None = None
    message: str | None = None
    description: str | None = None


class _Data(msgspec.Struct, gc=False):
    sid: str | None = None
    Sid: None = None


class _Item(msgspec.Struct, gc=False):
    """An item as documented, and no member that is not looked at: to decode them is the largest part of all work."""

    code: _Code
    error_data: _ErrorData | None = None
    status: Literal["success", "ok", "failure", "failed", "fail", "error"] | None = None  # costs no string of its own
    data: _Data | None = None
    sid: None = None
    Sid: None = None


class _Envelope(msgspec.Struct):
    response: list[_Item]
    http_code: _Code | None = None
    metadata: Metadata | None = None


_decoder = msgspec.json.Decoder(_Envelope)
_UNREADABLE = Item()


def read_envelope(body: bytes) -> Envelope:
    """Decode an answer's body.

    An envelope all of whose items are of the documented shape is decoded in one go; any other is read piece by piece,
    so that one odd item does not cost the proof of the others. Raises UnreadableError where it is no envelope at all.
    """
    try:
        envelope = _decoder.decode(body)
    except (msgspec.ValidationError, RecursionError):
        return _read_piecemeal(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error
    items = Items(envelope.response)
    return Envelope(items, envelope.metadata, envelope.http_code, _first_error(items))


def _read_piecemeal(body: bytes) -> Envelope:
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(str(error)) from error
    if not isinstance(raw, dict) or not ("response" in raw or "http_code" in raw):
        raise UnreadableError("the body is JSON, but not the API's envelope")
    metadata = _lenient(raw.get("metadata"), Metadata)
    http_code = _number(raw.get("http_code"))
    response = raw.get("response")
    if not isinstance(response, list):
        whole = _lenient_item(response) or _UNREADABLE
        if whole.sids:  # a list of one item, without the list
            return Envelope([whole], metadata, http_code, whole.error)
        return Envelope(None, metadata, whole.code or http_code, whole.error)
    items = [_lenient_item(each) for each in response]
    return Envelope(
        [item or _UNREADABLE for item in items],
        metadata,
        http_code,
        _first_error([item for item in items if item]),
        unreadable_items=items.count(None),
    )


def _item(raw: _Item) -> Item:
    error = raw.error_data
    return Item(
        _distinct([raw.data.sid] if raw.data else []),
        raw.code,
        raw.status,
        ApiError(error.code, error.message, error.description) if error else None,
    )


def _lenient_item(raw: Any) -> Item | None:
    """Read an item of any shape; None for what is no item."""
    if not isinstance(raw, dict):
        return None
    data = raw["data"] if isinstance(raw.get("data"), dict) else {}
    code = _number(raw.get("code"))
    return Item(
        # A sid of an odd type is still a claim: it must not pass for an item that names none.
        _distinct(str(sid) for each in (raw, data) for key in ("sid", "Sid") if (sid := each.get(key))),
        code,
        _text(raw.get("status")),
        _lenient_error(raw.get("error_data")),
        (_text(data.get("list_id")) or _text(raw.get("list_id"))) if code is None else None,
    )


def _lenient_error(raw: Any) -> ApiError | None:
    if isinstance(raw, dict):
        return ApiError(_number(raw.get("code")), _text(raw.get("message")), _text(raw.get("description")))
    return ApiError(description=_text(raw)) if raw else None


def _distinct(sids: Iterable[str | None]) -> tuple[str, ...]:
    return tuple({key for sid in sids if sid and (key := sid.strip().lower())})


def _lenient(raw: Any, kind: type[Metadata]) -> Metadata | None:
    if not isinstance(raw, dict):
        return None
    return kind(*(_number(raw.get(field)) for field in kind.__struct_fields__))


def _number(raw: Any) -> int | None:
    if isinstance(raw, float) and raw.is_integer():  # as in JSON: 200.0 is 200
        raw = int(raw)
    if isinstance(raw, str) and raw.strip().isascii() and raw.strip().isdigit() and len(raw) < 7:
        raw = int(raw)
    return raw if type(raw) is int and 0 <= raw <= 10**6 else None


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def _first_error(items: Sequence[Item]) -> ApiError | None:
    return items[0].error if len(items) == 1 else None
