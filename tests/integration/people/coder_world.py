"""A coding agent under the real engine: rows, git and sandbox are real, its model follows a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langgraph.runtime import Runtime

from phoenix.agents.coder import work_on
from phoenix.delivery.branch import BranchOutlet
from phoenix.domain.evidence import Build
from phoenix.domain.project import Request
from phoenix.domain.run import Project, Run
from phoenix.domain.spec import Criterion, Requirement, Spec
from phoenix.domain.work import TaskWork
from phoenix.engine.engine import Services
from phoenix.flow import Flow, loop_until, step, wait
from phoenix.llm.calls import ModelRequest
from phoenix.llm.models import ProjectModels
from phoenix.llm.scripted import Line, Say, ScriptedModel
from phoenix.ports import ChildSpec, Ports
from phoenix.sandbox.choice import choose_sandboxes
from phoenix.sandbox.harness import PytestHarness
from phoenix.sandbox.provision import WheelProvisioner
from phoenix.workspace.repository import GitWorkspace
from tests.integration.engine.engine_toy import System, Words, absorb, done, open_system

CALLS = "calls.jsonl"


async def task_work(ports: Ports, task: str) -> TaskWork:
    """Return a small task, its spec stored."""
    base = await ports.workspace.prepare(None)
    request = await ports.artifacts.put(Request(text="Do it."))
    spec = Spec(
        title="A change",
        summary="It works.",
        requirements=[
            Requirement(id="R1", text="It works.", criteria=[Criterion(id="C1", text="It holds.")])
        ],
        request=request,
    )
    stored = await ports.artifacts.put(spec)
    return TaskWork(
        spec=stored, task=task, title="Change", brief="Do it.", criteria=["C1"], base=base, round=1
    )


@step
async def code(words: Words, runtime: Runtime[Ports]) -> Words:
    """Let the agent of one task work; its text names the task."""
    work = await task_work(runtime.context, words.text)
    handed = await work_on(work, runtime.context, tree_name=f"task-{words.text}")
    build = Build(spec=work.spec, base=work.base, commit=handed.commit, round=1)
    await runtime.context.artifacts.put(build)
    words.mark(f"done:{words.text}:{handed.submitted}")
    return words.model_copy(update={"text": handed.commit, "done": handed.submitted})


@step
async def open_two(words: Words, runtime: Runtime[Ports]) -> Words:
    """Open two tasks, and wait for neither."""
    await runtime.context.children.open(
        [
            ChildSpec(key=f"build/1/{task}", flow="task", input=Words(text=task, folder=words.folder))
            for task in ("T1", "T2")
        ]
    )
    return words


FLOWS: Mapping[str, Flow[Any, Any]] = {
    "code": code,
    "task": code,
    "two": open_two,
    "waiting_two": open_two >> loop_until(done, wait("build") >> absorb, cap=20),
}


def scripted(lines: Mapping[str, list[Line]], folder: Path) -> Callable[[ModelRequest], Line]:
    """Return a script by task and turn, the same in every process, that writes down what it was asked."""

    def speak(request: ModelRequest) -> Line:
        task = request.caller.task.partition("/")[0]
        said = [[m.type, m.name or "", str(m.content)] for m in request.messages]
        with (folder / CALLS).open("a") as file:
            file.write(json.dumps({"task": task, "turn": request.turn, "said": said}) + "\n")
        return lines[task][request.turn]

    return speak


def asked(folder: Path, task: str = "T1") -> list[dict[str, Any]]:
    """Return the model calls of a task that were made, in any process."""
    path = folder / CALLS
    found = [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []
    return [call for call in found if call["task"] == task]


@asynccontextmanager
async def open_world(
    url: str, folder: Path, lines: Mapping[str, list[Line]], **options: Any
) -> AsyncIterator[System]:
    """Open the engine with coding agents that follow a script."""
    sandboxes = await choose_sandboxes("auto")
    provisioner = WheelProvisioner(folder / "environments", sandboxes)

    def ports_for(run: Run, project: Project, services: Services) -> Ports:
        workspace = GitWorkspace(
            folder / "projects" / str(project.id), "test", scope=f"{run.id}-{run.attempt}"
        )
        model = ScriptedModel(scripted(lines, folder))
        return Ports(
            project_id=project.id,
            run_id=run.id,
            artifacts=services.artifacts,
            events=services.events,
            children=services.children,
            models=ProjectModels(
                model, usage=services.usage, journal=services.journal, events=services.events
            ),
            workspace=workspace,
            sandboxes=sandboxes,
            provisioner=provisioner,
            harness=PytestHarness(sandboxes, provisioner),
            outlet=BranchOutlet(workspace, folder / "report", key="test", outbox=services.outbox),
            permissions=services.permissions,
            steering=services.steering,
            gates=services.gates,
        )

    async with open_system(url, folder, FLOWS, ports_for=ports_for, **options) as system:
        yield system


def bash(command: str) -> Say:
    """Return a turn that runs a command."""
    return Say(calls=[("bash", {"command": command})])


SUBMIT = Say(calls=[("submit", {"summary": "Done."})])

SCRIPTS: Mapping[str, dict[str, list[Line]]] = {
    "asks": {
        "T1": [
            bash("touch before"),
            bash("make 2>/dev/null; touch started; sleep 3; echo x >> made"),
            SUBMIT,
        ],
        "T2": [bash("touch other"), SUBMIT],
    },
    "slow": {"T1": [bash("touch before"), bash("touch started; sleep 3; ls"), bash("pwd"), SUBMIT]},
}
"""Scripts that worker processes know by name."""


async def until_file(folder: Path, name: str, seconds: float = 150) -> None:
    """Return once an agent has made a file in some worktree."""
    async with asyncio.timeout(seconds):
        while not any(folder.glob(f"projects/**/{name}")):
            await asyncio.sleep(0.03)
