"""Flows that call a model server and push to a remote, and the points where their process can end.

Run as a module it is a worker that kills itself: arguments are the database's URL, the folder of marks, the
model server's URL and the point.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy
from pydantic import SecretStr

from phoenix.domain.budget import Hold
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall, Project, Run
from phoenix.engine.engine import Services
from phoenix.flow import Flow, step
from phoenix.llm.models import open_models
from phoenix.ports import Caller, CallJournal, Effect, Ports
from phoenix.settings import Settings
from phoenix.workspace import GitWorkspace
from tests.integration.engine.engine_toy import Words, open_system
from tests.unit.llm.server import Reply

BRANCH = "phoenix/done"
At = Callable[[str], None]
"""Called with the name of a point that is reached."""


class Refused(ConnectionError):
    """The step does not like an answer."""


@tool
async def look(where: str) -> str:
    """Look somewhere."""
    return f"nothing at {where}"


async def ask(runtime: Runtime[Ports], text: str) -> str:
    """Ask one question."""
    return str((await runtime.context.models.chat(Caller("say")).ainvoke([HumanMessage(text)])).text)


@step
async def say(words: Words, runtime: Runtime[Ports]) -> Words:
    """Ask two questions."""
    await ask(runtime, "one")
    await ask(runtime, "two")
    return words


@step
async def work(words: Words, runtime: Runtime[Ports]) -> Words:
    """Run an agent of two turns."""
    agent = create_agent(runtime.context.models.chat(Caller("work")), [look], context_schema=Ports)
    await agent.ainvoke({"messages": [("user", "go")]}, context=runtime.context)  # type: ignore[arg-type]
    return words


@step(retry=RetryPolicy(initial_interval=0.01, jitter=False, retry_on=Refused), max_attempts=2)
async def picky(words: Words, runtime: Runtime[Ports]) -> Words:
    """Refuse the first answer."""
    if (await ask(runtime, "picky")) == "answer 1":
        raise Refused
    return words


@step
async def strict(words: Words, runtime: Runtime[Ports]) -> Words:
    """Fail on the first answer."""
    if (await ask(runtime, "strict")) == "answer 1":
        raise ValueError("a wrong answer")
    return words


@step
async def ship(words: Words, runtime: Runtime[Ports]) -> Words:
    """Push a branch, and take its commit from the effect's result."""
    at: At = runtime.context.at  # type: ignore[attr-defined]
    at("asked")
    payload = {"branch": BRANCH, "commit": words.text}
    effect = Effect("push", f"toy/{words.text}", payload)
    result = await runtime.context.outbox.perform(effect)  # type: ignore[attr-defined]
    at("marked")
    return words.model_copy(update={"text": result["commit"], "done": True})


FLOWS: Mapping[str, Flow[Any, Any]] = {"talk": say >> work >> picky, "strict": say >> strict, "ship": ship}
CALLS = 6
POINTS = ("asked", "begun", "pushed", "marked")


def reply(counted: list[dict[str, Any]]) -> Callable[[dict[str, Any]], Reply]:
    """Return what chooses a server's replies; `counted` are the requests so far, this one included."""

    def choose(request: dict[str, Any]) -> Reply:
        last = request["messages"][-1]
        if last["content"] == "go":
            return Reply(calls=[("look", '{"where": "home"}')])
        same = [r for r in counted if r["messages"] == request["messages"]]
        return Reply(f"answer {len(same)}")

    return choose


class Watched:
    """A journal that tells when an answer was kept."""

    def __init__(self, inner: CallJournal, at: At) -> None:
        self.inner, self.at = inner, at

    async def find(self, key: CallKey) -> KeptAnswer | None:
        return await self.inner.find(key)

    async def keep(
        self, key: CallKey | None, answer: KeptAnswer, call: ModelCall, *, hold: Hold | None = None
    ) -> None:
        await self.inner.keep(key, answer, call, hold=hold)
        self.at("kept")


def options(folder: Path, server: str, at: At) -> dict[str, Any]:
    """Return the options of an engine that has these flows."""
    settings = Settings(home=folder, OPENAI_API_KEY=SecretStr("sk-0"), OPENAI_BASE_URL=f"{server}/v1")  # type: ignore[call-arg]

    def ports_for(run: Run, project: Project, services: Services) -> Ports:
        journal = Watched(services.journal, at)
        models = open_models(
            settings, "openai:test", usage=services.usage, events=services.events, journal=journal
        )
        return cast("Ports", SimpleNamespace(run_id=run.id, models=models, outbox=services.outbox, at=at))

    async def push(project: Project, effect: Effect) -> dict[str, Any]:
        at("begun")
        await workspace_in(folder).publish(remote_in(folder), str(effect.payload["branch"]))
        at("pushed")
        return {"commit": effect.payload["commit"]}

    return {"flows": FLOWS, "ports_for": ports_for, "performers": {"push": push}}


def workspace_in(folder: Path) -> GitWorkspace:
    """Return the project's repository."""
    return GitWorkspace(folder / "project", "toy")


def remote_in(folder: Path) -> str:
    """Return the address of the remote."""
    return f"ssh://git@localhost{folder}/remote.git"


SSH = """#!/bin/sh
for last; do :; done
exec env -i PATH="$PATH" sh -c "$last"
"""
"""Stands in for ssh: it runs the command of the last argument on this machine."""


async def make_remote(folder: Path) -> str:
    """Make a project with a branch, a remote that counts what it receives, and an ssh; return the commit."""
    tree = await (workspace := workspace_in(folder)).worktree("T1", await workspace.prepare(None))
    (tree.path / "app.py").write_text("one\n")
    commit = await tree.snapshot()
    await workspace.branch(BRANCH, commit)
    remote = folder / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    hook = remote / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ncat >> {folder}/received\n")
    hook.chmod(0o755)
    ssh = folder / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    return commit


def received_in(folder: Path) -> list[str]:
    """Return the updates that the remote has received."""
    path = folder / "received"
    return path.read_text().splitlines() if path.exists() else []


async def _work(url: str, folder: Path, server: str, point: str) -> None:
    def at(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async with open_system(url, folder, **options(folder, server, at)) as system:
        await system.engine.work()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
