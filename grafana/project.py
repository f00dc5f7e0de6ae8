"""What the dashboard of one project shows, from PostgreSQL: a project cannot be a label of a metric.

The columns that these queries read are granted in `phoenix.storage.readers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SOURCE = {"type": "grafana-postgresql-datasource", "uid": "${database}"}
HALF, WHOLE, HEIGHT = 12, 24, 8
PROJECT = "nullif(${project:sqlstring}, '')::uuid"
STEP = "$__timeGroupAlias({0},$__interval)"

ORGANISATIONS = "SELECT name AS __text, id::text AS __value FROM organisations ORDER BY name"
PROJECTS = """
SELECT concat(title, ' (', left(id::text, 8), ')', CASE WHEN archived_at IS NOT NULL THEN ', archived' END)
    AS __text, id::text AS __value
FROM projects WHERE organisation_id = nullif(${organisation:sqlstring}, '')::uuid
ORDER BY created_at DESC LIMIT 1000
"""
VARIABLES: Mapping[str, str] = {"organisation": ORGANISATIONS, "project": PROJECTS}


@dataclass(frozen=True)
class SqlPanel:
    """One query and how it is shown: as a `table`, or as a `timeseries` of its column `time`."""

    title: str
    sql: str
    kind: str = "table"
    about: str = ""
    unit: str = "short"
    width: int = HALF
    units: tuple[tuple[str, str], ...] = ()
    """Units of single columns."""

    @property
    def query(self) -> str:
        """Its SQL, with Grafana's macros and variables."""
        return " ".join(self.sql.replace("$PROJECT", PROJECT).split())


NOW = """
SELECT CASE WHEN p.paused_at IS NOT NULL AND r.finished_at IS NULL THEN 'paused' ELSE r.status END AS status,
    (SELECT s.name FROM spans s WHERE s.project_id = p.id AND s.kind = 'step'
        ORDER BY s.status <> 'open', s.began_at DESC LIMIT 1) AS step,
    (SELECT count(*) FROM runs o WHERE o.project_id = p.id AND o.finished_at IS NULL) AS "unfinished runs",
    (SELECT count(*) FROM approvals a WHERE a.project_id = p.id AND a.decided_at IS NULL) AS "open approvals",
    p.created_at AS launched, r.started_at AS started, r.finished_at AS ended,
    phoenix_error_code(r.id) AS error
FROM projects p CROSS JOIN LATERAL (
    SELECT id, status, started_at, finished_at FROM runs
    WHERE project_id = p.id AND parent_id IS NULL ORDER BY ordinal DESC LIMIT 1
) r WHERE p.id = $PROJECT
"""
BUDGET = """
WITH made AS (
    SELECT split_part(task, '/', 1) AS task, coalesce(cost_usd, 0) AS usd,
        input_tokens + output_tokens AS tokens
    FROM model_calls WHERE project_id = $PROJECT AND NOT recorded
), held AS (
    SELECT task, usd, tokens FROM budget_holds WHERE project_id = $PROJECT AND until > now()
), scopes AS (
    SELECT 'project' AS scope, '' AS task, budget_usd AS usd, (limits ->> 'tokens')::numeric AS tokens,
        (limits ->> 'calls')::numeric AS calls
    FROM projects WHERE id = $PROJECT
    UNION ALL
    SELECT 'task', t.task, (limits -> 'task' ->> 'usd')::numeric,
        (limits -> 'task' ->> 'tokens')::numeric, (limits -> 'task' ->> 'calls')::numeric
    FROM projects, (SELECT DISTINCT task FROM made WHERE task <> '') t WHERE id = $PROJECT
)
SELECT s.scope, s.task, m.measure, m.most AS "limit", m.used, m.held, m.most - m.used - m.held AS "left"
FROM scopes s
CROSS JOIN LATERAL (SELECT coalesce(sum(usd), 0) AS usd, coalesce(sum(tokens), 0) AS tokens,
    count(*) AS calls FROM made WHERE s.task IN ('', made.task)) u
CROSS JOIN LATERAL (SELECT coalesce(sum(usd), 0) AS usd, coalesce(sum(tokens), 0) AS tokens,
    count(*) AS calls FROM held WHERE s.task IN ('', held.task)) h
CROSS JOIN LATERAL (VALUES ('usd', s.usd, u.usd, h.usd), ('tokens', s.tokens, u.tokens, h.tokens),
    ('calls', s.calls, u.calls, h.calls)) AS m (measure, most, used, held)
WHERE s.scope = 'project' OR m.most IS NOT NULL ORDER BY 1, 2, 3 DESC
"""
RUNS = """
SELECT coalesce(nullif(r.key, ''), r.flow) AS task, r.status, r.attempt AS attempts, r.crashes,
    coalesce(w.host || ' ' || w.pid, r.worker::text) AS worker,
    r.created_at AS opened, r.started_at AS started, r.taken_at AS "last taken", r.finished_at AS ended,
    extract(epoch FROM coalesce(r.finished_at, now()) - r.started_at) AS seconds,
    phoenix_error_code(r.id) AS error
FROM runs r LEFT JOIN workers w ON w.key = r.worker
WHERE r.project_id = $PROJECT ORDER BY r.ordinal LIMIT 1000
"""
BY_STATUS = """
SELECT status, attempt AS attempts, count(*) AS runs, sum(crashes) AS crashes
FROM runs WHERE project_id = $PROJECT GROUP BY 1, 2 ORDER BY 1, 2
"""
SPENT = """
SELECT at AS time, total AS "USD" FROM (
    SELECT at, sum(cost_usd) OVER (ORDER BY at, id) AS total FROM model_calls WHERE project_id = $PROJECT
) spent WHERE $__timeFilter(at) ORDER BY 1
"""
USAGE = """
SELECT agent, model, count(*) AS calls, count(*) FILTER (WHERE recorded OR cached) AS unpaid,
    count(*) FILTER (WHERE broken) AS broken, count(*) FILTER (WHERE cost_usd IS NULL) AS "without price",
    sum(input_tokens) AS input, sum(cached_tokens) AS "of it cached", sum(output_tokens) AS output,
    sum(cost_usd) AS usd, sum(seconds) AS seconds
FROM model_calls WHERE project_id = $PROJECT GROUP BY 1, 2 ORDER BY sum(cost_usd) DESC NULLS LAST, 1, 2
"""
TROUBLE_KINDS = (
    *("model_retried", "model_fell_back", "model_replayed", "circuit_changed", "price_unknown"),
    *("draft_refused", "step_failed", "run_handed_back", "run_retried", "effect_failed"),
    *("tool_denied", "seal_broken", "merge_conflicted", "scope_cut"),
)
"""Kinds of events of what did not go straight on."""


def over_time(value: str, table: str, *, at: str = "at", by: str = "", where: str = "") -> str:
    """Return the query of what comes in each interval, one series for each value of `by`."""
    metric, keys = (f"{by} AS metric, ", "1, 2") if by else ("", "1")
    return (
        f"SELECT {STEP.format(at)}, {metric}{value} FROM {table}"  # noqa: S608
        f" WHERE project_id = $PROJECT AND $__timeFilter({at}){where} GROUP BY {keys} ORDER BY {keys}"
    )


def trouble() -> str:
    """Return the query of what did not go straight on."""
    kinds = ", ".join(f"'{kind}'" for kind in TROUBLE_KINDS)
    return (
        f"SELECT kind, count(*) AS times, min(at) AS first, max(at) AS last FROM events"  # noqa: S608
        f" WHERE project_id = $PROJECT AND kind IN ({kinds}) GROUP BY 1 ORDER BY 2 DESC, 1"
    )


APPROVALS = """
SELECT phoenix_gate(a.id) AS gate, coalesce(nullif(r.key, ''), r.flow) AS task, a.created_at AS asked,
    a.deadline_at AS deadline, a.reminders, a.decided_at AS decided, a.decided_how AS how,
    extract(epoch FROM coalesce(a.decided_at, now()) - a.created_at) AS seconds
FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.project_id = $PROJECT ORDER BY a.decided_at IS NOT NULL, a.created_at LIMIT 1000
"""
DECISIONS = """
SELECT phoenix_gate(id) AS gate, decided_how AS how, count(*) AS decisions,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM decided_at - created_at)) AS median,
    max(extract(epoch FROM decided_at - created_at)) AS longest
FROM approvals WHERE project_id = $PROJECT AND decided_at IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
"""
TOOK = "extract(epoch FROM ended_at - began_at)"
FIGURES = (
    f"count(*) AS spans, count(*) FILTER (WHERE status = 'open') AS open,"
    f" count(*) FILTER (WHERE status IN ('failed', 'interrupted')) AS broken, sum({TOOK}) AS total,"
    f" percentile_cont(0.5) WITHIN GROUP (ORDER BY {TOOK}) AS median,"
    f" percentile_cont(0.95) WITHIN GROUP (ORDER BY {TOOK}) AS p95, max({TOOK}) AS longest"
)
SPANS = (
    f"SELECT kind, {FIGURES} FROM spans"  # noqa: S608
    " WHERE project_id = $PROJECT GROUP BY 1 ORDER BY 5 DESC NULLS LAST, 1"
)
STEPS = (
    f"SELECT name AS step, {FIGURES} FROM spans"  # noqa: S608
    " WHERE project_id = $PROJECT AND kind = 'step' GROUP BY 1 ORDER BY 5 DESC NULLS LAST, 1 LIMIT 50"
)
LEFT_OUT = (
    'SELECT kept, left_out AS "left out", beyond_limit AS "beyond the limit" FROM span_counts'
    " WHERE project_id = $PROJECT"
)
_SECONDS = tuple((name, "s") for name in ("seconds", "total", "median", "p95", "longest"))
_USD = (("usd", "currencyUSD"),)

PANELS = [
    SqlPanel(
        "Now", NOW, about="The step that runs, or else the last one that its trace knows of.", width=WHOLE
    ),
    SqlPanel("Runs", RUNS, width=WHOLE, units=_SECONDS),
    SqlPanel("Runs by status and attempt", BY_STATUS),
    SqlPanel(
        "Budget",
        BUDGET,
        about="Used and held by calls, in USD of known prices. Without a limit nothing is left or lacking.",
    ),
    SqlPanel(
        "USD in all", SPENT, "timeseries", "Calls whose price is not known are not in it.", "currencyUSD"
    ),
    SqlPanel("By agent and model", USAGE, units=_USD + _SECONDS),
    SqlPanel(
        "USD by agent",
        over_time("sum(cost_usd) AS usd", "model_calls", by="agent"),
        "timeseries",
        unit="currencyUSD",
    ),
    SqlPanel(
        "USD by model",
        over_time("sum(cost_usd) AS usd", "model_calls", by="model"),
        "timeseries",
        unit="currencyUSD",
    ),
    SqlPanel(
        "Tokens",
        over_time("sum(input_tokens) AS input, sum(output_tokens) AS output", "model_calls"),
        "timeseries",
    ),
    SqlPanel("Calls by agent", over_time("count(*) AS calls", "model_calls", by="agent"), "timeseries"),
    SqlPanel("Events", over_time("count(*) AS events", "events", by="kind"), "timeseries"),
    SqlPanel(
        "Retries, fallbacks, refusals",
        trouble(),
        about="What did not go straight on. Repaired answers are in the dashboard of models and cost.",
    ),
    SqlPanel("Approvals", APPROVALS, about="Those that wait come first.", units=_SECONDS),
    SqlPanel("How long decisions took", DECISIONS, units=_SECONDS),
    SqlPanel("Time by kind of span", SPANS, units=_SECONDS),
    SqlPanel("Steps that took longest", STEPS, units=_SECONDS),
    SqlPanel(
        "Time of spans, 95 %",
        over_time(
            f"percentile_cont(0.95) WITHIN GROUP (ORDER BY {TOOK}) AS seconds",
            "spans",
            at="began_at",
            by="kind",
            where=" AND ended_at IS NOT NULL",
        ),
        "timeseries",
        unit="s",
    ),
    SqlPanel("Spans kept", LEFT_OUT, about="What was left out under load is in no panel of spans."),
]


def panels() -> list[dict[str, Any]]:
    """Return the panels in Grafana's form, each beside the one before where there is room."""
    made = []
    x = y = 0
    for n, panel in enumerate(PANELS):
        if x + panel.width > WHOLE:
            x, y = 0, y + HEIGHT
        made.append(_panel(n, panel, {"x": x, "y": y, "w": panel.width, "h": HEIGHT}))
        x += panel.width
    return made


def _panel(n: int, panel: SqlPanel, place: dict[str, int]) -> dict[str, Any]:
    overrides = [
        {"matcher": {"id": "byName", "options": column}, "properties": [{"id": "unit", "value": unit}]}
        for column, unit in panel.units
    ]
    target = {
        "refId": "A",
        "datasource": SOURCE,
        "editorMode": "code",
        "rawQuery": True,
        "rawSql": panel.query,
        "format": "time_series" if panel.kind == "timeseries" else "table",
    }
    return {
        "id": n + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": overrides},
        "options": {},
        "targets": [target],
    }


def variables() -> list[dict[str, Any]]:
    """Return what is chosen: the database, an organisation, and a project of it."""
    source = {"name": "database", "label": "PostgreSQL", "type": "datasource", "query": SOURCE["type"]}
    return [source, *(_variable(name, query) for name, query in VARIABLES.items())]


def _variable(name: str, query: str) -> dict[str, Any]:
    query = " ".join(query.split())
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": query,
        # On each load of the dashboard.
        "refresh": 1,
        "sort": 0,
        "multi": False,
        "includeAll": False,
    }
