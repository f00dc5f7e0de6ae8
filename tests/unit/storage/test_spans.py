"""Spans in PostgreSQL: written once, ended by whoever finds them abandoned, bounded, and behind the wall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.errors import DatabaseUnavailable
from phoenix.storage import spans, tenancy
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.spans import SpanRows
from phoenix.telemetry.spans import Span, id_of

NS = 1_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = UUID("00000000-0000-0000-0000-0000000000ff")


@pytest.fixture
async def rows(migrated_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(migrated_database_url)
    yield engine
    await engine.dispose()


async def project_with_run(
    rows: AsyncEngine, *, status: str = "running", attempt: int = 1
) -> tuple[str, str]:
    """Store a project and its run; return their ids."""
    project, run = uuid4(), uuid4()
    async with transaction(rows) as connection:
        await connection.execute(
            text(
                "INSERT INTO projects (id, title, requirement, model, approvals, path)"
                " VALUES (:id, 't', 'r', 'm', 'auto', 'auto')"
            ),
            {"id": project},
        )
        await connection.execute(
            text("INSERT INTO threads (id, project_id) VALUES (:run, :id)"), {"id": project, "run": run}
        )
        await connection.execute(
            text(
                "INSERT INTO runs (id, project_id, thread_id, flow, status, attempt, input)"
                " VALUES (:run, :id, :run, 'develop', :status, :attempt, '{}')"
            ),
            {"id": project, "run": run, "status": status, "attempt": attempt},
        )
    return str(project), str(run)


def span(project: str, kind: str, *, run: str = "", attempt: int = 1, ended: int = 0, name: str = "") -> Span:
    """Return a span that began a second after 1970."""
    return Span(
        TRACE, id_of(kind, name, run, attempt), "", kind, name or kind, NS, ended,
        "ok" if ended else "open", project, run, attempt,
    )  # fmt: skip


async def read(rows: AsyncEngine, project: str) -> dict[str, str]:
    """Return the status of each span by its name."""
    async with transaction(rows) as connection:
        found = await spans.page(connection, UUID(project), after=None, limit=1000)
    return {each.name: each.status for each in found}


@pytest.fixture
def store(migrated_database_url: str) -> SpanRows:
    return SpanRows(conninfo(migrated_database_url), limit=20)


async def test_what_has_ended_does_not_begin_again(rows: AsyncEngine, store: SpanRows) -> None:
    """Every turn writes its run's beginning, also the one that comes late."""
    project, run = await project_with_run(rows)
    begun, ended = span(project, "run", run=run), span(project, "run", run=run, ended=2 * NS)
    for each in (begun, ended, begun):
        await asyncio.to_thread(store.write, [each], {})
    assert await read(rows, project) == {"run": "ok"}
    async with transaction(rows) as connection:
        assert (await spans.counts(connection, UUID(project))).kept == 1
    store.close()


async def test_spans_of_no_project_are_left_out(rows: AsyncEngine, store: SpanRows) -> None:
    """A project that was deleted meanwhile spoils nothing for others."""
    project, run = await project_with_run(rows)
    gone = str(uuid4())
    new = await asyncio.to_thread(store.write, [span(gone, "run"), span(project, "run", run=run)], {gone: 3})
    assert new == 1
    assert await read(rows, project) == {"run": "open"}
    store.close()


async def test_abandoned_spans_are_ended_once_seen_twice(rows: AsyncEngine, store: SpanRows) -> None:
    """Those of an attempt that has passed are interrupted; what is in hand is left alone."""
    project, run = await project_with_run(rows, attempt=2)
    old, new = (span(project, "turn", run=run, attempt=n, name=f"turn {n}") for n in (1, 2))
    await asyncio.to_thread(store.write, [span(project, "run", run=run), old, new], {})
    assert await asyncio.to_thread(store.abandoned) == []
    assert [each.name for each in await asyncio.to_thread(store.abandoned)] == ["turn 1"]
    assert await read(rows, project) == {"run": "open", "turn 1": "interrupted", "turn 2": "open"}
    store.close()


async def test_a_run_ends_as_its_row_says(rows: AsyncEngine, store: SpanRows) -> None:
    """Also where the process that ended it died before it could write its span."""
    project, run = await project_with_run(rows, status="success")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    async with transaction(rows) as connection:
        await connection.execute(text("UPDATE runs SET finished_at = :at"), {"at": at})
    await asyncio.to_thread(store.write, [span(project, "run", run=run)], {})
    await asyncio.to_thread(store.abandoned)
    found = await asyncio.to_thread(store.abandoned)
    assert [(each.status, each.ended) for each in found] == [("ok", int(at.timestamp()) * NS)]
    store.close()


async def test_a_project_has_a_bound_and_parents_come_last(rows: AsyncEngine, store: SpanRows) -> None:
    """Details beyond it are counted; what may be a parent has as much room again."""
    project, run = await project_with_run(rows)
    for n in range(30):
        await asyncio.to_thread(store.write, [span(project, "git", ended=2 * NS, name=f"git {n}")], {})
    await asyncio.to_thread(store.write, [span(project, "step", run=run)], {project: 5})
    async with transaction(rows) as connection:
        counts = await spans.counts(connection, UUID(project))
    assert (counts.kept, counts.beyond_limit, counts.left_out) == (21, 10, 5)
    # Another process knows it too.
    other = SpanRows(store._conninfo, limit=20)
    assert await asyncio.to_thread(other.write, [span(project, "sql", ended=2 * NS)], {}) == 0
    store.close()
    other.close()


async def test_spans_go_with_their_project_and_stay_behind_the_wall(
    rows: AsyncEngine, store: SpanRows
) -> None:
    """Another organisation sees none."""
    project, run = await project_with_run(rows)
    await asyncio.to_thread(store.write, [span(project, "run", run=run)], {project: 1})
    async with transaction(rows) as connection:
        await tenancy.enter(connection, OTHER)
        assert await spans.page(connection, UUID(project), after=None, limit=10) == []
        assert (await spans.counts(connection, UUID(project))).left_out == 0
    async with transaction(rows) as connection:
        await connection.execute(text("DELETE FROM projects"))
        assert (await connection.execute(text("SELECT count(*) FROM spans"))).scalar_one() == 0
        assert (await connection.execute(text("SELECT count(*) FROM span_counts"))).scalar_one() == 0
    store.close()


async def test_a_database_that_is_away_is_said() -> None:
    """So that what waits, waits on."""
    store = SpanRows("host=127.0.0.1 port=1 dbname=x connect_timeout=1", limit=20)
    with pytest.raises(DatabaseUnavailable):
        await asyncio.to_thread(store.write, [span(str(uuid4()), "run")], {})
