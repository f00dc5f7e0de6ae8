"""Runs from launch to their end."""

from __future__ import annotations

from engine_toy import System


async def test_a_launched_run_succeeds_with_its_output(system: System) -> None:
    """A run's output is in its row, and its events tell the way."""
    project = await system.launch("plain")
    async with system.engine.worker():
        run = await system.until(project.id, "success", "failed")
    assert run.status == "success", run.error
    assert run.output is not None
    assert run.output["value"]["text"] == "HELLO"
    assert run.attempt == 1
    assert await system.kinds(project.id) == ["project_created", "run_started", "run_finished"]
