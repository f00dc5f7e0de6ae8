"""A workbench: real git, a real sandbox, scripted models, everything else in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from phoenix.delivery.branch import BranchOutlet
from phoenix.domain.project import Request
from phoenix.domain.spec import Criterion, Requirement, Spec
from phoenix.events.in_memory import MemoryEvents
from phoenix.llm.models import ProjectModels
from phoenix.llm.scripted import Script, ScriptedModel
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import ChildSpec, Ports
from phoenix.sandbox.choice import choose_sandboxes
from phoenix.sandbox.harness import PytestHarness
from phoenix.sandbox.provision import WheelProvisioner
from phoenix.storage.in_memory import MemoryArtifacts, MemoryOutbox, MemorySteering, OpenGates
from phoenix.tools.in_memory import MemoryPermissions
from phoenix.workspace.repository import GitWorkspace


class NoChildren:
    """Refuses to open runs: what is tested here opens none."""

    async def open(self, children: list[ChildSpec]) -> None:
        raise AssertionError(children)

    async def read(self, prefix: str = "") -> list[object]:
        return []


@dataclass
class Bench:
    """Ports with their in-memory parts in reach."""

    ports: Ports
    events: MemoryEvents
    artifacts: MemoryArtifacts
    model: ScriptedModel
    base: str
    permissions: MemoryPermissions
    steering: MemorySteering

    async def spec(self, *texts: str) -> Spec:
        """Store a spec with these criteria, and return it."""
        request = await self.artifacts.put(Request(text="Do it."))
        criteria = [Criterion(id=f"C{n}", text=t) for n, t in enumerate(texts, 1)]
        requirement = Requirement(id="R1", text="It works.", criteria=criteria)
        spec = Spec(title="A change", summary="It works.", requirements=[requirement], request=request)
        await self.artifacts.put(spec)
        return spec


MakeBench = Callable[[Script], Awaitable[Bench]]


@pytest.fixture
def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeBench:
    """Return what makes a bench for a script."""

    async def make(script: Script) -> Bench:
        sandboxes = await choose_sandboxes("auto")
        provisioner = WheelProvisioner(tmp_path_factory.getbasetemp() / "environments", sandboxes)
        workspace = GitWorkspace(tmp_path / "project", "test")
        events, artifacts = MemoryEvents(), MemoryArtifacts()
        permissions, steering = MemoryPermissions(), MemorySteering()
        model = ScriptedModel(script)
        ports = Ports(
            project_id=uuid4(),
            run_id=uuid4(),
            artifacts=artifacts,
            events=events,
            children=NoChildren(),
            models=ProjectModels(model, usage=MemoryUsage(), events=events),
            workspace=workspace,
            sandboxes=sandboxes,
            provisioner=provisioner,
            harness=PytestHarness(sandboxes, provisioner),
            outlet=BranchOutlet(workspace, tmp_path / "report", key="test", outbox=MemoryOutbox({})),
            gates=OpenGates(),
            permissions=permissions,
            steering=steering,
        )
        base = await workspace.prepare(None)
        return Bench(ports, events, artifacts, model, base, permissions, steering)

    return make
