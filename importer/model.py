"""The words that the whole program speaks: outcomes, batches, results. No I/O and no decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from functools import cached_property

import msgspec


class Outcome(StrEnum):
    """What became of one row of the input."""

    ADDED = "added"
    ALREADY_PRESENT = "already_present"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    INVALID = "invalid"
    FAILED = "failed"
    UNKNOWN = "unknown"


IN_THE_LIST = frozenset({Outcome.ADDED, Outcome.ALREADY_PRESENT, Outcome.DUPLICATE})
"""Outcomes whose contact is in the list. A duplicate is there as the row is that it repeats."""


class Reason(StrEnum):
    """Why a row has its outcome, where the API's own words do not say so. The set is closed."""

    # invalid: the row was not sent
    ROW_TOO_SHORT = "row_too_short"  # the row has no cell in the sid's column
    SID_EMPTY = "sid_empty"
    SID_MALFORMED = "sid_malformed"  # the cell does not match input.sid_pattern
    # failed: not delivered, and known not to be
    NOT_CONNECTED = "not_connected"  # no connection: refused, unresolved, no TLS
    ITEM_THROTTLED = "item_throttled"  # the API kept answering 429 for this contact
    REQUEST_REFUSED = "request_refused"  # a whole request was refused, and the split ran out of budget
    # unknown: it may or may not have been added
    TIMED_OUT = "timed_out"
    CONNECTION_LOST = "connection_lost"
    SERVER_ERROR = "server_error"  # 5xx for the request or for the contact
    CONFLICT = "conflict"  # 409 for the whole request: changed concurrently
    ANSWER_UNREADABLE = "answer_unreadable"
    IN_DOUBT = "in_doubt"  # the process died while the request was under way, and delivery.on_unknown is hold
    NOT_IN_ANSWER = "not_in_answer"  # the answer did not name the contact
    CONTRADICTED = "contradicted"  # the answer said two things of the contact
    VERDICT_UNREADABLE = "verdict_unreadable"  # the contact's item says neither yes nor no


class Anomaly(StrEnum):
    """One way in which an answer does not fit its request."""

    MISSING = "missing_contact"
    SURPLUS = "surplus_item"  # names no contact, and its position proves nothing
    REPEATED = "repeated_item"
    FOREIGN = "foreign_item"  # names a contact that was not sent
    CONTRADICTORY = "contradictory_item"
    UNREADABLE_ITEM = "unreadable_item"
    METADATA = "metadata_mismatch"
    UNREADABLE_ANSWER = "unreadable_answer"


class ExitCode(IntEnum):
    """What the process tells the one who started it."""

    COMPLETE = 0
    SOME_NOT_IN_LIST = 1
    USAGE = 2
    THRESHOLD = 3
    REFUSED = 4
    INCOMPLETE = 5


class ApiError(msgspec.Struct, frozen=True, omit_defaults=True):
    """The API's own words for a failure (`error_data`)."""

    code: int | None = None
    message: str | None = None
    description: str | None = None


class ContactResult(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line of the report: what became of one row."""

    row: int  # 1-based over data records
    contact_sid: str | None
    outcome: Outcome
    batch: int  # 1-based
    attempts: int  # requests that carried the contact; throttled ones do not count
    code: int | None = None  # HTTP code that the API gave this contact
    error: ApiError | None = None
    reason: Reason | None = None
    duplicate_of: int | None = None  # the row of this batch that has the same sid


class Place(msgspec.Struct, frozen=True):
    """A place in the input, and proof of all that comes before it."""

    offset: int  # in bytes, decompressed
    lines: int
    digest: bytes  # SHA-256 of those bytes


class Batch(msgspec.Struct, frozen=True, dict=True):
    """A stretch of the input: contacts for one request, and the rows among them that are not sent.

    `rows[i]` is the row of `sids[i]`; no sid stands twice, in whatever case it is written. Rows of
    `unsent` lie between `first_row` and `last_row` too, so that batches tile the input without a gap.
    """

    number: int
    first_row: int
    last_row: int
    rows: Sequence[int]
    sids: Sequence[str]
    unsent: Sequence[ContactResult] = ()
    end: Place | None = None  # where its last row ends, as far as that can be told

    @cached_property
    def digest(self) -> bytes:
        """A fingerprint of all that the input has in these rows."""
        digest = hashlib.sha256(f"{self.number} {self.first_row} {self.last_row}\n".encode())
        digest.update("\n".join(self.sids).encode("utf-8", "surrogatepass"))
        digest.update(msgspec.json.encode(self.unsent))
        return digest.digest()


class Verdict(msgspec.Struct, frozen=True):
    """What one answer proves about one contact.

    `outcome` is what the report says if nothing more is asked; `ask_again` tells that another request
    may settle it better.
    """

    outcome: Outcome
    code: int | None = None
    error: ApiError | None = None
    reason: Reason | None = None
    ask_again: bool = False


class BatchResult(msgspec.Struct, frozen=True):
    """A finished batch: `verdicts[i]` and `attempts[i]` belong to `batch.sids[i]`."""

    batch: Batch
    verdicts: Sequence[Verdict]
    attempts: Sequence[int]
    refusal: str = ""  # the API's words, if it refused the batch as a whole and parts of it were sent


class Attempt(msgspec.Struct, frozen=True):
    """One request, for those who watch a run or look back on it."""

    at: float  # when it left, in seconds of the wall clock
    seconds: float  # until its answer, or until there was none to wait for
    waited_seconds: float  # before it left: for the quota, after a 429, for an outage to end
    contacts: int
    status: int | None  # of HTTP; None: no answer


class Wait(StrEnum):
    """Why no request leaves at the moment; the first of these that holds is the one to show."""

    OUTAGE = "outage"  # the API answers nothing; one request probes from time to time
    THROTTLED = "throttled"  # the API answered 429
    BACK_OFF = "back_off"  # before a retry
    QUOTA = "quota"


class Tally(msgspec.Struct):
    """The running counts of a run; whoever sees an event counts it, on the event loop alone."""

    rows: int = 0
    batches: int = 0
    outcomes: dict[Outcome, int] = msgspec.field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    requests: int = 0
    in_flight: int = 0
    waits: dict[Wait, float] = msgspec.field(default_factory=dict)  # until when, on the event loop's clock
    per_minute: float | None = None  # requests allowed at present; None before the first may leave
    starts: Sequence[float] = ()  # of requests, in the last minute at least, on the event loop's clock
    retries: int = 0
    throttled: int = 0  # answers 429
    anomalies: dict[Anomaly, int] = msgspec.field(default_factory=dict)
    resent_contacts: int = 0  # sent again because a process died while their request was under way
    seconds: float = 0.0  # of all processes that worked on the run

    def restore(self, past: Tally) -> None:
        """Go on from the counts of an earlier process."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(past, name))

    def count_anomalies(self, anomalies: Mapping[Anomaly, int]) -> None:
        """Add what one answer showed."""
        for kind, count in anomalies.items():
            self.anomalies[kind] = self.anomalies.get(kind, 0) + count

    def count_outcomes(self, outcomes: Mapping[Outcome, int]) -> None:
        """Add the rows of one finished batch."""
        for outcome, count in outcomes.items():
            self.outcomes[outcome] += count
            self.rows += count
        self.batches += 1

    @property
    def not_in_list(self) -> int:
        """Rows reported so far whose contact is not, or may not be, in the list."""
        return sum(count for outcome, count in self.outcomes.items() if outcome not in IN_THE_LIST)

    def exit_code(self) -> ExitCode:
        """Exit code of a run that finished with these counts."""
        return ExitCode.SOME_NOT_IN_LIST if self.not_in_list else ExitCode.COMPLETE
