"""Logs on standard error: constant event names with fields, one line an event, secrets masked. structlog lives here."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK = "**********"
_SHORTEST_SECRET = 4


class Masker:
    """Replaces secrets in whatever is shown: as they are, and as HTTP Basic would encode them."""

    def __init__(self, api_key: str = "", api_token: str = "") -> None:
        """Mask nothing by default. A secret of fewer than four characters would mask half the text, and does not."""
        pair = base64.b64encode(f"{api_key}:{api_token}".encode()).decode() if api_key else ""
        secrets = {form for secret in (pair, api_token, api_key) for form in (secret, json.dumps(secret)[1:-1])}
        # The longest first: one may be a part of another.
        self._secrets = sorted((secret for secret in secrets if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)

    def text(self, text: str) -> str:
        """Mask one text."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def __call__(self, _: WrappedLogger, __: str, event: EventDict | str) -> EventDict | str:
        """Mask a log event's fields, or its finished line, as a structlog processor."""
        if isinstance(event, str):
            return self.text(event)
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = self.text(value)
        return event


class _Stderr:
    """Whatever sys.stderr is at the moment: a live display puts itself there.

    What it does not take is dropped: a run must not end because its log's disk is full, or its reader has gone.
    """

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def _shows_colours() -> bool:
    is_dumb = os.environ.get("TERM", "dumb") in {"dumb", "unknown", ""}
    return sys.stderr.isatty() and not is_dumb and not os.environ.get("NO_COLOR")


def configure_logs(level: str, form: Literal["auto", "console", "json"], masker: Masker) -> None:
    """Set up structlog for the process. `auto` is for people on a terminal, and for machines elsewhere."""
    for_people = form == "console" or (form == "auto" and sys.stderr.isatty())
    without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    finish: Sequence[Processor] = (
        (structlog.dev.ConsoleRenderer(colors=_shows_colours(), exception_formatter=structlog.dev.plain_traceback),)
        if for_people
        else (structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer(default=str))
    )
    chain: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
        masker,
        *finish,
        masker,
    ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(_Stderr()),  # type: ignore[arg-type]  # write and flush are all it uses
        cache_logger_on_first_use=False,
    )


def configure_library_logs() -> None:
    """Hand events to `logging`, as a library's, unless the program has configured structlog by itself."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=lambda *_: logging.getLogger("importer"),
        )
