"""The ledger: what truly happened, whatever the answers said. Decides nothing about any request."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, cast

from importer.sandbox.sids import digest_text, key_of, sid_of, sum_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from importer.sandbox.settlement import Settlement
    from importer.sandbox.sids import Batch, Key


class ListBook:
    """One list: what was sent to it and what was added. A contact added is never added again."""

    def __init__(self, *, remembers: bool) -> None:
        self._remembers = remembers
        self._sum = 0
        self.added = 0
        self.members_before = 0
        self.contacts_sent = 0
        self.repeated_within_a_request = 0
        self._members: set[Key] = set()
        # Most contacts stand in the first set alone, so that each costs memory once.
        self._unadded: set[Key] = set()
        self._processed_unadded: set[Key] = set()
        self._sent_again: set[Key] = set()
        self._processed_again: set[Key] = set()

    def has_added(self, key: Key) -> bool:
        """Whether the sandbox remembers having added this contact."""
        return key in self._members

    def known(self, batch: Batch) -> frozenset[Key]:
        """Return those contacts of the batch that the sandbox remembers having added."""
        return batch.distinct & self._members

    def added_sids(self) -> Iterator[str]:
        """Yield the remembered sids, lower-case, in no order, as they were when this was called."""
        return map(sid_of, tuple(self._members))

    def record(self, batch: Batch, *, known: frozenset[Key], settlement: Settlement | None) -> None:
        """Enter one well-formed body that was received in full.

        `known` is what `known()` said of it before, `settlement` what became of it: None if nobody looked at it.
        """
        distinct = batch.distinct
        added = settlement.added if settlement is not None else ()
        self.contacts_sent += len(batch.keys)
        self.repeated_within_a_request += batch.repeated
        self.added += len(added)
        self._sum += sum_of(_raw_of(batch, added))
        if not self._remembers:
            self.members_before += len(settlement.met_members) if settlement is not None else 0
            return
        self._sent_again |= known | (distinct & self._unadded)
        if settlement is not None:
            met = settlement.met_members
            self.members_before += sum(1 for key in met if key not in self._processed_unadded)
            again = known | (distinct & self._processed_unadded)
            self._processed_again |= again - settlement.skipped
        if len(added) == len(distinct):
            self._members |= distinct
            return
        self._members.update(added)
        unadded = distinct.difference(added)
        self._unadded |= unadded
        if settlement is not None:
            self._processed_unadded |= unadded - settlement.skipped

    def snapshot(self) -> dict[str, Any]:
        """Return the figures of this list."""
        return {
            "added": self.added,
            "digest": digest_text(self._sum),
            "members_before": self.members_before,
            "contacts_sent": self.contacts_sent,
            "contacts_sent_more_than_once": len(self._sent_again) if self._remembers else None,
            "contacts_processed_more_than_once": len(self._processed_again) if self._remembers else None,
            "repeated_within_a_request": self.repeated_within_a_request,
        }


class Ledger:
    """Everything since the sandbox began or was last reset. Its figures never depend on what a client received."""

    def __init__(self, lists: Sequence[str], *, remember_contacts: bool = True) -> None:
        self.requests = 0
        # Requests beyond the limit; a scripted 429 is not among them.
        self.throttled = 0
        # Requests whose body never came in full.
        self.incomplete = 0
        self.connections_refused = 0
        self.by_status: Counter[str] = Counter()
        self.most_requests_in_60_seconds = 0
        self._starts: deque[float] = deque()
        self._books = {list_sid: ListBook(remembers=remember_contacts) for list_sid in lists}

    def book(self, list_sid: str) -> ListBook | None:
        """Return the book of a list, or None where there is no such list."""
        return self._books.get(list_sid)

    def request_started(self, now: float) -> int:
        """Enter a request at `now`, in seconds that never go back; return its number, counted from 1."""
        self.requests += 1
        self._starts.append(now)
        # Two requests exactly a minute apart do not share a window of a minute.
        while self._starts[0] <= now - 60.0:
            self._starts.popleft()
        self.most_requests_in_60_seconds = max(self.most_requests_in_60_seconds, len(self._starts))
        return self.requests

    def answered(self, how: int | str) -> None:
        """Enter how a request ended: its status, or `reset`."""
        self.by_status[str(how)] += 1

    def was_added(self, sid: str, list_sid: str | None = None) -> bool:
        """Whether this contact was added to the list, or to any list where none is given."""
        key = key_of(sid)
        books = self._books.values() if list_sid is None else [self._books[list_sid]]
        return any(book.has_added(key) for book in books)

    def snapshot(self) -> dict[str, Any]:
        """Return what `GET /_ledger` shows."""
        lists = {list_sid: book.snapshot() for list_sid, book in self._books.items()}
        totals = {name: _total(lists, name) for name in _TOTALS}
        return {
            "requests": self.requests,
            "by_status": dict(sorted(self.by_status.items())),
            "throttled": self.throttled,
            "incomplete": self.incomplete,
            "connections_refused": self.connections_refused,
            "most_requests_in_60_seconds": self.most_requests_in_60_seconds,
            **totals,
            "lists": lists,
        }


_TOTALS = (
    "contacts_sent",
    "contacts_sent_more_than_once",
    "contacts_processed_more_than_once",
    "repeated_within_a_request",
)


def _total(lists: dict[str, dict[str, Any]], name: str) -> int | None:
    figures = [figure[name] for figure in lists.values()]
    return None if None in figures else sum(figures)


def _raw_of(batch: Batch, added: Sequence[Key]) -> bytes:
    if batch.raw is not None and len(added) == len(batch.keys):
        return batch.raw
    # What was added is well-formed, so its keys are bytes.
    return b"".join(cast("Sequence[bytes]", added))
