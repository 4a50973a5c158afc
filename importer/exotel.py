"""One attempt of the vendor's call: add existing contacts to a list. Never retries, never paces, never logs.

Source of the call's form: "Add contacts to a list" in the vendor's Campaigns API v2 documentation; what is known of it
and what is only assumed stands in docs/architecture.md.
"""

from __future__ import annotations

import base64
import email.utils
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

import aiohttp
import msgspec

from importer import __version__
from importer.answers import Answer, Lost, NotSent, interpret
from importer.model import Reason
from importer.rate import RateLimits

_EARLIEST_EPOCH = 10**9
_LONGEST_RESET_SECONDS = 120
_MOST_DIGITS = 12


class Api(Protocol):
    """Whatever can make one attempt to add contacts to the run's list."""

    async def add_contacts(self, sids: Sequence[str]) -> Answer:
        """Send one request, and say what it came to. Raises nothing that the network or the server can cause."""
        ...


class Exotel:
    """A session with the vendor's API, for one list. An async context manager."""

    def __init__(
        self,
        *,
        base_url: str,
        account_sid: str,
        list_sid: str,
        api_key: str,
        api_token: str,
        connect_timeout_seconds: float,
        request_timeout_seconds: float,
    ) -> None:
        """Connect to nothing yet. `base_url` is scheme, host and port."""
        self._url = f"{base_url}/v2/accounts/{account_sid}/lists/{list_sid}/contacts"
        self._authorization = f"Basic {base64.b64encode(f'{api_key}:{api_token}'.encode()).decode()}"
        self._timeout = aiohttp.ClientTimeout(
            total=request_timeout_seconds, connect=connect_timeout_seconds, sock_connect=connect_timeout_seconds
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the senders are the bound
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Authorization": self._authorization,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # a compressed answer could be of any size once unpacked
                "User-Agent": f"importer/{__version__}",
            },
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def add_contacts(self, sids: Sequence[str]) -> Answer:
        """Send one request, and say what it came to. Raises nothing that the network or the server can cause."""
        assert self._session is not None, "used outside of its context"  # noqa: S101
        try:
            async with self._session.post(self._url, data=encode_body(sids), allow_redirects=False) as response:
                body = await _read(response, max_answer_bytes(len(sids)))
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            return NotSent(Reason.NOT_CONNECTED, _describe(error))
        except TimeoutError:
            return Lost(Reason.TIMED_OUT, f"no answer within {self._timeout.total:g} seconds")
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError) as error:
            return Lost(Reason.ANSWER_UNREADABLE, _describe(error))
        except (aiohttp.ClientError, OSError) as error:
            return Lost(Reason.CONNECTION_LOST, _describe(error))
        if body is None and response.status < 300:
            return Lost(
                Reason.ANSWER_UNREADABLE, f"HTTP {response.status}: the answer is too large", status=response.status
            )
        answer = interpret(response.status, retry_after_seconds(response.headers), body or b"", len(sids))
        limits = read_limits(response.headers)
        return msgspec.structs.replace(answer, http_status=response.status, limits=limits)


class _Reference(msgspec.Struct, gc=False):
    contact_sid: str


def encode_body(sids: Sequence[str]) -> bytes:
    """Give the request's body for these contacts."""
    return msgspec.json.encode({"contact_references": list(map(_Reference, sids))})


def max_answer_bytes(contacts: int) -> int:
    """Bound on an answer's size: twelve times what the documented items take."""
    return 64 * 1024 + 4 * 1024 * contacts


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After, in seconds or as a date; None where there is none that makes sense.

    A date counts from the server's own Date, so that no difference between the clocks matters.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
        now = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def read_limits(headers: Mapping[str, str]) -> RateLimits:
    """Read X-RateLimit-Limit, -Remaining and -Reset, as far as they make sense of requests a minute.

    Documented on a single page of the vendor's, without units: a reset is taken for seconds, or for a time of day
    where it is as large as one; one beyond two minutes shows that the limit is of another period.
    """
    limit, remaining, reset = (
        _whole_number(headers.get(f"X-RateLimit-{name}", "")) for name in ("Limit", "Remaining", "Reset")
    )
    if reset is not None and reset >= _EARLIEST_EPOCH:
        reset -= int(_server_time(headers).timestamp())
    if reset is not None and not 0 <= reset <= _LONGEST_RESET_SECONDS:
        return RateLimits()
    if limit is None or limit < 1 or (remaining is not None and remaining > limit):
        return RateLimits()
    return RateLimits(limit, remaining, reset)


def _whole_number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def _server_time(headers: Mapping[str, str]) -> datetime:
    try:
        return email.utils.parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return datetime.now(UTC)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """Read the body, or give None once it exceeds the limit; the connection is then of no further use."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _describe(error: BaseException) -> str:
    text = str(error).replace(" ssl:default", "") or type(error).__name__  # which aiohttp says of http too
    return text[:300]
