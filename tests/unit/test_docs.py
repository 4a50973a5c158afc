"""The documentation against the program: nothing is missing in the reference, and nothing is made up."""

from __future__ import annotations

import ast
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
import yaml

from importer.check import Finding
from importer.cli import app
from importer.metrics import METRICS
from importer.model import Anomaly, ContactResult, ExitCode, Outcome, Reason
from importer.settings import Credentials, Settings
from importer.summary import Summary

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
WITH_OTHER_NAMES = {"architecture.md", "sandbox.md"}  # modules, and keys of scenarios, look like settings
GROUP: Any = typer.main.get_command(app)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
EVENT_METHODS = {"debug", "info", "warning", "error", "exception"}
SETTINGS = {
    f"{section}.{name}": field
    for section, part in Settings.model_fields.items()
    for name, field in part.annotation.model_fields.items()  # type: ignore[union-attr]  # a Section
}
DEFAULTS = {
    f"{section}.{name}": value
    for section, fields in Settings().model_dump(mode="json").items()
    for name, value in fields.items()
}


def test_every_command_has_its_part() -> None:
    """A command has a part of the reference by its name, and no other part claims to be one."""
    documented = {heading.removeprefix("importer ") for heading in reference() if heading.startswith("importer ")}

    assert set(GROUP.commands) == documented


@pytest.mark.parametrize("command", [None, *GROUP.commands])
def test_every_option_is_documented_and_exists(command: str | None) -> None:
    """A command's options stand in its part, each with what it takes; and no others do."""
    text = reference()[f"importer {command}" if command else "Commands"].replace(r"\|", "|")
    known = {
        form: option for option in options_of(GROUP.commands[command] if command else GROUP) for form in forms(option)
    }
    named = set(re.findall(r"(?<![\w.<-])(--[a-z][a-z-]+|-[a-z])\b", text))

    assert [form for form in known if not re.search(rf"`{form}{_taken_by(known[form])}[`,]", text)] == []
    assert named - set(known) == ({"--help", "--json"} if command is None else set())  # spoken of in general


def test_every_setting_is_documented_with_its_default() -> None:
    """A setting has its row: default, name in the environment, and the words that it may be."""
    rows = {names(row[0])[0]: row for section in Settings.model_fields for row in table(section)}

    assert list(SETTINGS) == list(rows)
    assert {name: yaml.safe_load(names(row[2])[0]) for name, row in rows.items()} == DEFAULTS
    assert {name: names(row[3])[0] for name, row in rows.items()} == {
        name: f"IMPORTER_{name.upper().replace('.', '__')}" for name in SETTINGS
    }
    assert [
        (name, word)
        for name, field in SETTINGS.items()
        for word in words_of(field.annotation)
        if f"`{word}`" not in rows[name][1].replace(r"\|", "|")
    ] == []


def test_config_yaml_has_every_setting() -> None:
    """The file of settings names each of them, in the reference's order, with its default."""
    file = yaml.safe_load((PROJECT / "config.yaml").read_text())

    assert {
        f"{section}.{name}": value for section, fields in file.items() for name, value in fields.items()
    } == DEFAULTS


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in WITH_OTHER_NAMES], ids=lambda page: page.name
)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    """A setting in a guide's text is one of ours."""
    sections = "|".join(Settings.model_fields)
    named = re.findall(rf"`((?:{sections})\.[a-z_]+)(?::[^`]*)?`", page.read_text())

    assert [name for name in named if name not in SETTINGS] == []


def test_credentials_are_documented() -> None:
    """Every credential stands there by the name of its variable."""
    documented = [name for row in table("Credentials") for name in names(row[0])]

    assert [f"EXOTEL_{name.upper()}" for name in Credentials.model_fields] + ["IMPORTER_SECRETS_DIR"] == documented


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Outcomes", list(Outcome)),
        ("Reasons", list(Reason)),
        ("Anomalies", list(Anomaly)),
        ("summary.json", Summary.__struct_fields__),
        ("The report", ContactResult.__struct_fields__),
    ],
)
def test_every_word_of_the_files_is_documented(heading: str, expected: Iterable[str]) -> None:
    """What a report or a summary may hold has its row, in the program's own order; and nothing else has."""
    assert [name for row in table(heading) for name in names(row[0])] == [str(word) for word in expected]


def test_keys_of_a_finding_are_documented() -> None:
    """What `check --json` prints is documented, key by key."""
    documented = [name for row in table("importer check") for name in names(row[0])]

    assert [name for name in documented if not name.startswith("-")] == list(Finding.__struct_fields__)


def test_exit_codes_are_documented() -> None:
    """Each of them, and no other, in the reference and in the help."""
    assert [row[0] for row in table("Exit codes")] == [str(int(code)) for code in ExitCode]
    assert re.findall(r"(?<=[ ·])(\d) ", GROUP.epilog) == [str(int(code)) for code in ExitCode]


def test_metrics_are_documented() -> None:
    """Every metric with its type and its labels; and no other."""
    documented = [(names(row[0])[0], row[1], tuple(names(row[2]))) for row in table("Metrics")]

    assert [(metric.name, metric.type, metric.labels) for metric in METRICS] == documented


def test_log_events_are_documented() -> None:
    """Every event that the source has, with its level and its fields; and no other."""
    documented = {names(row[0])[0]: (row[1], names(row[2])) for row in table("Log events")}
    logged = events()

    assert set(logged) == set(documented)
    assert {event: level for event, (level, _) in documented.items()} == {
        event: level for event, (level, _) in logged.items()
    }
    assert {event: sorted(fields - set(documented[event][1])) for event, (_, fields) in logged.items()} == {
        event: [] for event in logged
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link leads to a file that is there, and to a heading in it."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_guides_are_understood(page: Path) -> None:
    """What a guide tells to type is taken by the command line, though not run."""
    for command in commands_in(page.read_text()):
        try:
            parse(command)
        except Exception as error:
            pytest.fail(f"{page.name}: importer {shlex.join(command)}: {error}")


def test_sentences_of_the_troubleshooting_are_the_programs() -> None:
    """What is said to stand on the screen is what the source says."""
    text = " ".join((PROJECT / "docs" / "troubleshooting.md").read_text().split())
    said = sentences()
    strange = [
        shown
        for shown in re.findall(r"\*\*`([^`]+)`", text)
        if not any(is_part_of(part.strip(), each) for part in re.split(r"…|'[^']*'", shown) for each in said)
    ]

    assert strange == []


def options_of(command: Any) -> Iterator[Any]:
    """Give a command's options, but for the one that all have."""
    yield from (each for each in command.params if each.param_type_name == "option" and "--help" not in each.opts)


def forms(option: Any) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def _taken_by(option: Any) -> str:
    return "" if option.is_flag else re.escape(f" {option.metavar}")


def words_of(annotation: Any) -> Iterator[str]:
    """Give the words that a setting may be."""
    if get_origin(annotation) is Literal:
        yield from ("tab" if word == "\t" else str(word) for word in get_args(annotation))
    else:
        for part in get_args(annotation):
            yield from words_of(part)


@cache
def reference() -> Mapping[str, str]:
    """The reference, by heading; each with the text up to the next one."""
    parts = re.split(r"^#+ (.+)\n", (PROJECT / "docs" / "reference.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table(heading: str) -> list[list[str]]:
    """The rows of the tables below a heading, without their own headings."""
    rows = [line for line in reference()[heading].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows]
    is_ruler = [all(re.fullmatch(r":?-+:?", cell) for cell in row) for row in cells]
    return [
        row
        for row, ruler, next_ruler in zip(cells, is_ruler, [*is_ruler[1:], False], strict=True)
        if not (ruler or next_ruler)
    ]


def names(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return [name.replace(r"\|", "|") for name in re.findall(r"`([^`]+)`", cell)]


@cache
def modules() -> list[ast.Module]:
    paths = [path for path in (PROJECT / "importer").rglob("*.py") if "sandbox" not in path.parts]
    return [ast.parse(path.read_text()) for path in paths]


def events() -> dict[str, tuple[str, set[str]]]:
    """The log events of the source, each with its level and its fields."""
    found: dict[str, tuple[str, set[str]]] = defaultdict(lambda: ("", set()))
    for node in (node for module in modules() for node in ast.walk(module)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if node.func.attr in EVENT_METHODS and "log" in ast.unparse(node.func.value):
            for name in (each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)):
                fields = found[str(name)][1] | {keyword.arg for keyword in node.keywords if keyword.arg}
                found[str(name)] = (node.func.attr, fields)
    return found


def sentences() -> set[str]:
    """The texts of the source, as far as they stand there in one piece."""
    texts = (node.value for module in modules() for node in ast.walk(module) if isinstance(node, ast.Constant))
    return {stripped for text in texts if isinstance(text, str) and len(stripped := text.strip(" :.,;'(")) >= 10}


def is_part_of(shown: str, said: str) -> bool:
    return said in shown or (len(shown) >= 10 and shown.strip(".") in said)


def without_code(text: str) -> str:
    """The text without blocks of code, and without code in its lines."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))


@cache
def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_in(text: str) -> Iterator[list[str]]:
    """The commands of ours in a page: in blocks of code, and in code within its lines if they are whole."""
    text = text.replace("\\\n", " ")
    fenced = "".join(FENCED.findall(text))
    lines = [
        *re.findall(r"^ {4,}(?:\$ )?importer (.+)$", text, flags=re.MULTILINE),
        *re.findall(r"^(?:\$ )?importer (.+)$", fenced, flags=re.MULTILINE),
        *re.findall(r"`importer ([^`\n]+ [^`\n]+)`", text),
    ]
    for line in lines:
        yield from _words(line)


def _words(line: str) -> Iterator[list[str]]:
    words = shlex.split(line, comments=True)
    end = next((index for index, word in enumerate(words) if re.match(r"\d?[>|&;]", word)), len(words))
    is_pattern = any(word.startswith("[") or "…" in word or word == "COMMAND" for word in words[:end])
    if not is_pattern:
        yield words[:end]


def parse(words: list[str]) -> None:
    """Let the command line take the words, without doing what they say."""
    with GROUP.make_context("importer", list(words), resilient_parsing=False) as context:
        rest = [*context._protected_args, *context.args]
        name, command, arguments = GROUP.resolve_command(context, rest)
        with command.make_context(name, list(arguments), parent=context):
            pass
