"""Child runs and the waking of their parent."""

from __future__ import annotations

import asyncio
from pathlib import Path

from phoenix.domain.approval import HumanRequest
from phoenix.storage import jobs, transitions, workers
from phoenix.storage.runs import PendingInterrupt
from tests.integration.engine.engine_toy import CHILDREN, System, open_system


async def test_children_run_side_by_side_and_wake_their_parent(system: System) -> None:
    """Children meet while running; the parent reads their rows and ends."""
    project = await system.launch("parent", "c")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.output is not None, run.error
    assert run.output["text"] == " ".join(f"build/c{n}=success" for n in range(CHILDREN))
    children = (await system.engine.overview(project.id)).children
    assert [c.key for c in children] == [f"build/c{n}" for n in range(CHILDREN)]
    assert all(c.attempt == 1 for c in children)
    begins = [m for m in system.marks()[: CHILDREN + 1] if m.startswith("begin")]
    assert len(begins) == CHILDREN
    assert system.marks().count("absorb") <= CHILDREN


async def test_a_failed_child_is_reported_to_its_parent(system: System) -> None:
    """A child's failure ends the child; the parent sees it and goes on."""
    project = await system.launch("parent", "bad")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.output is not None
    assert run.output["text"] == "build/good=success build/bad=failed"
    bad = (await system.engine.overview(project.id)).children[1]
    assert bad.error is not None
    assert bad.error.message == "ValueError: this child is bad"


async def test_events_of_children_are_in_their_projects_log(system: System) -> None:
    """A child's events carry its own run id and key."""
    project = await system.launch("parent", "c")
    async with system.engine.worker():
        root = await system.until(project.id, "success")
    events = await system.events(project.id)
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    finished = [e for e in events if e.kind == "run_finished"]
    assert len({e.run_id for e in finished}) == CHILDREN + 1
    assert finished[-1].run_id == root.id
    assert {e.data["key"] for e in finished} == {"", *(f"build/c{n}" for n in range(CHILDREN))}


async def test_no_wake_up_is_lost_when_children_end_at_any_moment(system: System) -> None:
    """Parents whose children end while they stop, wait or go on all end."""
    projects = [await system.launch("parent", "bad") for _ in range(4)]
    async with system.engine.worker():
        runs = await asyncio.gather(*(system.until(p.id, "success", "failed") for p in projects))
    assert {r.status for r in runs} == {"success"}


async def test_a_parent_whose_children_ended_before_it_waits_goes_on_at_once(system: System) -> None:
    """The wake flag of the running parent is seen when it stops."""
    project = await system.launch("late_parent", "bad")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.status == "success"
    assert run.attempt == 1
    assert "run_waiting" not in await system.kinds(project.id)


async def test_a_wake_up_outlasts_the_death_of_the_worker_that_was_woken(system: System) -> None:
    """Children may end while their parent's worker is dead, before the parent ever came to wait for them."""
    project = await system.launch("parent", "c")
    root = await system.run_of(project.id)
    lifecycle = system.lifecycle(7)
    await lifecycle.take(root.id)
    async with system.engine._admission.transaction() as change:
        await transitions.wake(change.connection, root.id)
        await workers.leave(change.connection, [root.id], crashed=True)
    again = await lifecycle.take(root.id)
    assert again is not None
    waiting = PendingInterrupt(
        id="i", request=HumanRequest(kind="wait", name="build", value_digest="sha256:0", value={})
    )
    assert await lifecycle.pause(again.run, [waiting]) == {"i": True}
    assert await lifecycle.pause(again.run, [waiting]) == {}


async def test_a_parent_is_enqueued_once_for_many_ends(migrated_database_url: str, tmp_path: Path) -> None:
    """Children that end while nobody takes the parent leave one job for it."""
    async with open_system(migrated_database_url, tmp_path, concurrency=1) as system:
        project = await system.launch("parent", "c")
        async with system.engine.worker():
            # One at a time: the first child stays until its siblings come, which they never do.
            await system.until_marked("begin:c0")
            root = await system.until(project.id, "waiting")
        for _ in range(5):
            async with system.engine._admission.transaction() as change:
                await transitions.wake(change.connection, root.id)
        async with system.database.begin() as connection:
            assert len(await jobs.live(connection, [root.id])) == 1
