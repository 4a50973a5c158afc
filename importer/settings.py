"""What can be set, what it may be, and what it is by default. Checked once, at the start; frozen after."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from importer.source import DEFAULT_SID_PATTERN
from importer.thresholds import parse_limit

REGIONS = {"mumbai": "https://api.in.exotel.com", "singapore": "https://api.exotel.com"}

Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600, allow_inf_nan=False)]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression ({error})") from error
    return pattern


def _name_or_number(value: object) -> str | int:
    column = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(column, str) and column.strip():
        return column
    if isinstance(column, int) and not isinstance(column, bool) and column >= 1:
        return column
    raise ValueError("must be a name, or a number from 1")


def _is_limit(text: str) -> str:
    try:
        parse_limit(text)
    except ValueError:
        raise ValueError('must be a number of rows or a percentage such as "5%"') from None
    return text


def _plain_url(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        has_address = bool(parts.hostname) and parts.port != 0 and " " not in parts.netloc
    except ValueError:  # no such port
        parts, has_address = urlsplit(""), False
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold credentials; use EXOTEL_API_KEY and EXOTEL_API_TOKEN")
    more = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not has_address or more:
        raise ValueError("must be scheme, host and port, such as https://api.exotel.com")
    return f"{parts.scheme}://{parts.netloc}"


def _is_ip_address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("must be an IP address, such as 127.0.0.1 or 0.0.0.0") from None
    return text


def _is_gateway(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no such port
        is_one = False
    if not is_one or parts.query or parts.fragment or not url.get_secret_value().isprintable():
        raise ValueError("must be the address of a Pushgateway, such as http://127.0.0.1:9091")
    return url


class Section(BaseModel):
    """A part of the settings: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiSettings(Section):
    """The far end."""

    account_sid: str | None = Field(default=None, pattern=r"^[\w.-]+$")
    region: Literal["mumbai", "singapore"] = "mumbai"
    base_url: Annotated[str | None, AfterValidator(_plain_url)] = None
    connect_timeout_seconds: Seconds = 10
    request_timeout_seconds: Seconds = 120

    @property
    def url(self) -> str:
        """Scheme, host and port of the API."""
        return self.base_url or REGIONS[self.region]


class InputSettings(Section):
    """How the input is read."""

    column: Annotated[str | int, BeforeValidator(_name_or_number)] = "contact_sid"
    delimiter: Literal["auto", ",", ";", "\t", "|"] = "auto"
    encoding: str = "utf-8"
    sid_pattern: Annotated[str, AfterValidator(_compiles)] = DEFAULT_SID_PATTERN

    @field_validator("delimiter", mode="before")
    @classmethod
    def _named_tab(cls, value: object) -> object:
        return "\t" if value in ("tab", r"\t") else value


class DeliverySettings(Section):
    """How fast, and how much at a time."""

    batch_size: int = Field(default=5000, ge=1, le=5000)
    concurrency: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = 4
    max_concurrency: int = Field(default=32, ge=1, le=256)
    requests_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["auto"] = 30.0
    on_unknown: Literal["resend", "hold"] = "resend"


class RetrySettings(Section):
    """How long to insist."""

    max_attempts: int = Field(default=6, ge=1)
    max_elapsed_seconds: Seconds = 900
    initial_wait_seconds: Seconds = 1
    max_wait_seconds: Seconds = 60


class RunSettings(Section):
    """The run's files and its end."""

    directory: Path = Path("runs")
    shutdown_grace_seconds: float = Field(default=25, ge=0, le=3600)
    unfinished: Literal["report", "finish"] = "report"
    overlap: Literal["refuse", "allow"] = "refuse"
    max_failures: Annotated[int, Field(ge=0)] | Annotated[str, AfterValidator(_is_limit)] | None = None


class LogSettings(Section):
    """What is told while it runs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class MetricsSettings(Section):
    """Where the run's metrics are told, for Prometheus."""

    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    address: Annotated[str, AfterValidator(_is_ip_address)] = "127.0.0.1"
    textfile: Path | None = None
    pushgateway: Annotated[SecretStr, AfterValidator(_is_gateway)] | None = None  # secret: it may hold credentials
    job: str = Field(default="importer", min_length=1)


class Settings(Section):
    """Everything that can be set, but the credentials."""

    api: ApiSettings = ApiSettings()
    input: InputSettings = InputSettings()
    delivery: DeliverySettings = DeliverySettings()
    retry: RetrySettings = RetrySettings()
    run: RunSettings = RunSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.retry.initial_wait_seconds > self.retry.max_wait_seconds:
            raise ValueError("retry.initial_wait_seconds must not exceed retry.max_wait_seconds")
        if self.api.connect_timeout_seconds > self.api.request_timeout_seconds:
            raise ValueError("api.connect_timeout_seconds must not exceed api.request_timeout_seconds")
        return self


class Credentials(BaseSettings):
    """Who we are to the API. From the environment, or from files of a secrets directory."""

    model_config = SettingsConfigDict(env_prefix="EXOTEL_", env_ignore_empty=True, frozen=True, extra="ignore")

    api_key: SecretStr = SecretStr("")
    api_token: SecretStr = SecretStr("")
    account_sid: str = ""

    @field_validator("*", mode="before")
    @classmethod
    def _trimmed(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value  # a file ends with a line end
