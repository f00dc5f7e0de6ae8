"""A whole Phoenix in the test's process: embedded PostgreSQL's server, real git, a real sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from phoenix.bootstrap import System, open_system
from phoenix.domain.run import FINISHED, Event
from phoenix.engine.launch import Launch, Overview
from phoenix.llm.scripted import Script, ScriptedModel
from phoenix.settings import Settings
from tests.e2e.crash import Process, environment_of
from tests.e2e.script import MODEL

LONGEST_SECONDS = 300.0


@dataclass
class Result:
    """What a project came to, and the events it left."""

    overview: Overview
    events: list[Event]
    model: ScriptedModel

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of all events of a kind."""
        return [e.data for e in self.events if e.kind == kind]


Develop = Callable[..., Awaitable[Result]]


@pytest.fixture
def settings(migrated_database_url: str, tmp_path: Path) -> Settings:
    """Return settings with a database and a home of the test's own."""
    return Settings(home=tmp_path / "home", DATABASE_URL=SecretStr(migrated_database_url))  # type: ignore[call-arg]


def process_of(settings: Settings) -> Process:
    """Return `phoenix` as its user runs it, with the test's own home and database."""
    assert settings.database_url is not None
    return Process(environment_of(settings.home, settings.database_url.get_secret_value()))


@asynccontextmanager
async def system_of(
    settings: Settings, model: ScriptedModel, record: Path | None = None
) -> AsyncIterator[System]:
    """Open a system that works, with a scripted model."""
    opened = open_system(settings, backends={MODEL: model}, record=record)
    async with opened as system, system.engine.worker():
        yield system


async def stopped(system: System, project_id: UUID) -> Overview:
    """Return the overview once the project's own run has ended or waits for a person."""
    while True:
        overview = await system.engine.overview(project_id)
        if overview.run.status in FINISHED or (overview.run.status == "waiting" and overview.approvals):
            return overview
        await asyncio.sleep(0.05)


async def asks_for(
    system: System, project_id: UUID, gate: str, *, other_than: UUID | None = None
) -> Overview:
    """Return the overview once the project asks for a gate's decision."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            overview = await stopped(system, project_id)
            asked = [a for a in overview.approvals if a.request.name == gate and a.id != other_than]
            if asked or overview.run.status in FINISHED:
                assert asked, overview.run.error
                return overview
            await asyncio.sleep(0.05)


@pytest.fixture
def develop(settings: Settings) -> Develop:
    """Return what takes a project from launch to its stop."""

    async def run(script: Script, record: Path | None = None, **launch: Any) -> Result:
        model = ScriptedModel(script)
        async with system_of(settings, model, record) as system:
            order = {"requirement": "A calculator.", "model": MODEL, "approvals": "auto"} | launch
            project = await system.engine.launch(Launch(**order))
            async with asyncio.timeout(LONGEST_SECONDS):
                overview = await stopped(system, project.id)
            return Result(overview, await system.engine.log.read(project.id, limit=10_000), model)

    return run
