"""Log lines are one a line, for people or for machines, and hold no secret."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from importer.logs import MASK, Masker, configure_logs

KEY, TOKEN = 'made"up-key', "made\\up-tökèn"
BASIC = base64.b64encode(f"{KEY}:{TOKEN}".encode()).decode()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(
    capsys: pytest.CaptureFixture[str],
    *events: tuple[str, str, dict[str, Any]],
    level: str = "info",
    form: Literal["auto", "console", "json"] = "json",
) -> str:
    configure_logs(level, form, Masker(KEY, TOKEN))
    log = structlog.get_logger()
    for method, event, fields in events:
        getattr(log, method)(event, **fields)
    out, err = capsys.readouterr()

    assert out == ""
    return err


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("nothing to hide", "nothing to hide"),
        (f"<{KEY}> <{TOKEN}> <{BASIC}>", f"<{MASK}> <{MASK}> <{MASK}>"),
        (f"{KEY}{KEY}", MASK * 2),
        (json.dumps({"key": KEY, "token": TOKEN}), json.dumps({"key": MASK, "token": MASK})),
    ],
)
def test_secrets_are_masked(text: str, masked: str) -> None:
    """Key, token and what HTTP makes of them are masked, as they are and as JSON writes them."""
    assert masked == Masker(KEY, TOKEN).text(text)


@pytest.mark.parametrize(("key", "token"), [("secret", "secret-and-more"), ("secret-and-more", "secret")])
def test_a_secret_within_a_secret(key: str, token: str) -> None:
    """Where one secret is a part of the other, nothing is left of either."""
    assert f"{MASK} {MASK}" == Masker(key, token).text(f"{key} {token}")


@pytest.mark.parametrize(("key", "token"), [("", ""), ("abc", "x")])
def test_what_is_too_short_for_a_secret_masks_nothing(key: str, token: str) -> None:
    """Without secrets, or with ones of a few letters, text stays readable."""
    assert Masker(key, token).text("an abc of six boxes") == "an abc of six boxes"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """For machines: event, level, time in UTC, and the fields, whatever they are."""
    text = logged(capsys, ("info", "batch_sent", {"batch": 7, "note": "two\nlines"}), ("error", "x", {"of": object}))
    first, second = map(json.loads, text.splitlines())

    assert (first["event"], first["level"], first["batch"], first["note"]) == ("batch_sent", "info", 7, "two\nlines")
    assert first["timestamp"].endswith("Z")
    assert ("x", "error", str(object)) == (second["event"], second["level"], second["of"])


def test_console_is_one_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """For people: one line an event, in which a field can neither break the line nor reach the terminal."""
    text = logged(capsys, ("warning", "batch_sent", {"note": "two\nlines \x1b[2J"}), form="console")

    assert text.count("\n") == 1
    assert "\x1b[2J" not in text
    assert "batch_sent" in text


def test_auto_is_for_machines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """`auto` writes JSON unless somebody watches."""
    text = logged(capsys, ("info", "x", {}), form="auto")

    assert json.loads(text)["event"] == "x"


def test_auto_is_for_people_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` writes for people where somebody watches."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]  # a stand-in of a terminal
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logs("info", "auto", Masker())
    structlog.get_logger().info("batch_sent", batch=7)

    assert not terminal.getvalue().startswith("{")
    assert "batch_sent" in terminal.getvalue()


@pytest.mark.parametrize(
    ("level", "events"),
    [("debug", ["debug", "info", "warning", "error"]), ("warning", ["warning", "error"]), ("error", ["error"])],
)
def test_level_is_the_least_that_is_told(capsys: pytest.CaptureFixture[str], level: str, events: list[str]) -> None:
    """What is less important than the level is left out."""
    text = logged(capsys, *((each, each, {}) for each in ["debug", "info", "warning", "error"]), level=level)

    assert events == [json.loads(line)["event"] for line in text.splitlines()]


def _fail(secret: str) -> None:
    raise ValueError(f"refused: {secret}")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("secret", [KEY, TOKEN, BASIC, "hidden-local"])
def test_no_log_line_holds_a_secret(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"], secret: str
) -> None:
    """Neither fields, however deep, nor errors, nor tracebacks with their variables show a secret."""
    shown = "" if secret == "hidden-local" else secret
    fields: dict[str, Any] = {
        "text": f"x {shown}",
        "list": [shown],
        "dict": {"a": {shown: shown}},
        "error": ValueError(shown),
    }
    configure_logs("info", form, Masker(KEY, TOKEN))
    log = structlog.get_logger()
    log.info(f"event {shown}", **fields)
    try:
        _fail(shown)
    except ValueError:
        hidden = secret
        log.exception("failed", **fields)
        del hidden
    text = capsys.readouterr().err

    assert "refused: " in text
    for form_of_it in {secret, json.dumps(secret)[1:-1]}:
        assert form_of_it not in text
