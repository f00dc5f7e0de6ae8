"""Writes the dashboards from what they show: `python -m grafana.make`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana import project

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, ACROSS = 12, 8, 2


@dataclass(frozen=True)
class Panel:
    """One chart: what it is called, its unit, and its queries by legend."""

    title: str
    unit: str
    queries: dict[str, str]
    about: str = ""


def p95(metric: str, by: str) -> str:
    """Return the query for the time within which 95 % came."""
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))"


def rate(metric: str, by: str) -> str:
    """Return the query for what comes in a second."""
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


FLEET = [
    Panel("Unfinished runs", "short", {"{{status}}": "max by (status) (phoenix_runs)"}),
    Panel("Workers", "short", {"{{state}}": "max by (state) (phoenix_workers)"}),
    Panel("Runs waiting for a worker", "short", {"{{queue}}": "max by (queue) (phoenix_queue_waiting)"}),
    Panel("Oldest run in the queue", "s", {"{{queue}}": "max by (queue) (phoenix_queue_oldest_seconds)"}),
    Panel("Runs ended", "ops", {"{{flow}} {{status}}": rate("phoenix_runs_ended_total", "flow, status")}),
    Panel("Time of steps, 95 %", "s", {"{{step}}": p95("phoenix_step_seconds", "step")}),
    Panel("Approvals waiting", "short", {"{{gate}}": "max by (gate) (phoenix_approvals_waiting)"}),
    Panel("Oldest approval", "s", {"{{gate}}": "max by (gate) (phoenix_approvals_oldest_seconds)"}),
]
COST = [
    Panel(
        "USD an hour",
        "currencyUSD",
        {"{{model}}": "sum by (model) (increase(phoenix_model_usd_total[1h]))"},
        "Calls whose price is not known are not in it.",
    ),
    Panel(
        "Tokens",
        "short",
        {"{{model}} {{direction}}": rate("phoenix_model_tokens_total", "model, direction")},
    ),
    Panel("Calls", "ops", {"{{model}} {{kind}}": rate("phoenix_model_calls_total", "model, kind")}),
    Panel("Time to an answer, 95 %", "s", {"{{model}}": p95("phoenix_model_call_seconds", "model")}),
    Panel(
        "Beside answers",
        "ops",
        {"{{kind}} {{reason}}": rate("phoenix_model_events_total", "kind, reason")},
        "Retries, repairs, fallbacks, replays and cache hits.",
    ),
    Panel("Models left alone", "short", {"{{model}}": "max by (model) (phoenix_model_circuit_open)"}),
    Panel("Tools", "ops", {"{{tool}}": rate("phoenix_tool_calls_total", "tool")}),
]
RELIABILITY = [
    Panel("Requests", "ops", {"{{status}}": rate("phoenix_http_requests_total", "status")}),
    Panel("Time of requests, 95 %", "s", {"{{route}}": p95("phoenix_http_request_seconds", "route")}),
    Panel(
        "Error budget, rate it burns at",
        "short",
        {
            "1 h": "phoenix:http_errors:ratio_rate1h / 0.005",
            "6 h": "phoenix:http_errors:ratio_rate6h / 0.005",
        },
        "1 uses it up in 30 days.",
    ),
    Panel("Waiting in the queue, 95 %", "s", {"{{queue}}": p95("phoenix_queue_wait_seconds", "queue")}),
    Panel("Database reached", "short", {"": "max(phoenix_database_up)"}),
    Panel("Connections", "short", {"{{state}}": "sum by (state) (phoenix_database_connections)"}),
    Panel(
        "Checkpoint calls a statement",
        "short",
        {
            "{{what}}": "sum by (what) (rate(phoenix_checkpoint_batch_calls_sum[$__rate_interval]))"
            " / sum by (what) (rate(phoenix_checkpoint_batch_calls_count[$__rate_interval]))"
        },
    ),
    Panel(
        "From an event to its commit, 95 %",
        "s",
        {
            "": "histogram_quantile(0.95, sum by (le)"
            " (rate(phoenix_event_write_seconds_bucket[$__rate_interval])))"
        },
    ),
    Panel(
        "Sandboxed commands",
        "ops",
        {"{{kind}} {{outcome}}": rate("phoenix_sandbox_commands_total", "kind, outcome")},
    ),
    Panel("Time of commands, 95 %", "s", {"{{kind}}": p95("phoenix_sandbox_command_seconds", "kind")}),
]
DASHBOARDS: dict[str, tuple[str, Sequence[Panel]]] = {
    "fleet": ("Phoenix: fleet", FLEET),
    "cost": ("Phoenix: models and cost", COST),
    "reliability": ("Phoenix: reliability", RELIABILITY),
}


NAMES = (*DASHBOARDS, "project")


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard in Grafana's form."""
    if name == "project":
        return _whole(name, "Phoenix: project", project.variables(), project.panels())
    title, panels = DASHBOARDS[name]
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return _whole(name, title, [source], [_panel(n, panel) for n, panel in enumerate(panels)])


def _whole(
    name: str, title: str, variables: list[dict[str, Any]], panels: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "uid": f"phoenix-{name}",
        "title": title,
        "tags": ["phoenix"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables},
        "panels": panels,
    }


def _panel(n: int, panel: Panel) -> dict[str, Any]:
    place = {"x": n % ACROSS * WIDTH, "y": n // ACROSS * HEIGHT, "w": WIDTH, "h": HEIGHT}
    targets = [
        {"refId": chr(ord("A") + k), "expr": query, "legendFormat": legend, "datasource": SOURCE}
        for k, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": n + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def text(name: str) -> str:
    """Return a dashboard as its file has it."""
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    for each in NAMES:
        (FOLDER / f"{each}.json").write_text(text(each))
