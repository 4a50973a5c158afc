"""Settings come from flag, environment, file and default, in this order; a mistake is named where it was made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from importer.configuration import load_credentials, load_settings
from importer.errors import SettingsError
from importer.settings import Credentials, Settings

KEY, TOKEN, ACCOUNT = "a-made-up-key", "a-made-up-token", "account"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start from an empty directory and an environment without any of our names."""
    for name in os.environ:
        if name.upper().startswith(("IMPORTER_", "EXOTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPORTER_SECRETS_DIR", str(tmp_path / "secrets"))


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def error_of(
    flags: dict[str, dict[str, Any]] | None = None, config: Path | None = None, *, credentials: bool = False
) -> str:
    if credentials:
        with pytest.raises(SettingsError) as caught:
            load_credentials(Settings())
    else:
        with pytest.raises(SettingsError) as caught:
            load_settings(flags or {}, config)
    return str(caught.value)


def test_defaults() -> None:
    """Without any source, the settings are those of the documentation."""
    settings = load_settings({}, None)

    assert Settings() == settings
    assert (
        settings.delivery.batch_size,
        settings.delivery.concurrency,
        settings.delivery.requests_per_minute,
        settings.delivery.on_unknown,
    ) == (5000, 4, 30, "resend")
    assert (
        settings.input.column,
        settings.input.delimiter,
        settings.input.encoding,
        settings.input.sid_pattern,
    ) == ("contact_sid", "auto", "utf-8", "[0-9a-fA-F]{32}")


@pytest.mark.parametrize(
    ("flag", "environment", "file", "expected"),
    [
        (1, "2", "3", 1),
        (None, "2", "3", 2),
        (None, None, "3", 3),
        (None, None, None, 5000),
        (1, None, "3", 1),
        (1, "not a number", "nor this", 1),
    ],
)
def test_precedence(
    monkeypatch: pytest.MonkeyPatch, flag: int | None, environment: str | None, file: str | None, expected: int
) -> None:
    """A flag beats the environment, which beats the file, which beats the default."""
    if environment is not None:
        monkeypatch.setenv("IMPORTER_DELIVERY__BATCH_SIZE", environment)
    if file is not None:
        write("config.yaml", f"delivery: {{batch_size: {file}}}")
    settings = load_settings({"delivery": {"batch_size": flag}}, None)

    assert expected == settings.delivery.batch_size


def test_sources_are_merged_setting_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source sets what it names and leaves its neighbours in the section alone."""
    write("config.yaml", "delivery: {batch_size: 1, concurrency: 2}\ninput:\nrun: {directory: there}\n")
    monkeypatch.setenv("importer_delivery__concurrency", "3")
    monkeypatch.setenv("IMPORTER_INPUT__DELIMITER", "tab")
    settings = load_settings({"delivery": {"requests_per_minute": 4.5, "batch_size": None}}, None)

    assert (1, 3, 4.5, "\t", Path("there")) == (
        settings.delivery.batch_size,
        settings.delivery.concurrency,
        settings.delivery.requests_per_minute,
        settings.input.delimiter,
        settings.run.directory,
    )


def test_another_file_may_be_named() -> None:
    """`--config` names a file; config.yaml is not read beside it."""
    write("config.yaml", "delivery: {batch_size: 1}")
    settings = load_settings({}, write("other.yaml", "delivery: {concurrency: 2}"))

    assert (settings.delivery.batch_size, settings.delivery.concurrency) == (5000, 2)


@pytest.mark.parametrize(
    ("value", "column"), [("3", 3), (" 3 ", 3), ("sid", "sid"), ("3rd", "3rd"), ("-sid", "-sid"), (7, 7)]
)
def test_column_by_name_or_number(value: str | int, column: str | int) -> None:
    """A column that is given in digits is a number, from wherever it comes."""
    assert column == load_settings({"input": {"column": value}}, None).input.column


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://api.in.exotel.com"),
        ({"base_url": "http://127.0.0.1:8080/"}, "http://127.0.0.1:8080"),
        ({"base_url": "https://[::1]:9"}, "https://[::1]:9"),
    ],
)
def test_url_is_that_of_the_region_or_the_one_given(given: dict[str, str], url: str) -> None:
    """The API's address is the region's, unless another one is given."""
    assert url == load_settings({"api": given}, None).api.url


def test_null_takes_a_setting_of_the_file_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """`null` in the environment stands for no value; an empty one is as good as no variable."""
    write("config.yaml", "api: {base_url: 'http://127.0.0.1:1'}")
    for value, base_url in [("null", None), ("", "http://127.0.0.1:1")]:
        monkeypatch.setenv("IMPORTER_API__BASE_URL", value)

        assert base_url == load_settings({}, None).api.base_url


def test_settings_are_frozen() -> None:
    """Nothing changes a setting once it is read."""
    settings = load_settings({}, None)
    with pytest.raises(ValidationError):
        settings.delivery.batch_size = 1


URL_RULE = "must be scheme, host and port, such as https://api.exotel.com"


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("deliver: {batch_size: 1}", "unknown setting deliver; did you mean delivery?"),
        ("delivery: {batchsize: 1}", "unknown setting delivery.batchsize; did you mean batch_size?"),
        ("log: {colour: 1}", "unknown setting log.colour; known: level, format."),
        ("api: {api_key: SECRET}", "unknown setting api.api_key; "),
        ("delivery: {batch_size: many}", "delivery.batch_size must be a whole number, got 'many'."),
        ("delivery: {batch_size: 0}", "delivery.batch_size must be greater than or equal to 1, got 0."),
        ("delivery: {batch_size: 5001}", "delivery.batch_size must be less than or equal to 5000, got 5001."),
        ("delivery: {requests_per_minute: 0}", "delivery.requests_per_minute must be greater than 0 or 'auto', got 0."),
        ("delivery: {requests_per_minute: .nan}", "delivery.requests_per_minute must be "),
        ("delivery: {requests_per_minute: .inf}", "delivery.requests_per_minute must be a finite number or 'auto'"),
        ("delivery: {on_unknown: shrug}", "delivery.on_unknown must be 'resend' or 'hold', got 'shrug'."),
        ("delivery: 5", "delivery must be a section of settings, got 5."),
        ("delivery: [batch_size]", "delivery must be a section of settings, got ['batch_size']."),
        ("retry: {max_attempts: 0}", "retry.max_attempts must be greater than or equal to 1, got 0."),
        ("run: {directory: null}", "run.directory must be a path, got None."),
        ("input: {column: 0}", "input.column must be a name, or a number from 1, got 0."),
        ("input: {column: -1}", "input.column must be a name, or a number from 1, got -1."),
        ("input: {column: true}", "input.column must be a name, or a number from 1, got True."),
        ("input: {column: ''}", "input.column must be a name, or a number from 1, got ''."),
        ("input: {column: [a]}", "input.column must be a name, or a number from 1, got ['a']."),
        ("input: {delimiter: ':'}", "input.delimiter must be 'auto', ',', ';', '\\t' or '|', got ':'."),
        ("input: {delimiter: [',']}", "input.delimiter must be 'auto', "),
        ("input: {sid_pattern: '['}", "input.sid_pattern is not a regular expression (unterminated character set"),
        ("input: {sid_pattern: 'a{99999999999}'}", "input.sid_pattern is not a regular expression (the repetition"),
        ("api: {region: moon}", "api.region must be 'mumbai' or 'singapore', got 'moon'."),
        ("api: {account_sid: a/b}", "api.account_sid must match pattern '^[\\w.-]+$', got 'a/b'."),
        ("api: {connect_timeout_seconds: -1}", "api.connect_timeout_seconds must be greater than 0, got -1."),
        ("api: {base_url: api.exotel.com}", f"api.base_url {URL_RULE}, got 'api.exotel.com'."),
        ("api: {base_url: 'ftp://h'}", f"api.base_url {URL_RULE}, got 'ftp://h'."),
        ("api: {base_url: 'https://h/v2'}", f"api.base_url {URL_RULE}, got 'https://h/v2'."),
        ("api: {base_url: 'https://h?a=b'}", f"api.base_url {URL_RULE}, got "),
        ("api: {base_url: 'https://h#a'}", f"api.base_url {URL_RULE}, got "),
        ("api: {base_url: 'https://h:port'}", f"api.base_url {URL_RULE}, got "),
        ("api: {base_url: 'https://h:99999'}", f"api.base_url {URL_RULE}, got "),
        ("api: {base_url: 'https://[::1'}", f"api.base_url {URL_RULE}, got "),
        ("api: {base_url: 'https://'}", f"api.base_url {URL_RULE}, got "),
    ],
)
def test_a_mistake_in_the_file_is_named(file: str, error: str) -> None:
    """Each wrong setting is one line: which file, which key, what it must be, what it is."""
    found = error_of(config=write("x.yaml", file))

    assert found.startswith(f"x.yaml: {error}")
    assert "\n" not in found
    assert "SECRET" not in found


@pytest.mark.parametrize(
    "url", ["https://key:SECRET@host", "https://SECRET@host/path", "https://key:SECRET@host:port", "key:SECRET@host"]
)
def test_credentials_in_an_address_are_refused_and_not_shown(url: str) -> None:
    """Whoever puts credentials into the address is told so, and does not find them in a log."""
    error = error_of(config=write("x.yaml", f"api: {{base_url: '{url}'}}"))

    assert error.startswith("x.yaml: api.base_url must ")
    assert "SECRET" not in error


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("- a\n- b\n", "x.yaml: expected sections such as 'api:' and 'delivery:'."),
        ("api: [\n", "x.yaml, line 2: not valid YAML: "),
        ("a: 1\n\tb: 2\n", "x.yaml, line 2: not valid YAML: "),
        ("a: 2026-99-99\n", "x.yaml: not valid YAML: month must be in 1..12."),
        ("a: !!python/object:os.system {}\n", "x.yaml, line 1: not valid YAML: "),
        (b"a: \xff\n", "x.yaml: cannot be read: "),
        (b"a: \x01\n", "x.yaml: not valid YAML: "),
    ],
)
def test_a_file_that_is_no_yaml_is_explained(content: str | bytes, error: str) -> None:
    """A file that cannot be read is one error with its line."""
    assert error_of(config=write("x.yaml", content)).startswith(error)


def test_missing_file_is_explained() -> None:
    """A file that is named must be there; config.yaml need not."""
    assert error_of(config=Path("x.yaml")) == "x.yaml: no such file; --config names a YAML file of settings."


def test_a_directory_is_no_file() -> None:
    """A directory instead of the file is one error."""
    assert error_of(config=Path()).startswith(".: cannot be read: ")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("IMPORTER_DELIVERY__BATCHSIZE", "1", "environment: unknown setting delivery.batchsize; did you mean batch_"),
        ("IMPORTER_DELIVER__BATCH_SIZE", "1", "environment: unknown setting deliver; did you mean delivery?"),
        ("IMPORTER_API__BASE_URL__X", "1", "environment: unknown setting api.base_url__x; "),
        ("IMPORTER_DELIVERY__BATCH_SIZE", "x", "environment: delivery.batch_size must be a whole number, got 'x'."),
        ("IMPORTER_DELIVERY__REQUESTS_PER_MINUTE", "x", "environment: delivery.requests_per_minute must be a number"),
        ("IMPORTER_INPUT__COLUMN", "null", "environment: input.column must be a name, or a number from 1, got None."),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, error: str
) -> None:
    """A wrong setting of the environment is said to be one, even where the file has the same one right."""
    write("config.yaml", "delivery: {batch_size: 1}")
    monkeypatch.setenv(name, value)

    assert error_of().startswith(error)


def test_every_mistake_is_named_at_once() -> None:
    """Three mistakes are three lines, so that one run is enough to mend them."""
    write("config.yaml", "delivery: {batch_size: 0, concurency: 1}\n")
    error = error_of({"input": {"delimiter": "x"}})

    assert error.splitlines() == [
        "command line: input.delimiter must be 'auto', ',', ';', '\\t' or '|', got 'x'.",
        "config.yaml: delivery.batch_size must be greater than or equal to 1, got 0.",
        "config.yaml: unknown setting delivery.concurency; did you mean concurrency?",
    ]


@pytest.mark.parametrize(
    ("file", "error"),
    [
        (
            "retry: {initial_wait_seconds: 61}",
            "settings: retry.initial_wait_seconds must not exceed retry.max_wait_seconds.",
        ),
        (
            "api: {connect_timeout_seconds: 121}",
            "settings: api.connect_timeout_seconds must not exceed api.request_timeout_seconds.",
        ),
    ],
)
def test_settings_that_contradict_one_another(file: str, error: str) -> None:
    """Two settings that do not fit together are an error that names both."""
    assert error == error_of(config=write("x.yaml", file))


def set_credentials(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in ({"key": KEY, "token": TOKEN, "account": ACCOUNT} | values).items():
        monkeypatch.setenv(
            {"key": "EXOTEL_API_KEY", "token": "EXOTEL_API_TOKEN"}.get(name, "EXOTEL_ACCOUNT_SID"), value
        )


def shown(credentials: Credentials, account: str) -> tuple[str, str, str]:
    return credentials.api_key.get_secret_value(), credentials.api_token.get_secret_value(), account


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, token and account are read from the environment, without the space around them."""
    set_credentials(monkeypatch, key=f" {KEY}\n")

    assert shown(*load_credentials(Settings())) == (KEY, TOKEN, ACCOUNT)


def test_credentials_come_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a secrets directory do as well; the environment rules, unless it is empty there."""
    for name in ["EXOTEL_API_KEY", "exotel_api_token", "EXOTEL_ACCOUNT_SID"]:
        write(f"secrets/{name}", f"of {name.lower()}\r\n")
    monkeypatch.setenv("EXOTEL_API_KEY", "")
    monkeypatch.setenv("EXOTEL_ACCOUNT_SID", ACCOUNT)

    assert shown(*load_credentials(Settings())) == ("of exotel_api_key", "of exotel_api_token", ACCOUNT)


def test_account_of_the_settings_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """`api.account_sid` is more special than EXOTEL_ACCOUNT_SID."""
    set_credentials(monkeypatch)
    settings = load_settings({"api": {"account_sid": "another"}}, None)

    assert load_credentials(settings)[1] == "another"


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"key": ""}, "EXOTEL_API_KEY"),
        ({"token": "  "}, "EXOTEL_API_TOKEN"),
        ({"key": "", "token": "", "account": ""}, "EXOTEL_API_KEY, EXOTEL_API_TOKEN, EXOTEL_ACCOUNT_SID"),
    ],
)
def test_missing_credentials_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, str], missing: str
) -> None:
    """What is missing is named, all of it at once, with the places where it is looked for."""
    set_credentials(monkeypatch, **values)

    assert (
        f"Missing: {missing}. Set them in the environment, or as files of these names in {tmp_path / 'secrets'} "
        "(IMPORTER_SECRETS_DIR names another directory)."
    ) == error_of(credentials=True)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"key": f"{KEY}:{TOKEN}"}, "EXOTEL_API_KEY must not contain ':'; is it the whole 'key:token'?"),
        ({"account": "a/b"}, "EXOTEL_ACCOUNT_SID may hold letters, digits, '.', '-' and '_' only."),
    ],
)
def test_wrong_credentials_are_explained_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], error: str
) -> None:
    """A credential that cannot be right is refused without being shown."""
    set_credentials(monkeypatch, **values)

    assert error == error_of(credentials=True)


def test_secrets_that_cannot_be_read_are_explained(tmp_path: Path) -> None:
    """A secret that is no text is one error without its content."""
    write("secrets/EXOTEL_API_KEY", KEY.encode() + b"\xff")

    assert f"{tmp_path / 'secrets'}: the secrets cannot be read (UnicodeDecodeError)." == error_of(credentials=True)


def test_credentials_do_not_show_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing the credentials shows neither key nor token."""
    set_credentials(monkeypatch)
    credentials, _ = load_credentials(Settings())
    text = f"{credentials!r} {credentials} {credentials.model_dump_json()}"

    assert KEY not in text
    assert TOKEN not in text
