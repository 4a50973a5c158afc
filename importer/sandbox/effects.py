"""What a fault rule can match and what it can do: the vocabulary of a scenario's `faults`, as frozen data.

Applies nothing: `faults` decides which rule meets which request, `api`, `mutations` and `engine` carry it out.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from importer.sandbox.population import Share

Seconds = Annotated[float, msgspec.Meta(ge=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
HttpStatus = Annotated[int, msgspec.Meta(ge=200, le=599)]


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests a rule meets: those that satisfy everything given. Nothing given: every request."""

    # First and last request number of each range, both included.
    requests: tuple[tuple[int, int], ...] | None = None
    every: Count | None = None
    chance: Share | None = None
    from_seconds: Seconds = 0.0
    until_seconds: Seconds | None = None
    # How many requests the rule meets before it is used up.
    times: Count | None = None


class _Effect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Status(_Effect, frozen=True):
    """Answer with this status instead of the true answer."""

    status: HttpStatus
    body: Literal["envelope", "text", "html", "empty"] = "envelope"
    headers: dict[str, str | int] = {}
    # Whether the request is processed before it is answered so.
    process: Literal["before", "never"] = "never"


class Delay(_Effect, frozen=True):
    """Hold the answer back; the request is processed before the wait."""

    delay_seconds: Seconds


class Reset(_Effect, frozen=True):
    """Reset the connection: before the body is read, or after processing and instead of the answer."""

    reset: Literal["before", "after"]


class Truncate(_Effect, frozen=True):
    """Send only the first part of the body, announced by a true length or by that of the whole."""

    truncate: Share
    content_length: Literal["short", "full"] = "short"


class NotJson(_Effect, frozen=True):
    """Process the request, then answer with the true status and a body that is no JSON."""

    not_json: Literal["html", "text", "empty"]


ItemsKind = Literal[
    "missing", "shuffled", "doubled", "foreign", "surplus", "null_data", "capital_sid", "flat", "bare",
    "recased", "garbage",
]  # fmt: skip


class Chosen(_Effect, frozen=True):
    """An effect on some of the items of an answer: a fraction of them or a count."""

    fraction: Share | None = None
    count: Count | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and self.count is not None:
            msg = "give fraction or count, not both"
            raise ValueError(msg)


class Items(Chosen, frozen=True, kw_only=True):
    """Change the items after processing, so that the answer no longer says what happened."""

    items: ItemsKind
    # Whether the metadata is counted again from what is left, so that it agrees with the changed items.
    recount: bool = False


class ItemCode(Chosen, frozen=True, kw_only=True):
    """Answer some items with this code; those contacts are not processed unless `processed` says so."""

    item_code: Annotated[int, msgspec.Meta(ge=200, le=599)]
    processed: bool = False


class Response(_Effect, frozen=True):
    """Replace the list of items in a 2xx answer: its first item as an object, null, a text, or no key."""

    response: Literal["object", "null", "text", "missing"] | None


class Metadata(_Effect, frozen=True):
    """Let the metadata contradict the items, be null, or be left out."""

    metadata: Literal["wrong", "null", "missing"] | None


class HttpCode(_Effect, frozen=True):
    """Let the body's `http_code` differ from the status line."""

    http_code: int


class Redirect(_Effect, frozen=True):
    """Send the client elsewhere; the request is not processed."""

    redirect: str
    redirect_status: Literal[301, 302, 303, 307, 308] = 307


class RefuseConnections(_Effect, frozen=True):
    """Close every connection as soon as it is accepted, and open ones when they bring a request."""

    refuse_connections: Literal[True]


class HugeAnswer(_Effect, frozen=True):
    """Pad the answer, still well-formed, with this many bytes."""

    huge_answer: Count


class SlowBody(_Effect, frozen=True):
    """Let the answer's bytes dribble over this many seconds."""

    slow_body: Seconds
    chunks: Count = 20


Effect = (
    Status | Delay | Reset | Truncate | NotJson | Items | ItemCode | Response | Metadata | HttpCode | Redirect
    | RefuseConnections | HugeAnswer | SlowBody
)  # fmt: skip

EFFECTS: dict[str, type[Effect]] = {
    "status": Status,
    "delay_seconds": Delay,
    "reset": Reset,
    "truncate": Truncate,
    "not_json": NotJson,
    "items": Items,
    "item_code": ItemCode,
    "response": Response,
    "metadata": Metadata,
    "http_code": HttpCode,
    "redirect": Redirect,
    "refuse_connections": RefuseConnections,
    "huge_answer": HugeAnswer,
    "slow_body": SlowBody,
}
"""The key that names each effect in a scenario."""


class Rule(msgspec.Struct, frozen=True):
    """One fault: the requests that it meets and the one thing that it does to them."""

    match: Match
    effect: Effect
