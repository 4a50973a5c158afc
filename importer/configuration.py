"""Where settings and credentials come from: flag > environment > config.yaml > default. Says what is wrong there."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from importer.errors import SettingsError
from importer.settings import Credentials, Settings

ENV_PREFIX = "IMPORTER_"
DEFAULT_CONFIG = Path("config.yaml")
DEFAULT_SECRETS_DIRECTORY = Path("/run/secrets")


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
    file = _read_file(config)
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
    return credentials, check_credentials(credentials, settings, directory)


def check_credentials(credentials: Credentials, settings: Settings, directory: Path = DEFAULT_SECRETS_DIRECTORY) -> str:
    """Give the account's sid. Raises SettingsError that names what is missing, or cannot be."""
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
    return account_sid


def check_list_sid(list_sid: str) -> None:
    """Raise SettingsError if that cannot be a list's sid."""
    if not re.fullmatch(r"[\w.-]+", list_sid):
        raise SettingsError(f"--list: '{list_sid}' is no list sid; it looks like 4d61c2a0b5f14f0a9a9b2e0d3c5e7f81.")


def _read_environment() -> dict[str, Any]:
    """Read IMPORTER_<SECTION>__<FIELD>; unlike pydantic-settings, keep what no section has, to refuse it by name."""
    values: dict[str, Any] = {}
    for name, value in os.environ.items():
        if value and name.upper().startswith(ENV_PREFIX) and "__" in name:  # an empty one is as good as none
            section, _, field = name[len(ENV_PREFIX) :].lower().partition("__")
            values.setdefault(section, {})[field] = None if value.lower() == "null" else value
    return values


def _read_file(config: Path | None) -> dict[str, Any]:
    path = config or DEFAULT_CONFIG
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if config is None:
            return {}
        raise SettingsError(f"{path}: no such file; --config names a YAML file of settings.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}.") from None
    content = _read_yaml(text, path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected sections such as 'api:' and 'delivery:'.")
    return content


def _read_yaml(text: str, path: Path) -> object:
    import yaml  # noqa: PLC0415  # only a run that has such a file waits for it

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}.") from None


def _by_setting(error: ValidationError) -> list[dict[str, Any]]:
    """Give one complaint for each setting, where one that may be of several types has one of each."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in error.errors():
        before = found.get(each["loc"][:2])
        said = each["msg"].removeprefix("Value error, ")
        if before:
            said = f"{before['msg']} or {said.removeprefix('must be ').removeprefix('Input should be ')}"
        found[each["loc"][:2]] = {**(before or each), "msg": said}
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
