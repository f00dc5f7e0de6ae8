"""Runs from launch to their end."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from phoenix.engine.launch import Launch
from phoenix.errors import BudgetInvalid, NotFound, RequirementInvalid, ResumeRefused, SettingInvalid
from tests.integration.engine.engine_toy import System


async def test_a_launched_run_succeeds_with_its_output(system: System) -> None:
    """A run's output is in its row, and its events tell the way."""
    project = await system.launch("plain")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.status == "success", run.error
    assert run.output is not None
    assert run.output["text"] == "HELLO"
    assert run.attempt == 1
    steps = ["step_started", "step_finished"] * 2
    assert await system.kinds(project.id) == ["project_created", "run_started", *steps, "run_finished"]
    started = (await system.events(project.id))[2]
    assert (started.run_id, started.data["step"], started.data["key"]) == (run.id, "first", "")


async def test_a_failing_run_ends_failed_with_its_reason(system: System) -> None:
    """The error of the step is what its user reads, with its category."""
    project = await system.launch("broken")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.error is not None
    assert (run.status, run.error.code, run.error.category) == ("failed", "model_unavailable", "transient")
    assert (run.error.message, run.error.step) == ("The provider is down.", "broken")
    finished = (await system.events(project.id))[-1]
    assert finished.data["error"]["code"] == "model_unavailable"


async def test_a_failed_run_resumes_at_the_step_that_failed(system: System) -> None:
    """Resuming clears the error, raises the attempt, and repeats no finished step."""
    project = await system.launch("broken")
    async with system.engine.worker():
        failed = await system.until(project.id, "failed")
        await system.engine.resume(project.id)
        async with asyncio.timeout(5):
            while (again := await system.run_of(project.id)).finished_at in (failed.finished_at, None):
                await asyncio.sleep(0.02)
    assert again.attempt > failed.attempt
    assert again.error is not None
    assert system.marks() == ["first"]
    assert "run_retried" in await system.kinds(project.id)


async def test_a_cancellation_that_a_step_lets_escape_fails_its_run(system: System) -> None:
    """Only a worker that is told to stop hands a run back."""
    project = await system.launch("leaky")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.error is not None
    assert "Cancelled" in run.error.message


async def test_a_finished_project_is_not_resumed(system: System) -> None:
    """Resuming what is over is a conflict, not a second run."""
    project = await system.launch("plain")
    async with system.engine.worker():
        await system.until(project.id, "success")
    with pytest.raises(ResumeRefused):
        await system.engine.resume(project.id)


async def test_cancelling_stops_the_running_step_and_refuses_its_result(system: System) -> None:
    """A cancelled run stays cancelled, and its worker is free again."""
    project = await system.launch("slow")
    async with system.engine.worker():
        await system.until_marked("slow")
        await system.engine.cancel(project.id)
        assert (await system.run_of(project.id)).status == "cancelled"
        async with asyncio.timeout(5):
            while system.engine._advance.running:
                await asyncio.sleep(0.02)
        system.go()
        other = await system.launch("plain")
        await system.until(other.id, "success")
    assert (await system.run_of(project.id)).status == "cancelled"
    with pytest.raises(ResumeRefused):
        await system.engine.resume(project.id)


async def test_one_worker_advances_many_runs_at_once(system: System) -> None:
    """Runs do not queue behind one that is slow."""
    slow = await system.launch("slow")
    others = [await system.launch("plain") for _ in range(5)]
    async with system.engine.worker():
        for other in others:
            await system.until(other.id, "success")
        assert (await system.run_of(slow.id)).status == "running"
        system.go()
        await system.until(slow.id, "success")


@pytest.mark.parametrize(
    ("launch", "error"),
    [
        (Launch(requirement="  ", model="m", flow="plain"), RequirementInvalid),
        (Launch(requirement="x" * 1_000_000, model="m", flow="plain"), RequirementInvalid),
        (Launch(requirement="x", model="m", flow="plain", budget_usd=Decimal(0)), BudgetInvalid),
        (Launch(requirement="x", model="m", flow="plain", approvals=" , "), SettingInvalid),
        (Launch(requirement="x", model="m", flow="no such flow"), NotFound),
    ],
)
async def test_an_unusable_launch_is_refused_and_leaves_nothing(
    system: System, launch: Launch, error: type[Exception]
) -> None:
    """Nothing is stored of a launch that cannot be used."""
    with pytest.raises(error):
        await system.engine.launch(launch)
    assert await system.engine.projects() == []


async def test_a_project_is_found_by_the_beginning_of_its_id(system: System) -> None:
    """A prefix finds its project when it is the only one, and says so when not."""
    projects = [await system.launch("plain") for _ in range(17)]
    assert await system.engine.find(str(projects[3].id)[:13]) == projects[3]
    first = [str(p.id)[0] for p in projects]
    twice = next(c for c in first if first.count(c) > 1)
    with pytest.raises(NotFound, match="Several"):
        await system.engine.find(twice)
    for wrong in ("", "zz", "%", "00000000-0000-0000-0000-000000000000"):
        with pytest.raises(NotFound):
            await system.engine.find(wrong)


async def test_projects_are_listed_newest_first(system: System) -> None:
    """The list shows the latest projects with their status."""
    first = await system.launch("plain", title="One")
    second = await system.launch("plain")
    listed = await system.engine.projects(limit=5)
    assert [o.project for o in listed] == [second, first]
    assert [o.project.title for o in listed] == ["Do it.", "One"]
    assert {o.run.status for o in listed} == {"pending"}
    assert len(await system.engine.projects(limit=1)) == 1
