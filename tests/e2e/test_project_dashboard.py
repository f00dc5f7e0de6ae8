"""The dashboard of one project: its queries run as the reader's account, and show what the project did."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from grafana.make import dashboard
from grafana.project import PANELS, SOURCE, TROUBLE_KINDS, VARIABLES
from manual.events import ALL
from phoenix.bootstrap import migrate_database
from phoenix.domain.approval import Decision
from phoenix.domain.budget import Budget, ProjectLimits
from phoenix.domain.run import DEFAULT_ORGANISATION, Event
from phoenix.engine.launch import Launch, Overview
from phoenix.llm.scripted import ScriptedModel
from phoenix.settings import Settings
from phoenix.storage import readers
from tests.e2e.conftest import LONGEST_SECONDS, asks_for, stopped, system_of
from tests.e2e.script import MODEL, script
from tests.reader_account import account

PRICE = Decimal("0.10")
CALLS = 12
INTERVAL_SECONDS = 60
Row = dict[str, Any]
QUERIES = {panel["title"]: panel["targets"][0]["rawSql"] for panel in dashboard("project")["panels"]}


def expanded(query: str, project: UUID | str, organisation: UUID | str = DEFAULT_ORGANISATION) -> str:
    """Return a query as Grafana sends it, of a day's time."""
    for name, value in (("project", project), ("organisation", organisation)):
        query = query.replace(f"${{{name}:sqlstring}}", f"'{value}'")
    day = "now() - interval '1 day' AND now() + interval '1 hour'"
    query = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {day}", query)
    group = rf'floor(extract(epoch from \1)/{INTERVAL_SECONDS})*{INTERVAL_SECONDS} AS "time"'
    query = re.sub(r"\$__timeGroupAlias\((\w+),\$__interval\)", group, query)
    assert "$" not in query, query
    return query


async def shown(url: str, project: UUID | str) -> dict[str, list[Row]]:
    """Return what each panel shows of a project, read by an account of the database."""
    connecting = psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row)
    async with await connecting as connection:
        return {
            title: await (await connection.execute(expanded(query, project))).fetchall()
            for title, query in QUERIES.items()
        }


@dataclass
class Seen:
    """What the panels show of a project, and what it is."""

    waiting: dict[str, list[Row]]
    done: dict[str, list[Row]]
    overview: Overview
    events: list[Event]
    role: str
    url: str
    """Of the account that reads."""
    owner: str


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[tuple[str, str, str]]:
    """Return the reader's role, its URL and that of the owner; what the dashboard needs is granted."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with account(url) as (role, own):
        await migrate_database(settings.model_copy(update={"database_reader": role}))
        yield role, own, url


@pytest.fixture
async def seen(settings: Settings, reader: tuple[str, str, str]) -> Seen:
    """Take a project to delivery, which a person approves, and look at it before and after that."""
    role, url, owner = reader
    model = ScriptedModel(script(), cost_usd=PRICE)
    order = Launch(
        requirement="A calculator.",
        model=MODEL,
        approvals="delivery",
        budget_usd=Decimal(5),
        limits=ProjectLimits(task=Budget(calls=20)),
    )
    async with system_of(settings, model) as system:
        project = await system.engine.launch(order)
        (approval,) = (await asks_for(system, project.id, "delivery")).approvals
        waiting = await shown(url, project.id)
        await system.engine.decide(approval.id, Decision(verdict="approve"), by="ada")
        async with asyncio.timeout(LONGEST_SECONDS):
            overview = await stopped(system, project.id)
        assert overview.run.status == "success", overview.run.error
        events = await system.engine.log.read(project.id, limit=10_000)
    # Closed with the system, so that no span is still to be written.
    return Seen(waiting, await shown(url, project.id), overview, events, role, url, owner)


async def test_panels_show_what_the_project_did(seen: Seen) -> None:
    """Each figure is the one that the engine and the event log tell."""
    _check_state(seen)
    _check_cost(seen)
    _check_events(seen)
    _check_people(seen)
    _check_spans(seen)
    await _check_variables(seen)
    await _check_trouble(seen)
    await _check_no_column_is_idle(seen)


def _check_state(seen: Seen) -> None:
    (waiting,), (done,) = seen.waiting["Now"], seen.done["Now"]
    assert (waiting["status"], waiting["unfinished runs"], waiting["open approvals"]) == ("waiting", 1, 1)
    assert waiting["step"]
    assert (done["status"], done["unfinished runs"], done["open approvals"]) == ("success", 0, 0)
    run = seen.overview.run
    assert (done["started"], done["ended"], done["error"]) == (run.started_at, run.finished_at, None)
    assert done["launched"] == seen.overview.project.created_at
    runs = {row["task"]: row for row in seen.done["Runs"]}
    expected = {run.key or run.flow: run for run in [run, *seen.overview.children]}
    assert runs.keys() == expected.keys()
    assert {"build/1/T1", "build/1/T2"} < runs.keys()
    for key, row in runs.items():
        assert (row["status"], row["attempts"]) == (expected[key].status, expected[key].attempt)
        took = expected[key].finished_at - expected[key].started_at  # type: ignore[operator]
        assert timedelta(seconds=float(row["seconds"])) == took
        assert (row["worker"], row["error"], row["crashes"]) == (None, None, 0)
    counted = Counter((one.status, one.attempt) for one in expected.values())
    told = {(row["status"], row["attempts"]): row["runs"] for row in seen.done["Runs by status and attempt"]}
    assert told == counted


def _check_cost(seen: Seen) -> None:
    usage = seen.overview.usage
    assert (usage.calls, usage.cost_usd) == (CALLS, CALLS * PRICE)
    assert [row["USD"] for row in seen.done["USD in all"]] == [PRICE * n for n in range(1, CALLS + 1)]
    rows = seen.done["By agent and model"]
    assert {row["model"] for row in rows} == {MODEL}
    assert sum(row["calls"] for row in rows) == CALLS
    assert sum(row["input"] for row in rows) == usage.input_tokens
    assert sum(row["output"] for row in rows) == usage.output_tokens
    assert {row["agent"]: row["usd"] for row in rows}["review"] == 2 * PRICE
    assert not any(row["unpaid"] or row["broken"] or row["without price"] for row in rows)
    for panel, column, whole in (
        ("USD by agent", "usd", usage.cost_usd),
        ("USD by model", "usd", usage.cost_usd),
        ("Calls by agent", "calls", CALLS),
        ("Tokens", "input", usage.input_tokens),
        ("Tokens", "output", usage.output_tokens),
    ):
        assert sum(row[column] for row in seen.done[panel]) == whole, panel
    assert {row["metric"] for row in seen.done["USD by model"]} == {MODEL}
    budget = {(row["scope"], row["task"], row["measure"]): row for row in seen.done["Budget"]}
    usd = budget["project", "", "usd"]
    assert (usd["limit"], usd["used"], usd["held"], usd["left"]) == (5, Decimal("1.2"), 0, Decimal("3.8"))
    assert (budget["project", "", "calls"]["used"], budget["project", "", "calls"]["left"]) == (CALLS, None)
    assert budget["project", "", "tokens"]["used"] == usage.input_tokens + usage.output_tokens
    tasks = {key: (row["limit"], row["used"], row["left"]) for key, row in budget.items() if key[0] == "task"}
    assert tasks == {("task", name, "calls"): (20, 3, 17) for name in ("T1", "T2")}


def _check_events(seen: Seen) -> None:
    kinds = Counter(event.kind for event in seen.events)
    told: Counter[str] = Counter()
    for row in seen.done["Events"]:
        told[row["metric"]] += row["events"]
    assert told == kinds
    trouble = {row["kind"]: row["times"] for row in seen.done["Retries, fallbacks, refusals"]}
    assert trouble == {kind: kinds[kind] for kind in TROUBLE_KINDS if kinds[kind]}


def _check_people(seen: Seen) -> None:
    (first, *_) = seen.waiting["Approvals"]
    assert (first["gate"], first["how"], first["decided"]) == ("delivery", "", None)
    done = {row["gate"]: row for row in seen.done["Approvals"]}
    assert done["delivery"]["how"] == "person"
    took = done["delivery"]["decided"] - done["delivery"]["asked"]
    assert timedelta(seconds=float(done["delivery"]["seconds"])) == took
    decisions = {(row["gate"], row["how"]): row for row in seen.done["How long decisions took"]}
    assert ("delivery", "person") in decisions
    assert sum(row["decisions"] for row in decisions.values()) == len(seen.done["Approvals"])
    assert decisions["delivery", "person"]["longest"] == done["delivery"]["seconds"]


def _check_spans(seen: Seen) -> None:
    spans = {row["kind"]: row for row in seen.done["Time by kind of span"]}
    assert spans["run"]["spans"] == len(seen.done["Runs"])
    # The retrospective's call has no line in the script, and fails.
    assert (spans["model"]["spans"], spans["model"]["broken"]) == (CALLS + 1, 1)
    assert not any(row["open"] for row in spans.values())
    (kept,) = seen.done["Spans kept"]
    assert kept["kept"] == sum(row["spans"] for row in spans.values())
    steps = {row["step"]: row for row in seen.done["Steps that took longest"]}
    assert sum(row["spans"] for row in steps.values()) == spans["step"]["spans"]
    for row in steps.values():
        figures = [round(float(row[name]), 6) for name in ("median", "p95", "longest", "total")]
        assert figures == sorted(figures)
    assert {row["metric"] for row in seen.done["Time of spans, 95 %"]} == spans.keys()


async def _check_variables(seen: Seen) -> None:
    project = seen.overview.project
    async with await psycopg.AsyncConnection.connect(seen.url, autocommit=True) as connection:
        found = {
            name: await (await connection.execute(expanded(query, ""))).fetchall()
            for name, query in VARIABLES.items()
        }
    assert [value for _, value in found["organisation"]] == [str(DEFAULT_ORGANISATION)]
    assert found["project"] == [(f"{project.title} ({str(project.id)[:8]})", str(project.id))]
    # Nothing is chosen, or what is gone: panels are empty, and no error.
    for chosen in ("", uuid4()):
        assert not any(rows for title, rows in (await shown(seen.url, chosen)).items())


async def _check_trouble(seen: Seen) -> None:
    """Who has a run in hand, why it failed, and what is held: of rows as workers and budgets write them."""
    project = seen.overview.project.id
    async with await psycopg.AsyncConnection.connect(seen.owner, autocommit=True) as owner:
        for statement in (
            "INSERT INTO workers (key, host, pid, version, queues, concurrency)"
            " VALUES (7, 'one', 42, '1', '[]', 1)",
            "UPDATE runs SET worker = 7, crashes = 2, status = 'failed',"
            """ error = '{"code": "budget_spent", "message": "private"}' WHERE key = 'build/1/T1'""",
            "INSERT INTO budget_holds (id, organisation_id, project_id, task, usd, tokens, until)"
            " SELECT gen_random_uuid(), organisation_id, id, 'T1', 0.5, 70, now() + interval '1 hour'"
            " FROM projects",
            "UPDATE projects SET paused_at = now()",
            "UPDATE runs SET finished_at = NULL WHERE parent_id IS NULL",
        ):
            await owner.execute(statement)
    now = await shown(seen.url, project)
    (row,) = [row for row in now["Runs"] if row["task"] == "build/1/T1"]
    assert (row["status"], row["worker"], row["crashes"]) == ("failed", "one 42", 2)
    assert row["error"] == "budget_spent"
    assert now["Now"][0]["status"] == "paused"
    budget = {(row["scope"], row["task"], row["measure"]): row for row in now["Budget"]}
    assert (budget["project", "", "usd"]["held"], budget["project", "", "usd"]["left"]) == (
        Decimal("0.5"),
        Decimal("3.3"),
    )
    assert [budget["task", name, "calls"]["left"] for name in ("T1", "T2")] == [16, 17]


async def _check_no_column_is_idle(seen: Seen) -> None:
    """Whatever is granted is read by a query: without any column of it, one is refused."""
    queries = [
        expanded(query, seen.overview.project.id) for query in [*QUERIES.values(), *VARIABLES.values()]
    ]
    async with (
        await psycopg.AsyncConnection.connect(seen.owner, autocommit=True) as owner,
        await psycopg.AsyncConnection.connect(seen.url, autocommit=True) as reading,
    ):
        assert not await _refused(reading, queries)
        for table, columns in readers.COLUMNS.items():
            for column in columns:
                right = f"SELECT ({column}) ON {table}"
                await owner.execute(f"REVOKE {right} FROM {seen.role}")
                assert await _refused(reading, queries), f"{table}.{column} is granted and not read"
                await owner.execute(f"GRANT {right} TO {seen.role}")


async def _refused(connection: psycopg.AsyncConnection[Any], queries: list[str]) -> bool:
    for query in queries:
        try:
            await connection.execute(f"EXPLAIN {query}")
        except psycopg.errors.InsufficientPrivilege:
            return True
    return False


def test_trouble_is_of_kinds_that_exist() -> None:
    """An event that is renamed takes its row along."""
    assert set(TROUBLE_KINDS) <= set(ALL)


def test_the_dashboard_is_drawn_from_one_source() -> None:
    """Every panel and variable reads the database that is chosen; panels lie beside each other."""
    made = dashboard("project")
    assert len({panel.title for panel in PANELS}) == len(PANELS)
    assert all(panel["datasource"] == SOURCE for panel in made["panels"])
    assert all(one["datasource"] == SOURCE for one in made["templating"]["list"][1:])
    assert [one["name"] for one in made["templating"]["list"]] == ["database", "organisation", "project"]
