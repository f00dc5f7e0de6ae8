"""Events that many runs of a process write at a time: numbers, order, and what one can spoil for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.run import Project
from phoenix.errors import DatabaseUnavailable, NotFound, StorageError
from phoenix.storage import projects
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.event_batch import FULL, EventBatches, RunEvents
from phoenix.storage.events import EventRows


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return an engine on a fresh database."""
    engine = connect(migrated_database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def batches(migrated_database_url: str) -> AsyncIterator[EventBatches]:
    """Return an open writer."""
    async with EventBatches(conninfo(migrated_database_url)).open() as opened:
        yield opened


async def add_project(database: AsyncEngine) -> UUID:
    project = Project(id=uuid4(), title="T", requirement="R", model="m", created_at=datetime.now(UTC))
    async with transaction(database) as connection:
        await projects.add(connection, project)
    return project.id


async def numbers(database: AsyncEngine, project_id: UUID) -> list[tuple[int, Any]]:
    """Return (number, n) of a project's events."""
    return [(e.seq, e.data["n"]) for e in await EventRows(database).read(project_id)]


async def commits(database: AsyncEngine) -> int:
    """Return how many transactions have written events: each has an id of its own."""
    async with transaction(database) as connection:
        found = await connection.execute(text("SELECT count(DISTINCT xmin::text) FROM events"))
        return int(found.scalar_one())


async def test_what_waits_together_is_one_commit_in_order(
    database: AsyncEngine, batches: EventBatches
) -> None:
    """A project's numbers follow the order of appending, and projects share the commit."""
    ids = [await add_project(database) for _ in range(3)]
    await asyncio.gather(*(batches.append(i, "thing_happened", {"n": n}) for n in range(20) for i in ids))
    for project_id in ids:
        assert await numbers(database, project_id) == [(n + 1, n) for n in range(20)]
    assert await commits(database) == 1


async def test_more_than_one_statement_holds_keeps_its_order(
    database: AsyncEngine, batches: EventBatches
) -> None:
    """What does not fit goes next."""
    project_id = await add_project(database)
    count = 2 * FULL + 1
    await asyncio.gather(*(batches.append(project_id, "thing_happened", {"n": n}) for n in range(count)))
    async with transaction(database) as connection:
        query = text("SELECT array_agg((data->>'n')::int ORDER BY seq) FROM events")
        assert (await connection.execute(query)).scalar_one() == list(range(count))
    assert await commits(database) == 3


async def test_a_held_project_delays_no_other(database: AsyncEngine, batches: EventBatches) -> None:
    """A transaction that holds a project's row holds up that project's events only, and their order stays."""
    held, free = await add_project(database), await add_project(database)
    async with transaction(database) as connection:
        await connection.execute(text("UPDATE projects SET title = 'x' WHERE id = :id"), {"id": held})
        early = [batches.append(held, "thing_happened", {"n": n}) for n in range(3)]
        async with asyncio.timeout(5):
            await batches.append(free, "thing_happened", {"n": 0})
        late = batches.append(held, "thing_happened", {"n": 3})
        assert not any(done.done() for done in early)
    async with asyncio.timeout(5):
        await asyncio.gather(*early, late)
    assert await numbers(database, held) == [(n + 1, n) for n in range(4)]


async def test_writers_of_two_processes_leave_no_gap(
    database: AsyncEngine, batches: EventBatches, migrated_database_url: str
) -> None:
    """Batches of several workers and single transactions number a project together."""
    ids = [await add_project(database) for _ in range(4)]
    rows = EventRows(database)
    async with EventBatches(conninfo(migrated_database_url)).open() as others:

        async def write(one: Any) -> None:
            for n in range(10):
                await asyncio.gather(*(one(i, "thing_happened", {"n": n}) for i in ids))

        await asyncio.gather(*(write(one) for one in (batches.append, others.append, rows.append)))
    for project_id in ids:
        found = await numbers(database, project_id)
        assert [seq for seq, _ in found] == list(range(1, 31))
        assert sorted(n for _, n in found) == sorted([*range(10)] * 3)


async def test_an_event_of_no_project_fails_alone(database: AsyncEngine, batches: EventBatches) -> None:
    """The others of its batch are written."""
    project_id = await add_project(database)
    before = batches.append(project_id, "thing_happened", {"n": 0})
    lost = batches.append(UUID(int=1), "thing_happened", {"n": 1})
    after = batches.append(project_id, "thing_happened", {"n": 2})
    await asyncio.gather(before, after)
    with pytest.raises(NotFound):
        await lost
    assert await numbers(database, project_id) == [(1, 0), (2, 2)]


async def test_an_event_that_cannot_be_stored_fails_alone(
    database: AsyncEngine, batches: EventBatches
) -> None:
    """A kind is no cleaned text: one that PostgreSQL refuses spoils no other event."""
    project_id = await add_project(database)
    before = batches.append(project_id, "thing_happened", {"n": 0})
    bad = batches.append(project_id, "thing\x00happened", {"n": 1})
    after = batches.append(project_id, "thing_happened", {"n": 2})
    await asyncio.gather(before, after)
    with pytest.raises(StorageError):
        await bad
    assert await numbers(database, project_id) == [(1, 0), (2, 2)]


async def test_data_is_cleaned_of_what_cannot_be_stored(database: AsyncEngine, batches: EventBatches) -> None:
    """NUL, NaN and lone surrogates come from models and tools."""
    project_id = await add_project(database)
    await RunEvents(batches, project_id, uuid4()).emit("thing_happened", n="a\x00b\ud800", m=float("nan"))
    assert await numbers(database, project_id) == [(1, "a\ufffdb\ufffd")]


async def test_a_lost_connection_is_replaced(database: AsyncEngine, batches: EventBatches) -> None:
    """Who waits at the loss is told, and the next event is written."""
    project_id = await add_project(database)
    await batches.append(project_id, "thing_happened", {"n": 0})
    async with transaction(database) as connection:
        await connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"),
            {"name": batches.application},
        )
    with pytest.raises(DatabaseUnavailable):
        await batches.append(project_id, "thing_happened", {"n": 1})
    await batches.append(project_id, "thing_happened", {"n": 2})
    assert await numbers(database, project_id) == [(1, 0), (2, 2)]


async def test_an_idle_connection_that_was_lost_costs_no_event(
    database: AsyncEngine, batches: EventBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause it is asked first whether it lives."""
    monkeypatch.setattr("phoenix.storage.event_batch.IDLE_SECONDS", 0.0)
    project_id = await add_project(database)
    await batches.append(project_id, "thing_happened", {"n": 0})
    async with transaction(database) as connection:
        await connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"),
            {"name": batches.application},
        )
    await batches.append(project_id, "thing_happened", {"n": 1})
    assert await numbers(database, project_id) == [(1, 0), (2, 1)]


async def test_the_end_waits_for_what_is_not_yet_written(
    database: AsyncEngine, migrated_database_url: str
) -> None:
    """An event whose step was cancelled is not lost with the worker."""
    project_id = await add_project(database)
    async with EventBatches(conninfo(migrated_database_url)).open() as opened:
        opened.append(project_id, "thing_happened", {"n": 0})
    assert await numbers(database, project_id) == [(1, 0)]
    with pytest.raises(DatabaseUnavailable):
        await opened.append(project_id, "thing_happened", {"n": 1})


async def test_a_cancelled_caller_spoils_nothing(database: AsyncEngine, batches: EventBatches) -> None:
    """Its event has happened all the same."""
    project_id = await add_project(database)
    given_up = batches.append(project_id, "thing_happened", {"n": 0})
    given_up.cancel()
    await batches.append(project_id, "thing_happened", {"n": 1})
    assert await numbers(database, project_id) == [(1, 0), (2, 1)]
