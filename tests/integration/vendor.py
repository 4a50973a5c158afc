"""A stand-in of the API in the same process, whose truth outlives the importer's deaths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import msgspec

from importer.answers import Answer, Answered, Lost, NotSent, Refused, Throttled
from importer.envelope import Item
from importer.model import ApiError, Reason


class Standing(Enum):
    """What the API always says of a contact."""

    MEMBER = "was in the list before"
    REFUSED = "is refused by itself"
    POISON = "makes it refuse the whole request"


class Fault(Enum):
    """What happens once to a request that carries a contact, or to the contact alone."""

    UNREACHED = NotSent(Reason.NOT_CONNECTED, "refused")
    THROTTLED = Throttled(0.5)
    LOST_BEFORE = Lost(Reason.CONNECTION_LOST, "reset")
    LOST_AFTER = Lost(Reason.TIMED_OUT, "no answer")
    FORBIDDEN = Refused(403)
    GARBLED = Lost(Reason.ANSWER_UNREADABLE, "html", None, 200)
    ITEM_THROTTLED = "its item says 429, and it was not looked at"
    UNNAMED = "it was added, and the answer leaves it out"


WHOLE = frozenset(
    {Fault.UNREACHED, Fault.THROTTLED, Fault.FORBIDDEN, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.GARBLED}
)
AFTER_PROCESSING = frozenset({Fault.LOST_AFTER, Fault.GARBLED})


class Vendor:
    """The API: what it will do, and what it has truly done. Faults go by contact, and each strikes once."""

    def __init__(
        self, standings: Mapping[str, Standing] | None = None, faults: Mapping[str, Sequence[Fault]] | None = None
    ) -> None:
        self.standings = dict(standings or {})
        self.faults = {sid: list(due) for sid, due in (faults or {}).items()}
        self.added: set[str] = set()
        self.processed: Counter[str] = Counter()  # how often each contact was looked at
        self.sent: Counter[str] = Counter()

    def receive(self, sids: Sequence[str]) -> Callable[[], Answer]:
        """Take a request and do what it asks for; what comes back gives the answer, if anyone is there to hear it."""
        self.sent.update(sids)
        fault = self._whole_fault(sids)
        if fault is not None and fault not in AFTER_PROCESSING:
            return lambda: _answer_of(fault)
        if len(sids) > 1 and any(self.standings.get(sid) is Standing.POISON for sid in sids):
            return lambda: Refused(400, ApiError(1002))
        items = [item for sid in sids if (item := self._process(sid)) is not None]
        return lambda: Answered(items) if fault is None else _answer_of(fault)

    def has(self, sid: str) -> bool:
        """Whether the contact is truly in the list."""
        return sid in self.added or self.standings.get(sid) is Standing.MEMBER

    def _whole_fault(self, sids: Sequence[str]) -> Fault | None:
        for sid in sids:
            due = self.faults.get(sid)
            if due and due[0] in WHOLE:
                return due.pop(0)
        return None

    def _process(self, sid: str) -> Item | None:
        due = self.faults.get(sid)
        fault = due.pop(0) if due and due[0] not in WHOLE else None
        if fault is Fault.ITEM_THROTTLED:
            return Item((sid,), 429, "failure", ApiError(1010))
        self.processed[sid] += 1
        match self.standings.get(sid):
            case Standing.REFUSED | Standing.POISON:
                return Item((sid,), 400, "failure", ApiError(1002, "Invalid parameter"))
            case Standing.MEMBER:
                return Item((sid,), 409, "failure", ApiError(1008))
        if sid in self.added:
            return Item((sid,), 409, "failure", ApiError(1008))
        self.added.add(sid)
        return None if fault is Fault.UNNAMED else Item((sid,), 200, "success")


def _answer_of(fault: Fault) -> Answer:
    answer: Answer = msgspec.structs.replace(fault.value)
    return answer
