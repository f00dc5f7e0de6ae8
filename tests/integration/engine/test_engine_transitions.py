"""Launching, taking and ending in one statement: the rules hold however many come together."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from procrastinate.jobs import Job, Status
from sqlalchemy import text

from phoenix.domain.budget import ProjectLimits
from phoenix.domain.gates import GateRule, GateRules
from phoenix.domain.permissions import RuleSet
from phoenix.domain.run import DEFAULT_ORGANISATION, Project, Run
from phoenix.engine.queue import TASK, Jobs
from phoenix.engine.threads import Start
from phoenix.errors import NotFound, RunSuperseded
from phoenix.storage import bounded, projects, runs, threads, transitions
from phoenix.storage.places import Place
from phoenix.storage.transitions import End, Launched
from tests.integration.engine.engine_toy import System, Words

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def launched(**changes: Any) -> Launched:
    """Return a project of the flow `plain` to store."""
    fields = {"title": "T", "requirement": "R", "model": "m", "created_at": NOW}
    project = Project(**{"id": uuid4(), **fields, **changes})
    run = Run(
        id=uuid4(),
        project_id=project.id,
        organisation_id=project.organisation_id,
        flow="plain",
        status="pending",
        created_at=NOW,
    )
    return Launched(project, run, {"value": {}}, project.priority, {"title": "T"})


async def rows(system: System, query: str, **values: Any) -> list[tuple[Any, ...]]:
    async with system.database.begin() as connection:
        return [tuple(row) for row in await connection.execute(text(query), values)]


async def places(system: System) -> list[tuple[Any, ...]]:
    """Return which runs have a place and at which tag, and their jobs, in order of coming."""
    return await rows(
        system,
        "SELECT r.admitted, r.tag, j.priority, j.task_name, j.queue_name, j.lock = r.thread_id::text,"
        " j.args ->> 'run_id' = r.id::text"
        " FROM runs r LEFT JOIN procrastinate_jobs j ON j.lock = r.thread_id::text ORDER BY r.ordinal",
    )


async def test_all_of_a_project_and_its_run_is_stored(system: System) -> None:
    """Every field that a launch can set comes back as it was: a new one needs no line anywhere."""
    changes: dict[str, Any] = {
        "repository": "https://example.org/r.git",
        "approvals": "spec,plan",
        "path": "short",
        "budget_usd": Decimal("12.5"),
        "forked_at": "1ef",
        "priority": 3,
        "paused_at": NOW,
        "pause_reason": "why",
        "archived_at": NOW,
        "created_by": uuid4(),
        "version": 4,
        "gate_rules": GateRules(gates={"spec": GateRule(quorum=2)}),
        "rules": RuleSet(rules=[]),
        "limits": ProjectLimits(tokens=7),
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    given = launched(**changes)
    unset = {"forked_from", "max_runs", "organisation_id"}
    plain = launched().project
    same = {name for name in Project.model_fields if getattr(given.project, name) == getattr(plain, name)}
    assert same - {"title", "requirement", "model", "created_at"} == unset
    assert await system.engine._moves.launch(given)
    async with system.database.begin() as connection:
        assert await projects.get(connection, given.project.id) == given.project
        stored = await runs.lock(connection, given.run.id)
    assert stored.run.model_copy(update={"queued_at": None}) == given.run
    assert (stored.input, stored.priority) == ({"value": {}}, 3)
    events = await system.events(given.project.id)
    assert [(e.seq, e.kind, e.data, e.run_id) for e in events] == [
        (1, "project_created", {"title": "T"}, given.run.id)
    ]


async def test_launches_that_come_together_get_the_places_that_they_would_get_one_by_one(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags count up, the window holds, and whoever comes behind one that is held is held as well."""
    some = [launched(max_runs=1) if n == 3 else launched() for n in range(6)]
    together = await system.engine._moves._launch(some)
    assert together == [True, True, True, False, False, False]
    after = await places(system)
    assert [row[:2] for row in after] == [(True, n) for n in range(3)] + [(False, 0)] * 3
    await rows(system, "WITH j AS (DELETE FROM procrastinate_jobs) DELETE FROM projects RETURNING id")
    for one in some:
        async with system.engine._admission.transaction() as change:
            change.organisations.clear()
            await projects.add(change.connection, one.project)
            await runs.add(change.connection, one.run, flow_input=one.input)
            await transitions.enter(change.connection, one.run.id)
    assert await places(system) == after
    monkeypatch.setattr(system.engine._moves, "_window", 4)
    await rows(system, "WITH j AS (DELETE FROM procrastinate_jobs) DELETE FROM projects RETURNING id")
    many = await asyncio.gather(*(system.engine._moves.launch(launched()) for _ in range(7)))
    assert sum(many) == 4


async def test_a_job_is_the_same_whoever_makes_it(system: System) -> None:
    """The database's functions and the queue make one form of job."""
    one, two = launched(), launched()
    await system.engine._moves.launch(one)
    async with system.database.begin() as connection:
        await projects.add(connection, two.project)
        await runs.add(connection, two.run, flow_input={})
        await system.engine._queue.put(connection, Place(two.run.id, two.run.thread_id, "default", 0))
    made, put = await places(system)
    assert made[2:] == put[2:] == (0, TASK, "default", True, True)


async def test_one_launch_that_cannot_be_stored_spoils_no_other(system: System) -> None:
    """What comes together with it is stored; it alone fails."""
    good, bad = launched(), launched(organisation_id=uuid4())
    found = await asyncio.gather(
        *(system.engine._moves.launch(one) for one in (good, bad)), return_exceptions=True
    )
    assert found[0] is True
    assert "organisation" in str(found[1])
    assert [row[0] for row in await rows(system, "SELECT id FROM projects")] == [good.project.id]


async def test_an_end_takes_its_job_along_and_no_other(system: System) -> None:
    """The job of a run is gone with its end, and nobody looks for it; a wrong number changes nothing."""
    project = await system.launch("plain")
    run = await system.run_of(project.id)
    lifecycle = system.lifecycle(7)
    [(job,)] = await rows(system, "UPDATE procrastinate_jobs SET status = 'doing' RETURNING id")
    other = await system.launch("plain")
    [(foreign,)] = await rows(
        system, "UPDATE procrastinate_jobs SET status = 'doing' WHERE status = 'todo' RETURNING id"
    )
    taken = await lifecycle.take(run.id)
    assert taken is not None
    await lifecycle.finish(taken.run, output={"value": 1}, job=job)
    assert await rows(system, "SELECT id FROM procrastinate_jobs") == [(foreign,)]
    manager = system.engine._queue._app.job_manager
    assert isinstance(manager, Jobs)
    assert manager.gone == {job}
    again = await lifecycle.take((await system.run_of(other.id)).id)
    assert again is not None
    await rows(system, "UPDATE procrastinate_jobs SET lock = 'x' RETURNING id")
    await lifecycle.finish(again.run, output={}, job=foreign)
    assert await rows(system, "SELECT id FROM procrastinate_jobs") == [(foreign,)]


async def test_of_ends_that_come_together_the_superseded_ones_fail(system: System) -> None:
    """Each run is ended by its own attempt only; a run that is gone is told."""
    lifecycle = system.lifecycle(7)
    takes = []
    for _ in range(3):
        project = await system.launch("plain")
        taken = await lifecycle.take((await system.run_of(project.id)).id)
        assert taken is not None
        takes.append(taken.run)
    old = takes[1].model_copy(update={"attempt": 7})
    gone = takes[2].model_copy(update={"id": uuid4()})
    found = await asyncio.gather(
        *(lifecycle.finish(run, output={"value": 1}) for run in (takes[0], old, gone)), return_exceptions=True
    )
    assert found[0] is None
    assert isinstance(found[1], RunSuperseded)
    assert isinstance(found[2], NotFound)
    statuses = await rows(system, "SELECT status FROM runs ORDER BY ordinal")
    assert statuses == [("success",), ("running",), ("running",)]


async def test_an_end_that_waited_sees_the_run_that_came_behind(system: System) -> None:
    """A run that is started on the thread while its present one ends is not left behind for ever."""
    project = await system.launch("plain")
    taken = await system.lifecycle(7).take((await system.run_of(project.id)).id)
    assert taken is not None
    body = Words(text="b", folder=str(system.folder)).model_dump(mode="json")
    start = Start(flow="plain", input=body, multitask="enqueue")
    async with system.database.begin() as connection:
        await threads.lock(connection, taken.run.thread_id)
        await runs.of_thread(connection, taken.run.thread_id)
        ending = asyncio.create_task(system.lifecycle(7).finish(taken.run, output={}))
        while not await waiting(system):
            await asyncio.sleep(0.01)
        behind = Run(
            id=uuid4(),
            project_id=project.id,
            thread_id=taken.run.thread_id,
            flow=start.flow,
            status="pending",
            behind=True,
            created_at=NOW,
        )
        await runs.add(connection, behind, flow_input={"value": body})
    await ending
    found = await rows(system, "SELECT behind, admitted FROM runs WHERE id = :id", id=behind.id)
    assert found == [(False, True)]


async def waiting(system: System) -> bool:
    """Tell whether somebody waits for a lock."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'"
    return bool((await rows(system, query))[0][0])


async def test_a_transition_of_nothing_is_told(system: System) -> None:
    """Runs that are not there are not found, in a transaction too."""
    with pytest.raises(NotFound):
        await system.engine._moves.take(uuid4(), 7)
    async with system.database.begin() as connection:
        with pytest.raises(NotFound):
            await transitions.end(connection, End(launched().run, "cancelled"))


async def test_nothing_to_do_is_seen_and_so_is_everything_else(system: System) -> None:
    """A sweep is spared only where nothing is lost, held or left."""

    async def untidy(*in_hand: UUID) -> bool:
        return await system.untidy(7, 2.5, list(in_hand))

    assert not await untidy()
    project = await system.launch("plain")
    run = await system.run_of(project.id)
    assert not await untidy()
    await rows(system, "DELETE FROM procrastinate_jobs RETURNING id")
    assert await untidy(), "a run without its job"
    taken = await system.lifecycle(7).take(run.id)
    assert taken is not None
    assert not await untidy(run.id)
    assert await untidy(), "a run of this worker that is not in its hands"
    await rows(system, "UPDATE runs SET worker = 8 RETURNING id")
    assert await untidy(run.id), "a run of a worker that nobody knows"
    beats = "clock_timestamp() - make_interval(secs => :age)"
    await rows(
        system,
        "INSERT INTO workers (key, host, pid, version, queues, concurrency, heartbeat_at)"
        f" VALUES (8, 'h', 1, 'v', '[]', 1, {beats}) RETURNING key",
        age=0,
    )
    assert not await untidy()
    await rows(system, f"UPDATE workers SET heartbeat_at = {beats} RETURNING key", age=3)
    assert await untidy(), "a worker that does not beat"
    await rows(system, "DELETE FROM workers RETURNING key")
    await system.lifecycle(8).finish(taken.run, output={})
    assert not await untidy()
    limited = "UPDATE organisations SET max_runs = :limit WHERE id = :id RETURNING id"
    await rows(system, limited, limit=1, id=DEFAULT_ORGANISATION)
    await system.launch("plain")
    assert not await untidy()
    await system.launch("plain")
    assert not await untidy(), "its organisation may not have one more"
    await rows(system, limited, limit=2, id=DEFAULT_ORGANISATION)
    assert await untidy(), "a run that is held and may come"


async def test_who_launches_and_waits_gets_the_end(system: System) -> None:
    """The end is told as it comes, and a failure is an end too."""
    body = Words(text="x", folder=str(system.folder)).model_dump(mode="json")
    async with system.engine.worker(), asyncio.timeout(60):
        good, bad = await asyncio.gather(
            *(system.engine.complete(system.request(flow, body)) for flow in ("plain", "broken"))
        )
    assert (good.status, bad.status) == ("success", "failed")
    assert good.output is not None


async def test_a_column_that_comes_while_workers_run_is_no_obstacle(system: System) -> None:
    """What is prepared goes on when a later version adds to the tables."""
    for number in range(3):
        project = await system.launch("plain")
        taken = await system.lifecycle(7).take((await system.run_of(project.id)).id)
        assert taken is not None
        await system.lifecycle(7).finish(taken.run, output={})
        for table in ("runs", "projects"):
            async with system.database.begin() as connection:
                await connection.execute(text(f"ALTER TABLE {table} ADD COLUMN later{number} integer"))


async def test_a_connection_that_was_lost_while_idle_is_not_used(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while without an answer it is asked first, and replaced; that costs no launch."""
    await system.launch("plain")
    await lose_connections(system)
    monkeypatch.setattr(bounded, "FRESH_SECONDS", 0.0)
    await system.launch("plain")


async def test_a_job_that_comes_while_the_worker_finds_none_is_taken_at_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left to the next look by the clock."""
    launched_late: list[Project] = []
    inner = Jobs.fetch_job

    async def fetch(self: Jobs, queues: Any, worker_id: int) -> Any:
        job = await inner(self, queues, worker_id)
        worker = system.engine._worker._worker
        if job is None and worker is not None and not launched_late:
            worker.fetch_job_polling_interval = 600
            launched_late.append(await system.launch("plain"))
            async with asyncio.timeout(20):
                while not self.has_news:
                    await asyncio.sleep(0.01)
        return job

    monkeypatch.setattr(Jobs, "fetch_job", fetch)
    async with system.engine.worker():
        async with asyncio.timeout(20):
            while not launched_late:
                await asyncio.sleep(0.01)
        await system.until(launched_late[0].id, "success", seconds=90)


async def test_a_job_that_is_gone_can_be_finished(system: System) -> None:
    """A worker that stopped meanwhile finishes its job in vain; one that loses its connection tries again."""
    manager = system.engine._queue._app.job_manager
    job = Job(id=4711, queue="default", lock="x", queueing_lock=None, task_name=TASK)
    await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    await system.launch("plain")
    [(job_id,)] = await rows(system, "SELECT id FROM procrastinate_jobs")
    await lose_connections(system)
    await manager.finish_job(job.evolve(id=job_id), Status.FAILED, delete_job=True)
    assert await rows(system, "SELECT id FROM procrastinate_jobs") == []


async def lose_connections(system: System) -> None:
    """Let the server end all connections but the one that asks for it."""
    await rows(
        system,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
