"""The API without sockets: a request in, a reply out, and the ledger written in between.

Every request goes through the same stages, and faults meet it in this order:

1. `arrive` (headers are here): a number, the faults for it, credentials, the limit of requests a minute;
2. `receive` (the body is here): redirect, `status` unprocessed, the API's own refusals, processing with `item_code`;
3. the true answer is distorted: items, `response`, `metadata`, `http_code`, `huge_answer`, `status` processed,
   `not_json`, `truncate`;
4. the reply says how it travels: delays, dribbling, a cut or a reset.

Sockets and waiting belong to `server`. Nothing here awaits, so a request is processed wholly or not at all.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from importer.sandbox import api, distortion
from importer.sandbox.answers import Answer, Breach, Envelope, ItemWriter, metadata_of, refusal, request_id_of, succeeds
from importer.sandbox.effects import Delay, ItemCode, Redirect, Reset, SlowBody, Status, Truncate
from importer.sandbox.faults import FaultScript, Plan, chosen_positions, drawn
from importer.sandbox.ledger import Ledger
from importer.sandbox.limiter import Limiter
from importer.sandbox.settlement import settle
from importer.sandbox.sids import Batch
from importer.sandbox.throttling import limit_headers, throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from importer.sandbox.api import Head
    from importer.sandbox.ledger import ListBook
    from importer.sandbox.scenario import Scenario


class Ending(enum.Enum):
    """How a reply leaves the connection."""

    COMPLETE = "complete"
    # The body is shorter than its announced length; then the connection closes.
    CUT = "cut"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server is to do: wait, send, and end so."""

    ending: Ending
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    body: bytes = b""
    # Length to announce: that of the body unless it is cut.
    announced_length: int = 0
    delay_seconds: float = 0.0
    # Seconds over which the body dribbles, in so many chunks.
    slow_seconds: float = 0.0
    chunks: int = 1


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that has arrived and is not answered yet."""

    head: Head
    plan: Plan
    request_id: str
    headers: Mapping[str, str]
    # Already known before the body: wrong credentials or over the limit.
    answer: Answer | None

    @property
    def is_reset_before_reading(self) -> bool:
        """Whether the connection is to be reset at once."""
        return any(effect.reset == "before" for _, effect in self.plan.all(Reset))


class Engine:
    """One sandbox's life: its clock, its ledger, its limit and what is left of its script."""

    def __init__(
        self, scenario: Scenario, *, clock: Callable[[], float], wall_clock: Callable[[], datetime] | None = None
    ) -> None:
        self.scenario = scenario
        self._clock = clock
        self._wall_clock = wall_clock or (lambda: datetime.now(UTC))
        self.reset()

    def reset(self) -> None:
        """Forget everything: ledger, limit, request numbers and the start of the clock."""
        scenario = self.scenario
        self.ledger = Ledger(scenario.lists, remember_contacts=scenario.ledger.remember_contacts)
        self.script = FaultScript(scenario.faults, scenario.seed)
        self._limiter = Limiter(scenario.limit)
        self._started_at: float | None = None

    def snapshot(self) -> dict[str, Any]:
        """Return the ledger, and how many requests or connections each fault rule has met."""
        return {**self.ledger.snapshot(), "faults": list(self.script.met)}

    @property
    def elapsed_seconds(self) -> float:
        """Seconds on the sandbox's own clock, which starts with the first connection or request."""
        now = self._clock()
        if self._started_at is None:
            self._started_at = now
        return now - self._started_at

    @property
    def http_date(self) -> str:
        """The moment as answers tell it, so that dates in them can be compared with it."""
        return format_datetime(self._wall_clock().astimezone(UTC), usegmt=True)

    def accepts_connections(self) -> bool:
        """Whether a connection, new or used again, may live at this moment; a refusal is entered."""
        if not self.script.refuses_connections(self.elapsed_seconds):
            return True
        self.ledger.connections_refused += 1
        return False

    def arrive(self, head: Head) -> Visit:
        """Number a request whose headers have come, and judge what needs no body."""
        now = self.elapsed_seconds
        number = self.ledger.request_started(now)
        plan = self.script.plan(number, now)
        request_id = request_id_of(self.scenario.seed, number)
        breach = api.authentication_breach(head, self.scenario)
        if breach is not None:
            return Visit(head, plan, request_id, {}, refusal(breach, request_id))
        admission = self._limiter.admit(now)
        if admission is None:
            return Visit(head, plan, request_id, {}, None)
        limit, wall = self.scenario.limit, self._wall_clock()
        headers = limit_headers(admission, limit, wall)
        if admission.is_admitted:
            return Visit(head, plan, request_id, headers, None)
        self.ledger.throttled += 1
        answer = throttled(admission, limit, wall, nth=self.ledger.throttled - 1)
        return Visit(head, plan, request_id, headers, answer)

    def abandon(self, how: str) -> None:
        """Enter a request that ended before its body had come in full."""
        self.ledger.incomplete += 1
        self.ledger.answered(how)

    def oversized(self, visit: Visit) -> Reply:
        """Return the reply to a body beyond `max_body_bytes`, which was not read to its end."""
        self.ledger.incomplete += 1
        bound = self.scenario.api.max_body_bytes
        breach = Breach(413, 1002, f"The request body must not exceed {bound} bytes")
        return self._reply(visit, refusal(breach, visit.request_id))

    def receive(self, visit: Visit, body: bytes) -> Reply:
        """Process a request that was received in full, and return its reply."""
        read = api.read_body(body)
        is_ours = visit.head.account_sid == self.scenario.account_sid
        book = self.ledger.book(visit.head.list_sid) if is_ours else None
        answer = visit.answer or self._scripted(visit) or self._refused(visit, read)
        if isinstance(read, Batch) and book is not None:
            if answer is None:
                answer = self._processed(visit, read, book)
            else:
                book.record(read, known=book.known(read), settlement=None)
        assert answer is not None, "a body that is no batch, and a list that is not ours, are refused"  # noqa: S101
        return self._reply(visit, distortion.distorted(answer, visit.plan, visit.request_id))

    def _scripted(self, visit: Visit) -> Answer | None:
        """Return the answer of a fault that keeps the request from being processed."""
        redirect = visit.plan.first(Redirect)
        if redirect is not None:
            return distortion.redirection(redirect)
        status = visit.plan.first(Status)
        if status is not None and status.process == "never":
            return distortion.scripted_status(status, visit.request_id)
        return None

    def _refused(self, visit: Visit, read: Batch | Breach) -> Answer | None:
        """Return the API's own refusal, from the address inwards."""
        breach = (
            api.account_breach(visit.head, self.scenario)
            or api.list_breach(visit.head, self.scenario)
            or api.content_type_breach(visit.head)
            or (read if isinstance(read, Breach) else api.batch_breach(read, self.scenario))
        )
        return None if breach is None else refusal(breach, visit.request_id)

    def _processed(self, visit: Visit, batch: Batch, book: ListBook) -> Answer:
        scripted: dict[int, ItemCode] = {}
        for rule, effect in visit.plan.all(ItemCode):
            draw = visit.plan.drawn(f"item_code {rule}")
            for position in chosen_positions(effect, draw, len(batch.keys), otherwise=1.0):
                scripted.setdefault(position, effect)
        skipped = {position for position, effect in scripted.items() if not effect.processed}
        known, room = book.known(batch), self._room(book, len(batch.keys))
        settlement = settle(batch, self.scenario, known=known, room=room, skipped=skipped)
        book.record(batch, known=known, settlement=settlement)

        settings, sids = self.scenario.api, batch.sids
        writer = ItemWriter(self.scenario.account_sid, visit.head.list_sid, self._wall_clock(), settings)
        others = {
            position: writer.item(sids[position], verdict)
            for position, verdict in settlement.verdicts.items()
            if position not in scripted and not succeeds(verdict, settings)
        }
        others.update((position, writer.scripted(sids[position], hit.item_code)) for position, hit in scripted.items())
        failed = len(others) - sum(1 for hit in scripted.values() if hit.item_code < 300)
        status = 207 if failed else settings.all_ok_status
        envelope = Envelope(visit.request_id, "POST", status, metadata_of(len(sids) - failed, len(sids)))
        if not visit.plan.hits:
            return Answer(status, replace(envelope, pieces=writer.pieces(sids, others)))
        items = writer.added(sids)
        for position, item in others.items():
            items[position] = item
        return Answer(status, replace(envelope, items=items))

    def _room(self, book: ListBook, wanted: int) -> int:
        cap = self.scenario.api.list_cap
        return wanted if cap is None else max(0, cap - book.added)

    def _reply(self, visit: Visit, answer: Answer) -> Reply:
        plan = visit.plan
        delay = self._latency_seconds(plan.number) + sum(hit.delay_seconds for _, hit in plan.all(Delay))
        if any(hit.reset == "after" for _, hit in plan.all(Reset)):
            self.ledger.answered("reset")
            return Reply(Ending.RESET, delay_seconds=delay)
        self.ledger.answered(answer.status)
        body = answer.encoded
        reply = Reply(
            Ending.COMPLETE,
            status=answer.status,
            headers={**visit.headers, **answer.headers},
            content_type=answer.content_type,
            body=body,
            announced_length=len(body),
            delay_seconds=delay,
        )
        cut = plan.first(Truncate)
        if cut is not None:
            part = body[: int(len(body) * cut.truncate)]
            is_honest = cut.content_length == "short"
            reply = replace(
                reply,
                ending=Ending.COMPLETE if is_honest else Ending.CUT,
                body=part,
                announced_length=len(part) if is_honest else len(body),
            )
        slow = plan.first(SlowBody)
        return reply if slow is None else replace(reply, slow_seconds=slow.slow_body, chunks=slow.chunks)

    def _latency_seconds(self, number: int) -> float:
        latency = self.scenario.latency
        if not latency.median_seconds:
            return 0.0
        deviation = drawn(self.scenario.seed, "latency", number).gauss(0.0, latency.spread)
        return latency.median_seconds * math.exp(deviation)
