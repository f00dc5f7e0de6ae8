"""Runs that wait or were handed back while their flow was changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.domain.approval import Decision
from phoenix.flow import approve
from tests.integration.engine.engine_toy import FLOWS, first, last, lengthy, open_system

CHANGED = {
    "gate": first >> approve("other", revise=first) >> last,
    "slow": first >> lengthy >> last,
}


@pytest.mark.parametrize(("flow", "step"), [("gate", "spec"), ("slow", "slow")])
async def test_a_run_whose_step_is_gone_fails_and_goes_on_when_it_is_back(
    migrated_database_url: str, tmp_path: Path, flow: str, step: str
) -> None:
    """It names the step, and is not taken for one that has ended."""
    async with open_system(migrated_database_url, tmp_path) as system:
        project = await system.launch(flow)
        async with system.engine.worker():
            if flow == "gate":
                await system.until(project.id, "waiting")
            else:
                await system.until_marked("slow")
    async with open_system(migrated_database_url, tmp_path, {**FLOWS, **CHANGED}) as system:
        if flow == "gate":
            (asked,) = (await system.engine.overview(project.id)).approvals
            await system.engine.decide(asked.id, Decision(verdict="approve"), by="ada")
        async with system.engine.worker():
            run = await system.until(project.id, "success", "failed")
    assert run.error is not None
    assert (run.status, run.error.code) == ("failed", "flow_error")
    assert f"stands at {step}" in run.error.message
    async with open_system(migrated_database_url, tmp_path) as system:
        system.go()
        await system.engine.resume(project.id)
        async with system.engine.worker():
            run = await system.until(project.id, "success", "failed")
    assert run.status == "success"
    assert system.marks()[-1] == "last"


async def test_a_run_goes_on_with_steps_that_came_after_it(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """What is behind the step at which it stands may change."""
    async with open_system(migrated_database_url, tmp_path) as system:
        project = await system.launch("slow")
        async with system.engine.worker():
            await system.until_marked("slow")
    more = FLOWS["slow"] >> lengthy
    async with open_system(migrated_database_url, tmp_path, {**FLOWS, "slow": more}) as system:
        system.go()
        async with system.engine.worker():
            run = await system.until(project.id, "success", "failed")
    assert run.status == "success"
    assert system.marks()[-1] == "lengthy"
