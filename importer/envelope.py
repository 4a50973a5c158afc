"""The API's envelope, read as tolerantly as its documentation warns. Says what stands there, and judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, overload

import msgspec

from importer.model import ApiError


class Item(msgspec.Struct, frozen=True):
    """One item of an answer, in whichever of its shapes it came. None where it does not say."""

    sids: tuple[str, ...] = ()  # distinct sids it names, in lower case; more than one contradict each other
    code: int | None = None
    status: str | None = None
    error: ApiError | None = None
    list_sid: str | None = None


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
                and item.data.Sid is None
                and item.sid is None
                and item.Sid is None
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
    Sid: str | None = None
    list_id: str | None = None


class _Item(msgspec.Struct, gc=False):
    code: _Code | None = None
    status: str | None = None
    error_data: _ErrorData | None = None
    data: _Data | None = None
    sid: str | None = None
    Sid: str | None = None
    list_id: str | None = None


class _Envelope(msgspec.Struct):
    response: list[_Item]
    http_code: _Code | None = None
    metadata: Metadata | None = None


_decoder = msgspec.json.Decoder(_Envelope)
_UNREADABLE = Item()


def read_envelope(body: bytes) -> Envelope:
    """Decode an answer's body.

    An envelope of the documented types is decoded in one go; any other is read piece by piece, so that one odd
    item does not cost the proof of the others. Raises UnreadableError where it is no envelope at all.
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
    data = raw.data
    named = {raw.sid, raw.Sid} | ({data.sid, data.Sid} if data else set())
    error = raw.error_data
    return Item(
        tuple({key for sid in named if sid and (key := sid.strip().lower())}),
        raw.code,
        raw.status,
        ApiError(error.code, error.message, error.description) if error else None,
        (data.list_id if data else None) or raw.list_id,
    )


def _lenient_item(raw: Any) -> Item | None:
    """Read an item whose members may be of the wrong types; None for what is no item."""
    if not isinstance(raw, dict):
        return None
    data = raw.get("data")
    error = raw.get("error_data")
    members = {
        "code": _number(raw.get("code")),
        "status": _text(raw.get("status")),
        "error_data": {
            "code": _number(error.get("code")),
            "message": _text(error.get("message")),
            "description": _text(error.get("description")),
        }
        if isinstance(error, dict)
        else ({"description": _text(error)} if error else None),
        "data": _names(data) if isinstance(data, dict) else None,
        **_names(raw),
    }
    return _item(msgspec.convert(members, _Item))


def _names(raw: dict[str, Any]) -> dict[str, str | None]:
    # A sid of an odd type is still a claim: it must not pass for an item that names none.
    sids = {key: str(raw[key]) if raw.get(key) else None for key in ("sid", "Sid")}
    return {**sids, "list_id": _text(raw.get("list_id"))}


def _lenient(raw: Any, kind: type[Metadata]) -> Metadata | None:
    if not isinstance(raw, dict):
        return None
    return kind(*(_number(raw.get(field)) for field in kind.__struct_fields__))


def _number(raw: Any) -> int | None:
    if isinstance(raw, str) and raw.strip().isascii() and raw.strip().isdigit() and len(raw) < 7:
        raw = int(raw)
    return raw if type(raw) is int and 0 <= raw <= 10**6 else None


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def _first_error(items: Sequence[Item]) -> ApiError | None:
    return items[0].error if len(items) == 1 else None
