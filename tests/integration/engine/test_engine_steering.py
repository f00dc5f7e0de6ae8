"""Pausing, cancelling, and a thread's further runs."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from langchain_core.runnables import RunnableConfig
from sqlalchemy import text

from phoenix.domain.approval import Decision
from phoenix.domain.run import Multitask, Run
from phoenix.engine.threads import Start
from phoenix.errors import Conflict, NotFound, ThreadBusy
from phoenix.storage.database import transaction
from tests.integration.engine.engine_toy import System, Words


async def start(system: System, thread_id: UUID, how: Multitask, said: str, flow: str = "plain") -> Run:
    """Start a run on a thread."""
    given = Words(text=said, folder=str(system.folder)).model_dump(mode="json")
    return await system.engine.start(thread_id, Start(flow=flow, input=given, multitask=how))


async def until_ended(system: System, run_id: UUID, seconds: float = 60) -> Run:
    """Return a run once it has ended."""
    async with asyncio.timeout(seconds):
        while (run := await system.engine.run(run_id)).finished_at is None:
            await asyncio.sleep(0.03)
    return run


async def test_a_pause_lets_the_step_that_runs_finish_and_begins_no_other(system: System) -> None:
    """The run stands at the next checkpoint until it is resumed, and repeats nothing then."""
    project = await system.launch("slow")
    async with system.engine.worker():
        await system.until_marked("slow")
        await system.engine.pause(project.id, reason="over budget")
        await asyncio.sleep(1.5)
        assert (await system.run_of(project.id)).status == "running"
        system.go()
        run = await system.until(project.id, "pending", "success")
        await asyncio.sleep(1.5)
        assert system.marks() == ["first", "slow"]
        assert (run.status, run.paused) == ("pending", True)
        found = (await system.engine.overview(project.id)).project
        assert found.pause_reason == "over budget"
        await system.engine.resume(project.id)
        await system.until(project.id, "success")
    assert system.marks() == ["first", "slow", "last"]
    kinds = await system.kinds(project.id)
    assert kinds.index("project_paused") < kinds.index("run_handed_back") < kinds.index("project_unpaused")


async def test_a_paused_project_is_not_taken_but_takes_decisions(system: System) -> None:
    """A decision during the pause acts after it; a child opened before it is paused too."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        await system.engine.pause(project.id)
        (approval,) = (await system.engine.overview(project.id)).approvals
        await system.engine.decide(approval.id, Decision(verdict="approve"), by="me")
        await asyncio.sleep(1.5)
        assert (await system.run_of(project.id)).status == "waiting"
        await system.engine.resume(project.id)
        await system.until(project.id, "success")


async def test_only_an_unfinished_project_is_paused(system: System) -> None:
    """What is over, or is not there, cannot be paused."""
    project = await system.launch("plain")
    async with system.engine.worker():
        await system.until(project.id, "success")
    with pytest.raises(Conflict, match="over"):
        await system.engine.pause(project.id)
    with pytest.raises(NotFound):
        await system.engine.pause(UUID(int=7))


async def test_cancelling_reaches_children_that_are_opened_meanwhile(system: System) -> None:
    """Whatever the moment, no run of a cancelled project is left unfinished."""
    projects = [await system.launch("parent", "bad") for _ in range(6)]
    async with system.engine.worker():
        for n, project in enumerate(projects):
            await asyncio.sleep(0.01 * n)
            await system.engine.cancel(project.id)
        await asyncio.sleep(1.5)
    for project in projects:
        found = await system.engine.overview(project.id)
        statuses = {found.run.status, *(child.status for child in found.children)}
        assert statuses <= {"cancelled", "success", "failed"}


OPEN_CHILD = (
    "INSERT INTO runs (id, project_id, parent_id, key, flow, status, input) SELECT gen_random_uuid(),"
    " project_id, id, 'T1', 'child', 'pending', '{}' FROM runs WHERE project_id = :id"
)
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def test_cancelling_waits_for_a_parent_and_finds_the_child_that_it_opens(system: System) -> None:
    """The child is in no snapshot of who began to cancel before it was committed."""
    project = await system.launch("parent")
    async with transaction(system.database) as opening:
        await opening.execute(text("SELECT FROM runs WHERE project_id = :id FOR UPDATE"), {"id": project.id})
        cancelling = asyncio.ensure_future(system.engine.cancel(project.id))
        async with asyncio.timeout(20), system.database.connect() as looking:
            while not (await looking.execute(text(WAITING))).scalar_one():
                await looking.rollback()
        await opening.execute(text(OPEN_CHILD), {"id": project.id})
    await cancelling
    found = await system.engine.overview(project.id)
    assert [run.status for run in (found.run, *found.children)] == ["cancelled", "cancelled"]


async def test_a_threads_next_run_comes_after_the_present_one_and_goes_on_from_it(system: System) -> None:
    """Enqueued runs of a thread never overlap, and share its checkpoints."""
    project = await system.launch("slow", "one")
    thread = (await system.run_of(project.id)).thread_id
    async with system.engine.worker():
        await system.until_marked("slow")
        second = await start(system, thread, "enqueue", "two")
        third = await start(system, thread, "enqueue", "three")
        assert second.behind
        assert third.behind
        await asyncio.sleep(1.5)
        assert (await system.engine.run(second.id)).status == "pending"
        system.go()
        done = [await until_ended(system, run.id) for run in (second, third)]
    assert [run.status for run in done] == ["success", "success"]
    assert [run.output["text"] for run in done if run.output] == ["TWO", "THREE"]
    assert done[0].started_at is not None
    assert done[1].started_at is not None
    assert done[0].finished_at is not None
    assert done[0].finished_at <= done[1].started_at
    assert done[1].base_checkpoint is not None
    assert (await system.run_of(project.id)).id == third.id


async def test_a_busy_thread_is_refused_where_that_was_asked(system: System) -> None:
    """`reject` leaves everything as it was; a free thread takes the run."""
    project = await system.launch("slow")
    thread = (await system.run_of(project.id)).thread_id
    with pytest.raises(ThreadBusy, match="pending"):
        await start(system, thread, "reject", "two")
    with pytest.raises(NotFound):
        await start(system, UUID(int=7), "reject", "two")
    system.go()
    async with system.engine.worker():
        await system.until(project.id, "success")
        run = await start(system, thread, "reject", "two")
        assert (await until_ended(system, run.id)).status == "success"


async def test_new_input_does_not_abandon_an_open_approval(system: System) -> None:
    """While a person is asked, nothing is enqueued behind the question; it can only be dropped knowingly."""
    project = await system.launch("gate")
    async with system.engine.worker():
        run = await system.until(project.id, "waiting")
        with pytest.raises(ThreadBusy, match="spec"):
            await start(system, run.thread_id, "enqueue", "two")
        assert len((await system.engine.overview(project.id)).approvals) == 1
        new = await start(system, run.thread_id, "interrupt", "two")
        assert (await until_ended(system, new.id)).status == "success"
    assert (await system.engine.run(run.id)).status == "cancelled"
    assert (await system.engine.overview(project.id)).approvals == []


async def test_a_rolled_back_run_is_gone_and_the_thread_stands_where_it_stood(system: System) -> None:
    """The new run begins from the checkpoint that the removed one began from."""
    project = await system.launch("plain", "one")
    async with system.engine.worker():
        first = await system.until(project.id, "success")
        gone = await start(system, first.thread_id, "enqueue", "two", flow="slow")
        await system.until_marked("slow")
        new = await start(system, first.thread_id, "rollback", "three")
        done = await until_ended(system, new.id)
    assert done.status == "success"
    assert done.output is not None
    assert done.output["text"] == "THREE"
    with pytest.raises(NotFound):
        await system.engine.run(gone.id)
    assert done.base_checkpoint == (await base_of(system, first))


async def base_of(system: System, run: Run) -> str:
    """Return the last checkpoint that a run left."""
    saver = system.engine._programs._checkpointer
    config: RunnableConfig = {"configurable": {"thread_id": str(run.thread_id), "checkpoint_ns": ""}}
    found = [kept async for kept in saver.alist(config) if kept.metadata["run_id"] == str(run.id)]
    return str(found[0].config["configurable"]["checkpoint_id"])


async def test_the_first_run_of_a_thread_can_be_rolled_back(system: System) -> None:
    """Then the thread is as if it had never run."""
    project = await system.launch("gate", "one")
    async with system.engine.worker():
        first = await system.until(project.id, "waiting")
        new = await start(system, first.thread_id, "rollback", "two")
        done = await until_ended(system, new.id)
    assert done.status == "success"
    assert done.base_checkpoint is None
    assert (await system.run_of(project.id)).id == new.id
