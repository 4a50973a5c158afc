"""The alerts and the dashboard under deploy/ ask for metrics that importer tells, in expressions that hold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from importer.metrics import METRICS, STATUS_CLASSES
from importer.model import Anomaly, ExitCode, Outcome

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def rules() -> list[dict[str, Any]]:
    """All rules, in their order."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def alert_expressions() -> list[str]:
    return [rule["expr"] for rule in rules()]


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def variable_expressions() -> list[str]:
    variables = dashboard()["templating"]["list"]
    return [each["query"]["query"] for each in variables if each["type"] == "query"]


def metrics_in(expressions: list[str]) -> set[str]:
    """The metrics that are asked for; of a histogram its own name."""
    histograms = {metric.name for metric in METRICS if metric.type == "histogram"}
    names = {name for each in expressions for name in re.findall(r"\bimporter_\w+", each)}
    return {
        base if (base := re.sub("_(bucket|sum|count)$", "", name)) in histograms and base != name else name
        for name in names
    }


def promtool(*arguments: object) -> str:
    """Run promtool, and give what it said; it must be content."""
    ended = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    """Each metric that an expression names is told by importer."""
    told = {metric.name for metric in METRICS}

    assert metrics_in([*alert_expressions(), *panel_expressions(), *variable_expressions()]) <= told


def test_every_metric_is_shown() -> None:
    """Alerts and dashboard together leave no metric out, but for what only says when a run ended."""
    shown = metrics_in([*alert_expressions(), *panel_expressions(), *variable_expressions()])

    assert {metric.name for metric in METRICS} == shown | {"importer_run_complete"}


def test_labels_have_values_that_there_are() -> None:
    """Each label that an expression selects is one of importer's or of Prometheus', with values that occur."""
    values: dict[str, set[str]] = {"outcome": set(Outcome), "kind": set(Anomaly), "status_class": set(STATUS_CLASSES)}
    selected = re.findall(r'(\w+)=~?"([^"]*)"', " ".join([*alert_expressions(), *panel_expressions()]))

    for label, found in selected:
        assert found == f"${label}" if label in {"job", "instance"} else set(found.split("|")) <= values[label]


def test_each_alert_is_whole() -> None:
    """An alert has a name of its own, a time to hold, a severity, and says what happened and what to do."""
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Importer([A-Z][a-z]+)+", rule["alert"])
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["labels"] in [{"severity": severity} for severity in ("critical", "warning", "info")]
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "$labels.job" in rule["annotations"]["description"]


def test_each_exit_code_of_a_run_that_did_not_finish_has_an_alert() -> None:
    """Exit codes from 2 on have one alert each; 0 and 1 have none."""
    codes = [int(each.rpartition("==")[2]) for each in alert_expressions() if "last_run_exit_code" in each]

    assert codes == [code for code in ExitCode if code >= 2]


def test_an_alert_outlasts_a_counter_that_starts_anew() -> None:
    """Where a rate is taken over some minutes, it must hold for longer, lest a reset of a counter alone raise it."""
    for rule in rules():
        windows = [int(minutes) for minutes in re.findall(r"rate\(importer_throttled_total\[(\d+)m\]", rule["expr"])]
        assert all(int(rule["for"].removesuffix("m")) > window for window in windows)


@needs_promtool
def test_promtool_approves_of_the_alerts() -> None:
    """Prometheus' own checker reads all rules, and its tests of them pass."""
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", ALERTS)
    assert "SUCCESS" in promtool("test", "rules", ALERTS.with_name("alerts_test.yaml"))


def test_every_alert_has_a_test() -> None:
    """Each alert is named in the tests of the rules."""
    tests = ALERTS.with_name("alerts_test.yaml").read_text()

    assert [rule["alert"] for rule in rules() if rule["alert"] not in tests] == []


def test_dashboard_is_of_no_machine() -> None:
    """The dashboard asks whatever data source is chosen, and holds no id that another Grafana has given."""
    content = dashboard()
    sources = [each["datasource"] for panel in content["panels"] for each in (panel, *panel["targets"])]
    sources += [each["datasource"] for each in content["templating"]["list"] if each["type"] == "query"]

    assert content["id"] is None
    assert content["schemaVersion"] >= 39
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert [each["name"] for each in content["templating"]["list"]] == ["datasource", "job", "instance"]
    assert not re.search(r"https?://|\d+\.\d+\.\d+\.\d+", DASHBOARD.read_text())


def test_panels_lie_beside_one_another() -> None:
    """Every panel has an id, a title and a description of its own, and no two cover the same place."""
    panels = dashboard()["panels"]
    places = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(set(places)) == len(places)
    assert all(0 <= x < 24 for x, _ in places)
    for part in ("id", "title", "description"):
        assert len({panel[part] for panel in panels}) == len(panels)


@needs_promtool
def test_promtool_can_read_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    """Each expression of a panel is one that Prometheus can evaluate, once Grafana has filled it in."""
    filled = [each.replace("$__rate_interval", "1m") for each in panel_expressions()]
    recorded = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(filled)]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))

    assert f"SUCCESS: {len(recorded)} rules found" in promtool("check", "rules", path)
