"""A sandbox without sockets for the tests of its rules, and the few things that all its tests need."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import selectors
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from importer.sandbox import DEFAULT_LIST, Scenario
from importer.sandbox.api import Head
from importer.sandbox.engine import Engine, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AUTHORIZATION = "Basic " + base64.b64encode(b"sandbox-key:sandbox-token").decode()
HEADERS = {"Authorization": AUTHORIZATION, "Content-Type": "application/json"}
PATH = f"/v2/accounts/sandbox/lists/{DEFAULT_LIST}/contacts"
NOON = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)


def some_sids(count: int, seed: int = 1) -> list[str]:
    """Return that many different sids, always the same."""
    draw = random.Random(seed)
    return [f"{draw.getrandbits(128):032x}" for _ in range(count)]


def body_of(sids: Sequence[object]) -> bytes:
    return json.dumps({"contact_references": [{"contact_sid": sid} for sid in sids]}).encode()


class Rig:
    """An engine under a clock that the test moves."""

    def __init__(self, scenario: Scenario | str = "") -> None:
        self.now = 1000.0
        self.scenario = Scenario.from_text(scenario) if isinstance(scenario, str) else scenario
        self.engine = Engine(self.scenario, clock=lambda: self.now, wall_clock=self._wall)
        # The clock of a sandbox starts with its first connection.
        self.engine.accepts_connections()

    def _wall(self) -> datetime:
        return NOON + timedelta(seconds=self.now - 1000.0)

    def post(
        self,
        body: bytes | Sequence[object],
        *,
        account: str = "sandbox",
        list_sid: str = DEFAULT_LIST,
        authorization: str = AUTHORIZATION,
        content_type: str = "application/json",
    ) -> Reply:
        visit = self.engine.arrive(Head(account, list_sid, authorization, content_type))
        return self.engine.receive(visit, body if isinstance(body, bytes) else body_of(body))

    def answer(self, sids: Sequence[object]) -> Any:
        return json.loads(self.post(sids).body)

    def items(self, sids: Sequence[object]) -> Any:
        return self.answer(sids)["response"]

    def list_figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = self.engine.snapshot()["lists"][DEFAULT_LIST]
        return figures


async def until(is_true: Callable[[], bool]) -> None:
    """Let the loop turn until something is true; the test's own time limit bounds it."""
    while not is_true():  # noqa: ASYNC110 - the sandbox announces nothing, and nothing is slept away
        await asyncio.sleep(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps over every wait in which no socket has anything to say."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.skipped_seconds = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self._loop.skipped_seconds += timeout
        return ready


def codes(items: Sequence[dict[str, Any]]) -> list[int]:
    return [item["code"] for item in items]


def named(items: Sequence[dict[str, Any]]) -> list[str | None]:
    return [item["data"]["sid"] if item["data"] else None for item in items]
