"""The sections of a scenario as frozen data, with their defaults and bounds. Reads no file and does nothing."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from importer.sandbox.effects import Count, Seconds
from importer.sandbox.population import Share

Natural = Annotated[int, msgspec.Meta(ge=0)]


class Poison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contacts that the API cannot stomach."""

    sids: tuple[str, ...] = ()
    # The share of all sids that are poisonous, by a seeded rule.
    chance: Share = 0.0
    # Whether one such contact makes the whole request 400; otherwise its item alone is refused.
    sinks: bool = True
    # Whether the refusal of the whole request says which contact was to blame.
    names_the_sid: bool = True

    @property
    def is_active(self) -> bool:
        """Whether any contact can be poisonous."""
        return bool(self.sids or self.chance)


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the API answers where its documentation leaves it open. The defaults are the likeliest."""

    max_contacts: Count = 5000
    max_body_bytes: Count = 8_000_000
    too_many: Literal[400, 413] = 400
    wrong_account: Literal[401, 403] = 401
    unknown_list: Literal[404, 403] = 404
    # The status where every item succeeded; where one failed it is always 207.
    all_ok_status: Literal[207, 200] = 207
    already_member: Literal[409, 200] = 409
    # What `data` holds in an item 409: null, or all that a success says.
    member_data: Literal["null", "full"] | None = None
    unknown_contact: Literal[404, 400] = 404
    # What `data` holds in any other failed item: null, or the sid alone.
    failed_data: Literal["null", "sid"] | None = None
    # Whether a malformed sid costs its item or the whole request.
    malformed: Literal["item", "request"] = "item"
    # How many contacts may be added to one list; None for no end.
    list_cap: Natural | None = None
    list_cap_code: Literal[400, 403, 409, 413, 422] = 400
    poison: Poison = Poison()


class LimitChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From this second of the sandbox's clock on, this limit."""

    at_seconds: Seconds
    requests_per_minute: Natural | None


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many requests a minute are let through, and what those beyond are told."""

    requests_per_minute: Natural | None = None
    window: Literal["sliding", "fixed"] = "sliding"
    changes: tuple[LimitChange, ...] = ()
    # What another client of the same account takes, evenly spread.
    others_requests_per_minute: Natural = 0
    # Whether a request that was answered 429 fills the window like one that was let through.
    count_throttled: bool = False
    # X-RateLimit-Limit, -Remaining and -Reset on every answer to an authenticated request.
    headers: bool = True
    reset_header: Literal["seconds", "epoch"] = "seconds"
    # "seconds", "date", "none", or anything else to be sent as it stands.
    retry_after: str | int | float | None = "seconds"
    body: Literal["alternate", "rest_exception", "error"] = "alternate"


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time from the request to its answer: log-normal, drawn by request number."""

    median_seconds: Seconds = 0.0
    # Standard deviation of the logarithm: at 0.5, one in twenty takes more than 2.3 times the median.
    spread: Seconds = 0.0


class LedgerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the ledger remembers."""

    # About 100 bytes a contact. Without it, every contact sent counts as one never seen before.
    remember_contacts: bool = True
