"""Logs on standard error: constant event names with fields, one line an event, secrets masked. structlog lives here."""

from __future__ import annotations

import base64
import logging
import sys
from collections.abc import Sequence
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
        self._secrets = [secret for secret in (pair, api_token, api_key) if len(secret) >= _SHORTEST_SECRET]

    def text(self, text: str) -> str:
        """Mask one text."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Mask a log event's fields, as a structlog processor."""
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = self.text(value)
        return event


class _Stderr:
    """Whatever sys.stderr is at the moment: a live display puts itself there."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logs(level: str, form: Literal["auto", "console", "json"], masker: Masker) -> None:
    """Set up structlog for the process. `auto` is for people on a terminal, and for machines elsewhere."""
    for_people = form == "console" or (form == "auto" and sys.stderr.isatty())
    finish: Sequence[Processor] = (
        (structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),)
        if for_people
        else (structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str))
    )
    chain: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
        masker,
        *finish,
    ]
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(_Stderr()),  # type: ignore[arg-type]  # write and flush are all it uses
        cache_logger_on_first_use=False,
    )
