"""A small system around the engine, and small flows for it. Also run as a worker process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt
from procrastinate import App, PsycopgConnector
from typing_extensions import TypedDict

from phoenix.checkpoints.saver import open_saver
from phoenix.domain.approval import HumanRequest
from phoenix.domain.frozen import Frozen, digest_of
from phoenix.domain.project import Question, Questions
from phoenix.domain.run import FINISHED, Event, Project, Run
from phoenix.engine.engine import Engine, Services
from phoenix.engine.launch import Launch
from phoenix.errors import ModelUnavailable
from phoenix.events.log import PostgresEventLog
from phoenix.ports import ChildSpec, Ports
from phoenix.storage.database import connect, conninfo
from phoenix.storage.events import EventRows
from phoenix.storage.projects import get as get_project

MARKS = "marks"


class State(TypedDict, total=False):
    """The channels of the toy graphs."""

    value: Any
    to: str


class Words(Frozen):
    """What toy flows take and give."""

    text: str
    folder: str = ""
    """Where steps leave marks, one line each."""

    def mark(self, what: str) -> None:
        """Leave a mark that outlives the process."""
        with (Path(self.folder) / MARKS).open("a") as file:
            file.write(f"{what}\n")

    def marks(self) -> list[str]:
        """Return all marks."""
        path = Path(self.folder) / MARKS
        return path.read_text().split() if path.exists() else []


class Toy:
    """A flow with the surface that the engine uses, over a hand-written graph."""

    def __init__(self, name: str, make: Callable[[StateGraph[Any, Any, Any, Any]], None]) -> None:
        self.name = name
        self._make = make

    def walk(self) -> list[Any]:
        return [SimpleNamespace()]

    def compile(self, *, checkpointer: Any, hooks: Any, context_schema: Any) -> Any:
        graph: StateGraph[Any, Any, Any, Any] = StateGraph(State, context_schema=context_schema)
        self._make(graph)
        return graph.compile(checkpointer=checkpointer)


def words(state: State) -> Words:
    return Words.model_validate(state["value"])


def chain(graph: StateGraph[Any, Any, Any, Any], *nodes: Callable[..., Awaitable[Any]]) -> None:
    """Add nodes in a row."""
    before = START
    for node in nodes:
        graph.add_node(node.__name__, node)
        graph.add_edge(before, node.__name__)
        before = node.__name__
    graph.add_edge(before, END)


async def first(state: State) -> State:
    words(state).mark("first")
    return {}


async def last(state: State) -> State:
    words(state).mark("last")
    return {"value": {**state["value"], "text": words(state).text.upper()}}


async def broken(_state: State) -> State:
    raise ModelUnavailable("The provider is down.")


async def slow(state: State) -> State:
    """Stay until a file named `go` is there."""
    words(state).mark("slow")
    while not (Path(words(state).folder) / "go").exists():
        await asyncio.sleep(0.02)
    return {}


def request(kind: Any, name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return a request as a flow's interrupt carries it."""
    verdicts = {"approve": ["approve", "edit", "reject"], "ask": ["respond"], "wait": []}[kind]
    asked = HumanRequest(
        kind=kind, name=name, value=value, value_digest=digest_of(value), verdicts=cast("Any", verdicts)
    )
    return asked.model_dump(mode="json")


async def gate(state: State) -> Command[Any]:
    answer = interrupt(request("approve", "spec", state["value"]))
    if answer["verdict"] == "reject":
        return Command(goto="first", update={"value": {**state["value"], "text": answer["reason"]}})
    return Command(goto="last")


def with_gate(graph: StateGraph[Any, Any, Any, Any]) -> None:
    graph.add_node("first", first)
    graph.add_node("gate", gate, destinations=("first", "last"))
    graph.add_node("last", last)
    graph.add_edge(START, "first")
    graph.add_edge("first", "gate")
    graph.add_edge("last", END)


def with_two_gates(graph: StateGraph[Any, Any, Any, Any]) -> None:
    def one(name: str) -> Callable[[State], Awaitable[State]]:
        async def stop(state: State) -> State:
            interrupt(request("approve", name, state["value"]))
            words(state).mark(name)
            return {}

        return stop

    for name in ("left", "right"):
        graph.add_node(name, one(name))
        graph.add_edge(START, name)
        graph.add_edge(name, "last")
    graph.add_node("last", last, defer=True)
    graph.add_edge("last", END)


async def ask(state: State) -> State:
    asked = Questions(
        request=digest_of(state["value"]), items=[Question(id="Q1", text="Which colour?", default="blue")]
    )
    answer = interrupt(request("ask", "questions", asked.model_dump(mode="json")))
    return {"value": {**state["value"], "text": answer["value"]["items"][0]["text"]}}


CHILDREN = 3


async def open_children(state: State, runtime: Runtime[Ports]) -> State:
    given = words(state)
    texts = [f"{given.text}{n}" for n in range(CHILDREN)] if given.text != "bad" else ["good", "bad"]
    await runtime.context.children.open(
        [
            ChildSpec(key=f"build/{text}", flow="child", input=Words(text=text, folder=given.folder))
            for text in texts
        ]
    )
    return {}


async def wait(state: State) -> State:
    interrupt(request("wait", "build", {}))
    return {}


async def absorb(state: State, runtime: Runtime[Ports]) -> Command[Any]:
    children = await runtime.context.children.read("build/")
    words(state).mark("absorb")
    if any(child.status not in FINISHED for child in children):
        return Command(goto="wait")
    ends = [f"{child.key}={child.status}" for child in children]
    return Command(goto=END, update={"value": {**state["value"], "text": " ".join(ends)}})


def with_children(graph: StateGraph[Any, Any, Any, Any]) -> None:
    graph.add_node("open", open_children)
    graph.add_node("wait", wait)
    graph.add_node("absorb", absorb, destinations=("wait", END))
    graph.add_edge(START, "open")
    graph.add_edge("open", "wait")
    graph.add_edge("wait", "absorb")


async def child(state: State) -> State:
    """Meet the siblings, to show that they run side by side; fail when so told."""
    given = words(state)
    given.mark(f"begin:{given.text}")
    if given.text == "bad":
        raise ValueError("this child is bad")
    while given.text != "good" and sum(m.startswith("begin") for m in given.marks()) < CHILDREN:
        await asyncio.sleep(0.02)
    given.mark(f"end:{given.text}")
    return {}


FLOWS: dict[str, Any] = {
    flow.name: flow
    for flow in (
        Toy("plain", lambda graph: chain(graph, first, last)),
        Toy("broken", lambda graph: chain(graph, first, broken)),
        Toy("slow", lambda graph: chain(graph, first, slow, last)),
        Toy("gate", with_gate),
        Toy("two_gates", with_two_gates),
        Toy("ask", lambda graph: chain(graph, ask, last)),
        Toy("parent", with_children),
        Toy("child", lambda graph: chain(graph, child)),
    )
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

    def __init__(self, engine: Engine, database: Any, folder: Path) -> None:
        self.engine = engine
        self.database = database
        self.folder = folder

    async def launch(self, flow: str, text: str = "hello", **options: Any) -> Project:
        given = Words(text=text, folder=str(self.folder))
        return await self.engine.launch(
            Launch(
                requirement="Do it.", model="none", flow=flow, input=given.model_dump(mode="json"), **options
            )
        )

    async def run_of(self, project_id: UUID) -> Run:
        return (await self.engine.overview(project_id)).run

    async def until(self, project_id: UUID, *statuses: str, seconds: float = 10) -> Run:
        """Return the project's own run once it has one of these statuses."""
        async with asyncio.timeout(seconds):
            while (run := await self.run_of(project_id)).status not in statuses:
                await asyncio.sleep(0.02)
        return run

    async def until_marked(self, mark: str, times: int = 1, seconds: float = 10) -> None:
        """Return once steps have left a mark so often."""
        async with asyncio.timeout(seconds):
            while self.marks().count(mark) < times:
                await asyncio.sleep(0.02)

    def marks(self) -> list[str]:
        return Words(text="", folder=str(self.folder)).marks()

    def go(self) -> None:
        """Let the slow step end."""
        (self.folder / "go").touch()

    async def events(self, project_id: UUID) -> list[Event]:
        return await self.engine.log.read(project_id)

    async def kinds(self, project_id: UUID) -> list[str]:
        return [event.kind for event in await self.events(project_id)]

    async def project(self, project_id: UUID) -> Project:
        async with self.database.begin() as connection:
            return await get_project(connection, project_id)


@asynccontextmanager
async def open_system(
    url: str, folder: Path, flows: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[System]:
    """Open an engine over a migrated database."""
    async with AsyncExitStack() as stack:
        database = connect(url)
        stack.push_async_callback(database.dispose)
        app = App(connector=PsycopgConnector(conninfo=conninfo(url), min_size=1, max_size=4))
        await stack.enter_async_context(app.open_async())
        saver = await stack.enter_async_context(open_saver(conninfo(url)))
        log = await stack.enter_async_context(
            PostgresEventLog(conninfo(url), EventRows(database).read, poll_seconds=0.5)
        )
        engine = Engine(
            database=database,
            queue=app,
            checkpointer=saver,
            flows=flows or FLOWS,
            ports_for=ports_for,
            log=log,
            **options,
        )
        yield System(engine, database, folder)


async def work_for_ever(url: str, folder: Path) -> None:
    async with open_system(url, folder) as system:
        await system.engine.work()


if __name__ == "__main__":
    asyncio.run(work_for_ever(sys.argv[1], Path(sys.argv[2])))
