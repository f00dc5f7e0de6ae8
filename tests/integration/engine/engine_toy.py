"""A small system around the engine, and small flows for it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from langgraph.runtime import Runtime

from phoenix.checkpoints.saver import open_saver
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.domain.frozen import Frozen, digest_of
from phoenix.domain.project import Answers, Question, Questions
from phoenix.domain.run import FINISHED, Event, Project, Run
from phoenix.engine.engine import Engine, Services
from phoenix.engine.launch import Launch
from phoenix.engine.lifecycle import Lifecycle
from phoenix.engine.queue import open_queue
from phoenix.engine.worker import WorkerOptions
from phoenix.errors import ModelUnavailable
from phoenix.events.log import PostgresEventLog
from phoenix.flow import Feedback, Flow, approve, ask, loop_until, parallel, step, wait
from phoenix.ports import ChildSpec, Ports
from phoenix.storage.database import connect, conninfo
from phoenix.storage.events import EventRows
from phoenix.storage.runs import of_projects

ROOT = Path(__file__).parents[3]
MARKS = "marks"
CHILDREN = 3
BIG = 1024**2
BUSY_SECONDS = 4.0
LENGTHY_SECONDS = 1.5


class Words(Frozen):
    """What toy flows take and give."""

    text: str
    folder: str
    """Where steps leave marks, one line each."""
    done: bool = False

    def mark(self, what: str) -> None:
        """Leave a mark that outlives the process."""
        with (Path(self.folder) / MARKS).open("a") as file:
            file.write(f"{what}\n")


def marks_in(folder: Path) -> list[str]:
    """Return all marks."""
    path = folder / MARKS
    return path.read_text().split() if path.exists() else []


@step
async def first(words: Words, feedback: Feedback | None) -> Words:
    """Begin, or begin again with the reason of a rejection."""
    words.mark("first")
    return words.model_copy(update={"text": feedback.text}) if feedback else words


@step
async def last(words: Words) -> Words:
    """Shout."""
    words.mark("last")
    return words.model_copy(update={"text": words.text.upper()})


@step
async def broken(words: Words) -> Words:
    """Fail as a provider does."""
    raise ModelUnavailable("The provider is down.")


@step
async def slow(words: Words) -> Words:
    """Stay until a file named `go` is there."""
    words.mark("slow")
    while not (Path(words.folder) / "go").exists():
        await asyncio.sleep(0.02)
    return words


@step
async def write(words: Words) -> Words:
    """Write a megabyte that cannot be compressed, to the folder and into the state."""
    noise = Random(1).randbytes(BIG // 2)
    (Path(words.folder) / "big").write_bytes(noise)
    return words.model_copy(update={"text": noise.hex()})


@step
async def fatal(words: Words) -> Words:
    """Kill the worker's process, until a file named `go` is there."""
    words.mark("fatal")
    if not (Path(words.folder) / "go").exists():
        await asyncio.sleep(0.5)  # the event of its start is stored meanwhile
        os._exit(9)
    return words


@step
async def lengthy(words: Words) -> Words:
    """Take longer than `fatal` does to kill."""
    words.mark("lengthy")
    await asyncio.sleep(LENGTHY_SECONDS)
    return words


@step
async def busy(words: Words) -> Words:
    """Keep the event loop itself busy for some seconds."""
    words.mark("busy")
    time.sleep(BUSY_SECONDS)
    return words


@step
async def leaky(words: Words) -> Words:
    """Let a cancellation of its own escape."""
    raise asyncio.CancelledError


@step
async def join(words: dict[str, Words]) -> Words:
    """Take what two branches gave."""
    return words["left"]


@step
async def question(words: Words) -> Questions:
    """Ask for a colour."""
    return Questions(
        request=digest_of(words.text), items=[Question(id="Q1", text="Which colour?", default="blue")]
    )


@step
async def colour(answers: Answers) -> str:
    """Say what was answered."""
    return f"{answers.items[0].text} {answers.items[0].assumed}"


@step
async def open_children(words: Words, runtime: Runtime[Ports]) -> Words:
    """Open child runs, which are there already when this is tried again."""
    good = [f"{words.text}{n}" for n in range(CHILDREN)]
    texts = ["good", "bad"] if words.text == "bad" else good
    folder = words.folder
    await runtime.context.children.open(
        [ChildSpec(key=f"build/{t}", flow="child", input=Words(text=t, folder=folder)) for t in texts]
    )
    return words


@step
async def absorb(words: Words, runtime: Runtime[Ports]) -> Words:
    """Look whether the children have ended."""
    words.mark("absorb")
    children = await runtime.context.children.read("build/")
    ends = [f"{child.key}={child.status}" for child in children]
    over = all(child.status in FINISHED for child in children)
    return words.model_copy(update={"text": " ".join(ends), "done": True}) if over else words


@step
async def child(words: Words) -> Words:
    """Meet the siblings, to show that they run side by side; fail when so told."""
    words.mark(f"begin:{words.text}")
    if words.text == "bad":
        raise ValueError("this child is bad")
    folder = Path(words.folder)
    while words.text.startswith("slow") and not (folder / "go").exists():
        await asyncio.sleep(0.02)
    while words.text != "good" and sum(m.startswith("begin") for m in marks_in(folder)) < CHILDREN:
        await asyncio.sleep(0.02)
    return words


@step
async def linger(words: Words, runtime: Runtime[Ports]) -> Words:
    """Stay until all children have ended."""
    while any(c.status not in FINISHED for c in await runtime.context.children.read()):
        await asyncio.sleep(0.02)
    return words


def done(words: Words) -> bool:
    """Tell whether all children have ended."""
    return words.done


FLOWS: Mapping[str, Flow[Any, Any]] = {
    "plain": first >> last,
    "broken": first >> broken,
    "leaky": first >> leaky,
    "slow": first >> slow >> last,
    "fatal": first >> fatal >> last,
    "lengthy": first >> lengthy >> last,
    "busy": busy >> last,
    "slow_parent": open_children >> slow >> wait("build") >> absorb,
    "gate": first >> approve("spec", revise=first) >> last,
    "delivery": first >> approve("delivery") >> last,
    "two_gates": parallel(left=approve("left") >> first, right=approve("right") >> first) >> join >> last,
    "ask": question >> ask("questions", answer=Answers) >> colour,
    "parent": open_children >> loop_until(done, wait("build") >> absorb, cap=20),
    "late_parent": open_children >> linger >> wait("build") >> absorb,
    "child": child,
    "big": first >> slow >> write >> last,
}


def ports_for(run: Run, project: Project, services: Services) -> Ports:
    """Return ports of which the toy flows use only the engine's own."""
    return cast(
        "Ports",
        SimpleNamespace(
            project_id=project.id,
            run_id=run.id,
            artifacts=services.artifacts,
            events=services.events,
            children=services.children,
        ),
    )


class System:
    """An engine with all that belongs to it, and shortcuts for tests."""

    def __init__(self, engine: Engine, database: Any, folder: Path, *, queue: Any, saver: Any) -> None:
        self.engine = engine
        self.database = database
        self.folder = folder
        self.queue = queue
        self.saver = saver

    async def launch(self, flow: str, text: str = "hello", **options: Any) -> Project:
        given = Words(text=text, folder=str(self.folder))
        return await self.engine.launch(self.request(flow, given.model_dump(mode="json"), **options))

    @staticmethod
    def request(flow: str, body: Any, **options: Any) -> Launch:
        """Return the launch of a flow."""
        return Launch(requirement="Do it.", model="none", flow=flow, input=body, **options)

    async def run_of(self, project_id: UUID) -> Run:
        async with self.database.begin() as connection:
            return (await of_projects(connection, [project_id]))[project_id]

    async def until(self, project_id: UUID, *statuses: str, seconds: float = 60) -> Run:
        """Return the project's own run once it has one of these statuses."""
        async with asyncio.timeout(seconds):
            while (run := await self.run_of(project_id)).status not in statuses:
                await asyncio.sleep(0.04)
        return run

    async def until_marked(self, mark: str, times: int = 1, seconds: float = 60) -> None:
        """Return once steps have left a mark so often."""
        async with asyncio.timeout(seconds):
            while self.marks().count(mark) < times:
                await asyncio.sleep(0.02)

    def lifecycle(self, worker: int) -> Lifecycle:
        """Return what changes runs' rows for a worker of this key."""
        engine = self.engine
        return Lifecycle(
            self.database, engine._admission, engine._moves, worker=worker, job_went=engine._queue.went
        )

    @property
    def untidy(self) -> Callable[[int, float, list[UUID]], Awaitable[bool]]:
        """What tells whether a sweep may find anything."""
        return self.engine._worker.sweep._untidy

    def marks(self) -> list[str]:
        return marks_in(self.folder)

    def go(self) -> None:
        """Let the slow step end."""
        (self.folder / "go").touch()

    async def events(self, project_id: UUID) -> list[Event]:
        return await self.engine.log.read(project_id)

    async def kinds(self, project_id: UUID) -> list[str]:
        return [event.kind for event in await self.events(project_id)]


@asynccontextmanager
async def open_system(
    url: str, folder: Path, flows: Mapping[str, Flow[Any, Any]] | None = None, **options: Any
) -> AsyncIterator[System]:
    """Open an engine over a migrated database."""
    async with AsyncExitStack() as stack:
        database = connect(url)
        stack.push_async_callback(database.dispose)
        app = open_queue(conninfo(url))
        await stack.enter_async_context(app.open_async())
        saver = await stack.enter_async_context(open_saver(conninfo(url), serializer=StrictSerializer(Words)))
        log = await stack.enter_async_context(
            PostgresEventLog(conninfo(url), EventRows(database).read, poll_seconds=0.5)
        )
        engine = Engine(
            database=database,
            queue=app,
            checkpointer=saver,
            flows=flows or FLOWS,
            ports_for=options.pop("ports_for", ports_for),
            log=log,
            performers=options.pop("performers", None),
            repositories=options.pop("repositories", None),
            options=WorkerOptions(**options),
        )
        yield System(engine, database, folder, queue=app, saver=saver)


@asynccontextmanager
async def worker_process(
    url: str, folder: Path, *, concurrency: int = 8
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker in a process of its own, killed at the end."""
    module = "tests.integration.engine.worker_process"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, url, str(folder), str(concurrency), cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
