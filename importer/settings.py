"""Settings and credentials: flag > environment > config.yaml > default. Checked once, at the start; frozen after."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from importer.errors import SettingsError
from importer.exotel import REGIONS
from importer.source import DEFAULT_SID_PATTERN
from importer.thresholds import parse_limit

ENV_PREFIX = "IMPORTER_"
DEFAULT_CONFIG = Path("config.yaml")
DEFAULT_SECRETS_DIRECTORY = Path("/run/secrets")

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
    max_failures: Annotated[int, Field(ge=0)] | Annotated[str, AfterValidator(_is_limit)] | None = None


class LogSettings(Section):
    """What is told while it runs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(Section):
    """Everything that can be set, but the credentials."""

    api: ApiSettings = ApiSettings()
    input: InputSettings = InputSettings()
    delivery: DeliverySettings = DeliverySettings()
    retry: RetrySettings = RetrySettings()
    run: RunSettings = RunSettings()
    log: LogSettings = LogSettings()

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


def load_settings(flags: Mapping[str, Mapping[str, Any]], config: Path | None) -> Settings:
    """Merge and check all sources. `flags` is by section; None values were not given.

    Without `config`, `config.yaml` of the working directory is read if there is one. Raises SettingsError, which
    names the source, the key and what is wrong with it.
    """
    given = {
        section: values
        for section, fields in flags.items()
        if (values := {key: value for key, value in fields.items() if value is not None})
    }
    environment = _read_environment()
    file_name = str(config or DEFAULT_CONFIG)
    file = _read_yaml(config)
    sources = {"command line": given, "environment": environment, file_name: file}
    merged: dict[str, Any] = {}
    for values in reversed(sources.values()):
        for section, fields in values.items():
            if isinstance(fields, Mapping) and isinstance(merged.get(section, {}), Mapping):
                merged[section] = {**merged.get(section, {}), **fields}
            elif fields is not None:  # an empty section of the file
                merged[section] = fields
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(each, sources) for each in _by_setting(error))) from None


def load_credentials(settings: Settings) -> tuple[Credentials, str]:
    """Read the credentials and the account. Raises SettingsError that names what is missing."""
    directory = Path(os.environ.get("IMPORTER_SECRETS_DIR") or DEFAULT_SECRETS_DIRECTORY)
    try:
        credentials = Credentials(_secrets_dir=directory if directory.is_dir() else None)  # type: ignore[call-arg]  # of BaseSettings
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{directory}: the secrets cannot be read ({type(error.__cause__ or error).__name__})."
        ) from None
    account_sid = settings.api.account_sid or credentials.account_sid
    values = {
        "EXOTEL_API_KEY": credentials.api_key.get_secret_value(),
        "EXOTEL_API_TOKEN": credentials.api_token.get_secret_value(),
        "EXOTEL_ACCOUNT_SID": account_sid,
    }
    if missing := [name for name, value in values.items() if not value]:
        raise SettingsError(
            f"Missing: {', '.join(missing)}. Set them in the environment, or as files of these names in {directory} "
            "(IMPORTER_SECRETS_DIR names another directory)."
        )
    if ":" in values["EXOTEL_API_KEY"]:
        raise SettingsError("EXOTEL_API_KEY must not contain ':'; is it the whole 'key:token'?")
    if not re.fullmatch(r"[\w.-]+", account_sid):
        raise SettingsError("EXOTEL_ACCOUNT_SID may hold letters, digits, '.', '-' and '_' only.")
    return credentials, account_sid


def _read_environment() -> dict[str, Any]:
    """Read IMPORTER_<SECTION>__<FIELD>; unlike pydantic-settings, keep what no section has, to refuse it by name."""
    values: dict[str, Any] = {}
    for name, value in os.environ.items():
        if name.upper().startswith(ENV_PREFIX) and "__" in name:
            section, _, field = name[len(ENV_PREFIX) :].lower().partition("__")
            values.setdefault(section, {})[field] = None if value.lower() in {"null", ""} else value
    return values


def _read_yaml(config: Path | None) -> dict[str, Any]:
    path = config or DEFAULT_CONFIG
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if config is None:
            return {}
        raise SettingsError(f"{path}: no such file; --config names a YAML file of settings.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}.") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected sections such as 'api:' and 'delivery:'.")
    return content


def _by_setting(error: ValidationError) -> list[dict[str, Any]]:
    """Give one complaint for each setting, where one that may be of several types has one of each."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in error.errors():
        before = found.get(each["loc"][:2])
        message = before["msg"] + each["msg"].replace("Input should be", " or") if before else each["msg"]
        found[each["loc"][:2]] = {**(before or each), "msg": message}
    return list(found.values())


def _explain(error: dict[str, Any], sources: Mapping[str, Mapping[str, Any]]) -> str:
    """Turn one of pydantic's complaints into: where, which key, what must be, what it is."""
    location = [str(part) for part in error["loc"]][:2]
    key = ".".join(location)
    source = next((name for name, values in sources.items() if _has(values, location)), "settings")
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    message = message.replace("String should", "must").replace(
        "a valid integer, unable to parse string as an integer", "a whole number"
    )
    message = message.replace("a valid number, unable to parse string as a number", "a number")
    if error["type"] == "extra_forbidden":
        section = Settings.model_fields.get(location[0])
        fields = list(Settings.model_fields) if section is None else list(section.annotation.model_fields)  # type: ignore[union-attr]  # a Section
        near = difflib.get_close_matches(location[-1], fields, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(fields)}."
        return f"{source}: unknown setting {key}; {hint}"
    if not location:
        return f"settings: {message}."
    if error["type"] == "model_type":
        message = "must be a section of settings"
    elif error["type"] == "path_type":
        message = "must be a path"
    # What was meant as an address may hold a password.
    shown = "a value with '@' in it" if "@" in str(error["input"]) else repr(error["input"])[:60]
    return f"{source}: {key} {message}, got {shown}."


def _has(values: Mapping[str, Any], location: list[str]) -> bool:
    inner: Any = values
    for part in location:
        if not isinstance(inner, Mapping) or part not in inner:
            return False
        inner = inner[part]
    return bool(location)
