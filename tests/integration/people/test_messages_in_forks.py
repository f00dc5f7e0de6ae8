"""What was said to a project until a moment is said in a fork from there; what came later is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phoenix.domain.run import Project
from phoenix.workspace.copying import ProjectRepositories
from tests.integration.engine.engine_toy import System
from tests.integration.people.coder_world import SUBMIT, asked, bash, open_world, until_file
from tests.integration.people.test_messages import steered


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    (tmp_path / "projects").mkdir()


async def forked(system: System, project: Project, at: str, folder: Path) -> list[list[str]]:
    """Fork, work on the fork, and return what people said in each of its model calls."""
    before = len(asked(folder))
    fork = await system.engine.forks.fork(project.id, at, by="bob")
    async with system.engine.worker():
        await system.until(fork.id, "success")
    told = [e.data for e in await system.events(fork.id) if e.kind == "message_sent"]
    assert [(t["by"], t["from"]) for t in told] == [("ada", str(project.id))] * len(told)
    return [steered(call) for call in asked(folder)[before:]]


async def test_a_fork_has_what_was_said_until_then(migrated_database_url: str, tmp_path: Path) -> None:
    """Read once in a conversation that had read it, read by one that had not; said later, it is not there."""
    lines: dict[str, Any] = {"T1": [bash("touch started; sleep 1"), bash("pwd"), SUBMIT]}
    repositories = ProjectRepositories(tmp_path / "projects")
    async with open_world(migrated_database_url, tmp_path, lines, repositories=repositories) as system:
        project = await system.launch("code", "T1")
        for said in ("First.", "Second."):
            await system.engine.message(project.id, said, by="ada")
        async with system.engine.worker():
            await until_file(tmp_path, "started")
            await system.engine.message(project.id, "Third.", by="ada")
            await system.until(project.id, "success")
        first, rest = ["First.", "Second."], ["First.", "Second.", "Third."]
        assert [steered(call) for call in asked(tmp_path)] == [first, rest, rest]

        assert await forked(system, project, "code", tmp_path) == [first, first, first]
        inner = [m for m in await system.engine.history.moments(project.id, inner=True) if m.path]
        amid = next(m for m in reversed(inner) if m.calls == 1)
        assert amid.at < inner[-1].at
        going_on = await forked(system, project, amid.checkpoint, tmp_path)
        assert going_on in ([first, first], [rest, rest]), "as it was said before that checkpoint, or not"
        after_third = next(m for m in reversed(inner) if m.calls == 2)
        assert await forked(system, project, after_third.checkpoint, tmp_path) == [rest]


async def test_what_was_said_comes_along_from_fork_to_fork(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """A conversation is known by the times of what it has read, whichever project it read that in."""
    lines: dict[str, Any] = {"T1": [bash("pwd"), bash("ls"), SUBMIT]}
    repositories = ProjectRepositories(tmp_path / "projects")
    async with open_world(migrated_database_url, tmp_path, lines, repositories=repositories) as system:
        project = await system.launch("code", "T1")
        await system.engine.message(project.id, "First.", by="ada")
        async with system.engine.worker():
            await system.until(project.id, "success")
        moments = await system.engine.history.moments(project.id, inner=True)
        amid = next(m for m in reversed(moments) if m.path and m.calls == 1)
        fork = await system.engine.forks.fork(project.id, amid.checkpoint, by="bob")
        # Before it is worked on: its conversation has read "First." in the first project only.
        again = next(
            m
            for m in await system.engine.history.moments(fork.id, inner=True)
            if m.checkpoint == amid.checkpoint
        )
        await system.engine.message(fork.id, "Second.", by="ada")
        async with system.engine.worker():
            await system.until(fork.id, "success")
            before = len(asked(tmp_path))
            last = await system.engine.forks.fork(fork.id, again.checkpoint, by="bob")
            await system.until(last.id, "success")
        going_on = [steered(call) for call in asked(tmp_path)[3:before]]
        # The checkpoint may be the one right before a model call, which then reads nothing more.
        assert (going_on[0][:1], going_on[1]) == (["First."], ["First.", "Second."])
        assert [steered(call) for call in asked(tmp_path)[before:]] == [["First."]] * 2
