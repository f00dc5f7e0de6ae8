"""Which due runs get a job, and whose comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from phoenix.domain.run import DEFAULT_ORGANISATION, Project, Run
from phoenix.engine.lifecycle import Taken
from phoenix.engine.sweep import Sweep
from phoenix.storage.places import WINDOW
from tests.integration.engine.engine_toy import System

MANY = 10_000


async def organisation(system: System, name: str, max_runs: int | None = None) -> UUID:
    """Store an organisation and return its id."""
    key = uuid4()
    async with system.database.begin() as connection:
        values = {"id": key, "name": name, "max_runs": max_runs}
        query = "INSERT INTO organisations (id, name, max_runs) VALUES (:id, :name, :max_runs)"
        await connection.execute(text(query), values)
    return key


async def fill(system: System, project: Project, count: int, *, status: str = "pending") -> None:
    """Store many runs of a project at once."""
    query = """
        WITH made AS (SELECT gen_random_uuid() AS id FROM generate_series(1, :count)),
        lines AS (INSERT INTO threads (id, project_id) SELECT id, :project FROM made)
        INSERT INTO runs (id, thread_id, project_id, organisation_id, parent_id, key, flow, status, input)
        SELECT made.id, made.id, :project, :organisation, root.id, made.id::text, 'plain', :status, '{}'
        FROM made, (SELECT id FROM runs WHERE project_id = :project LIMIT 1) AS root
    """
    values = {
        "count": count,
        "project": project.id,
        "organisation": project.organisation_id,
        "status": status,
    }
    async with system.database.begin() as connection:
        await connection.execute(text(query), values)
        await connection.execute(text("ANALYZE runs"))


async def take_next(system: System) -> Taken | None:
    """Take the run whose job a worker would take now."""
    async with system.database.begin() as connection:
        query = text("SELECT args ->> 'run_id' FROM procrastinate_fetch_job_v2(ARRAY['default'], NULL)")
        run_id = (await connection.execute(query)).scalar_one_or_none()
    if run_id is None:
        return None
    return await system.lifecycle(7).take(UUID(run_id))


async def end(system: System, taken: Taken) -> None:
    """End a run that was taken."""
    await system.lifecycle(7).finish(taken.run, output={})


async def taken_until_none(system: System) -> list[Taken]:
    """Take whatever can be taken."""
    found = []
    while (taken := await take_next(system)) is not None:
        found.append(taken)
    return found


async def test_nobody_starves_behind_ten_thousand_runs_of_another(system: System) -> None:
    """An organisation that comes last is served within the next two picks, and then every other one."""
    big, small = await organisation(system, "big"), await organisation(system, "small")
    project = await system.launch("plain", organisation_id=big)
    await fill(system, project, MANY)
    await system.engine._admission.admit()
    for _ in range(40):
        assert await take_next(system) is not None
    late = [await system.launch("plain", organisation_id=small) for _ in range(3)]
    picks = [taken.project.id for _ in range(8) if (taken := await take_next(system))]
    assert [picks.index(p.id) <= 2 * n + 2 for n, p in enumerate(late)] == [True] * 3
    assert picks.count(project.id) == 5


async def test_an_organisations_jobs_are_few_however_many_runs_it_has(system: System) -> None:
    """The queue holds a window of them; whoever is taken makes room for the next."""
    project = await system.launch("plain")
    await fill(system, project, 100)
    await system.engine._admission.admit()
    assert await jobs(system) == WINDOW
    assert await take_next(system) is not None
    assert await jobs(system) == WINDOW


async def jobs(system: System) -> int:
    """Count the jobs that wait."""
    async with system.database.begin() as connection:
        query = text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'")
        return int((await connection.execute(query)).scalar_one())


@pytest.mark.parametrize("scope", ["project", "organisation"])
async def test_no_more_runs_are_worked_on_at_once_than_allowed(system: System, scope: str) -> None:
    """The others stay pending without a job, also for the sweep, and come as those end."""
    of_project = scope == "project"
    key = await organisation(system, "limited", None if of_project else 3)
    project = await system.launch("plain", organisation_id=key, max_runs=3 if of_project else None)
    await fill(system, project, 10)
    sweep = Sweep(
        system.engine._admission,
        system.engine._queue,
        key=8,
        in_hand={},
        effects=system.engine._effects.sweep,
        untidy=system.untidy,
    )
    await sweep(judges=False)
    first = await taken_until_none(system)
    assert len(first) == 3
    await sweep(judges=False)
    assert await take_next(system) is None
    await end(system, first[0])
    assert len(await taken_until_none(system)) == 1


async def test_a_higher_priority_goes_first_within_its_organisation(system: System) -> None:
    """Only those that have a job already come before it."""
    low = await system.launch("plain", priority=0)
    await fill(system, low, 100)
    await system.engine._admission.admit()
    high = await system.launch("plain", priority=5)
    picks = [taken.project.id for _ in range(WINDOW + 1) if (taken := await take_next(system))]
    assert high.id in picks


async def test_limited_launches_are_admitted_without_a_sweep(system: System) -> None:
    """A free place is given right after the transaction that asks for it; a woken run needs one too."""
    key = await organisation(system, "limited", 1)
    one = await system.launch("gate", organisation_id=key)
    two = await system.launch("gate", organisation_id=key)
    async with system.engine.worker():
        await system.until(one.id, "waiting")
        await system.until(two.id, "waiting")


async def test_a_run_that_lost_its_place_half_way_is_found(system: System) -> None:
    """A crash between a commit and the admission after it costs a sweep, no run."""
    project = await system.launch("plain")
    async with system.database.begin() as connection:
        await connection.execute(text("UPDATE runs SET admitted = false"))
        await connection.execute(text("DELETE FROM procrastinate_jobs"))
    sweep = Sweep(
        system.engine._admission,
        system.engine._queue,
        key=7,
        in_hand={},
        effects=system.engine._effects.sweep,
        untidy=system.untidy,
    )
    assert await sweep() == [(await system.run_of(project.id)).id]
    assert await sweep() == []


async def explained(system: System, query: str) -> str:
    """Return how PostgreSQL goes about a query."""
    async with system.database.begin() as connection:
        rows = await connection.execute(text(f"EXPLAIN (COSTS OFF) {query}"))
        return "\n".join(rows.scalars())


async def test_the_sweep_reads_neither_waiting_nor_held_runs(system: System) -> None:
    """With ten thousand of each, its queries go by the indexes of those that are admitted or held."""
    project = await system.launch("plain")
    await fill(system, project, MANY, status="waiting")
    await fill(system, project, MANY)
    queries: Sequence[str] = (
        "SELECT id FROM runs r WHERE r.admitted AND NOT r.paused AND (r.status = 'pending'"
        " OR (r.status = 'running' AND r.worker IS NULL) OR (r.status = 'waiting' AND r.wake))",
        "SELECT DISTINCT worker FROM runs WHERE worker IS NOT NULL",
        "SELECT organisation_id, queue FROM runs r WHERE NOT r.admitted AND NOT r.paused AND NOT r.behind"
        " AND (status = 'pending' OR (status = 'waiting' AND wake)) ORDER BY 1, 2 LIMIT 1",
    )
    for query in queries:
        plan = await explained(system, query)
        assert "Seq Scan" not in plan, plan
        assert "Index" in plan


async def test_launches_at_once_all_get_in(system: System) -> None:
    """Transactions of one organisation neither wait for each other for long nor lose a run."""
    launched = await asyncio.gather(*(system.launch("plain") for _ in range(40)))
    async with system.engine.worker():
        for project in launched:
            await system.until(project.id, "success")


def test_a_run_belongs_to_the_default_organisation() -> None:
    """Where nothing is said, all share one."""
    assert Run.model_fields["organisation_id"].default == DEFAULT_ORGANISATION
