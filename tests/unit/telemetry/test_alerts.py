"""Alerts and dashboards speak of metrics that exist; alerts fire when they should, and have runbooks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from grafana.make import DASHBOARDS, FOLDER, NAMES, text
from phoenix.api.exposition import _Gauges
from phoenix.domain.fleet import Fleet, Lag
from phoenix.telemetry.metrics import REGISTRY

ROOT = Path(__file__).parents[3]
RULES = ROOT / "prometheus" / "alerts.yaml"
NAME = re.compile(r"\bphoenix_[a-z_0-9]+")
RECORDED = re.compile(r"\bphoenix:[a-z_:0-9]+")


def rules() -> list[dict[str, Any]]:
    """Return all rules."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def known() -> set[str]:
    """Return the names of all series that a process can expose."""
    whole = CollectorRegistry()
    lag = {"default": Lag(count=1)}
    fleet = Fleet(runs={"waiting": 1}, due=lag, workers={"active": 1}, approvals=lag)
    whole.register(_Gauges(fleet, (2, 1), {"openai:a": "open"}))
    found: set[str] = set()
    for registry in (REGISTRY, whole):
        for family in registry.collect():
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
                family.type, ("",)
            )
            found |= {family.name + end for end in ends}
    return found


def unknown(expressions: list[str]) -> set[str]:
    """Return what expressions name and nothing exposes."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named = {name for expression in expressions for name in NAME.findall(expression)}
    made = {name for expression in expressions for name in RECORDED.findall(expression)}
    return (named - known()) | (made - recorded)


def test_rules_name_metrics_that_exist() -> None:
    """A metric that is renamed takes its alerts along."""
    assert unknown([rule["expr"] for rule in rules()]) == set()
    assert unknown(["rate(phoenix_no_such_total[5m])"]) == {"phoenix_no_such_total"}


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    """Whoever is woken finds what to do."""
    alerts = {rule["alert"]: rule["annotations"]["runbook"] for rule in rules() if "alert" in rule}
    for alert, runbook in alerts.items():
        assert f"`{alert}`" in (ROOT / runbook).read_text(), alert
    books = {f"docs/runbooks/{path.name}" for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert books == set(alerts.values())


@pytest.mark.parametrize("name", NAMES)
def test_dashboards_are_as_written(name: str) -> None:
    """The files are those that `python -m grafana.make` writes."""
    assert (FOLDER / f"{name}.json").read_text() == text(name)
    panels = json.loads(text(name))["panels"]
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_show_what_exists(name: str) -> None:
    """Metrics; what is read from PostgreSQL is checked by tests/e2e/test_project_dashboard.py."""
    panels = json.loads(text(name))["panels"]
    assert unknown([target["expr"] for panel in panels for target in panel["targets"]]) == set()


def test_every_metric_is_in_the_manual() -> None:
    """`docs/monitoring.md` names all of them, and no others."""
    manual = (ROOT / "docs" / "monitoring.md").read_text()
    named = set(NAME.findall(manual)) - {"phoenix_reader"}  # a role of the database
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known()}
    assert named == families


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Debian's prometheus")
@pytest.mark.parametrize(
    "command", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")]
)
def test_rules_load_and_fire(command: tuple[str, ...]) -> None:
    """As Prometheus' own tool sees them."""
    done = subprocess.run(
        ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
