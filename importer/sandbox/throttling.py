"""What the API says about its limit of requests a minute: headers, and the 429. Decides nothing."""

from __future__ import annotations

import math
from datetime import UTC, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Literal

from importer.sandbox.answers import Answer, too_many_requests

if TYPE_CHECKING:
    from datetime import datetime

    from importer.sandbox.limiter import Admission
    from importer.sandbox.sections import Limit


def limit_headers(admission: Admission, limit: Limit, now: datetime) -> dict[str, str]:
    """Return the X-RateLimit headers that an answer carries; none where the limit is not told."""
    if not limit.headers:
        return {}
    wait = math.ceil(admission.reset_seconds)
    reset = wait if limit.reset_header == "seconds" else math.ceil(now.timestamp() + admission.reset_seconds)
    return {
        "X-RateLimit-Limit": str(admission.limit),
        "X-RateLimit-Remaining": str(admission.remaining),
        "X-RateLimit-Reset": str(reset),
    }


def throttled(admission: Admission, limit: Limit, now: datetime, *, nth: int) -> Answer:
    """Return the 429 for a request beyond the limit, the `nth` since the beginning, counted from 0."""
    headers = limit_headers(admission, limit, now)
    retry_after = _retry_after(admission, limit, now)
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    shapes: tuple[Literal["rest_exception", "error"], ...]
    shapes = ("rest_exception", "error") if limit.body == "alternate" else (limit.body,)
    shape = shapes[nth % len(shapes)]
    body = too_many_requests(admission.limit, math.ceil(admission.reset_seconds), shape)
    return Answer(429, body, headers)


def _retry_after(admission: Admission, limit: Limit, now: datetime) -> str | None:
    if limit.retry_after in (None, "none"):
        return None
    if limit.retry_after == "seconds":
        return str(math.ceil(admission.reset_seconds))
    if limit.retry_after == "date":
        # A date has whole seconds: round up, or the client comes too early.
        moment = now.astimezone(UTC) + timedelta(seconds=admission.reset_seconds)
        return format_datetime((moment + timedelta(microseconds=999_999)).replace(microsecond=0), usegmt=True)
    return str(limit.retry_after)
