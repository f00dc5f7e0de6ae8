"""parallel and map_over: several bodies side by side, each a graph of its own.

A body waits for nobody: beside a slow sibling, or one that asks a person, it runs on to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin
from weakref import WeakValueDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.types import Send

from phoenix.errors import FlowInvalid
from phoenix.flow.algebra import Flow
from phoenix.flow.compile import Builder, Label, Position, State, Target, Update
from phoenix.flow.failure import is_containable
from phoenix.flow.hooks import base_path
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.mermaid import Drawing, Source
from phoenix.flow.typecheck import members, mismatch, union

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

    Graph = CompiledStateGraph[Any, Any, Any, Any]

OnFailure = Literal["propagate", "ignore"]
Body = Callable[..., Awaitable[Update]]


def _settle(flow: Flow[Any, Any], state: State) -> Update:
    """Clear feedback that a body has used."""
    used = any(getattr(inner, "feedback_parameter", "") for inner in flow.walk())
    return {"feedback": None} if used and state.get("feedback") else {}


@dataclass
class _Fork:
    nodes: list[str]
    gate: str = ""

    def decide(self, _position: Position) -> Target:
        return self.nodes


@dataclass(frozen=True, eq=False)
class Parallel(Flow[Any, dict[str, Any]]):
    """Flows side by side. Made by `parallel`."""

    name: str
    branches: dict[str, Flow[Any, Any]]
    on_failure: OnFailure = "propagate"

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return tuple(self.branches.values())

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        fork = _Fork([])
        entry.target = fork
        fork.gate = graph.gate(self.name, entry)
        join = Label(graph.unique(f"{self.name} joined"))
        for key, flow in self.branches.items():
            node = graph.unique(f"{self.name}/{key}")
            fork.nodes.append(node)
            path = (*graph.path, self.name, key)
            graph.add(node, self._branch(key, graph.subgraph(flow), path), join)
        graph.add(str(join.target), self._join(), after)

    def _branch(self, key: str, body: Graph, path: tuple[str, ...]) -> Body:
        ignore = self.on_failure == "ignore"

        async def branch(state: State, config: RunnableConfig) -> Update:
            base_path.set(base_path.get() + path)
            given = {"value": state["value"], "feedback": state.get("feedback")}
            try:
                done = await body.ainvoke(given, config)
            except GraphBubbleUp:
                raise
            except Exception as error:
                if not ignore or not is_containable(error):
                    raise
                return {}
            return {"results": [[key, done["value"]]]}

        return branch

    def _join(self) -> Body:
        async def joined(state: State) -> Update:
            given = dict(state.get("results") or [])
            outputs = {key: given[key] for key in self.branches if key in given}
            return {"value": outputs, **_settle(self, state)}

        return joined

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        outgoing = [flow.infer(checker, incoming) for flow in self.bodies()]
        return Incoming(dict[str, union(*(o.type for o in outgoing))], (self.name,))  # type: ignore[misc]

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        node = drawing.node(self.name, sources, "fork")
        ends: list[Source] = []
        for key, flow in self.branches.items():
            ends += flow.draw(drawing, [Source(node, key)])
        return [Source(drawing.node(f"{self.name} joined", ends, "fork"))]

    def supersteps(self) -> int:
        return 3 + max(flow.supersteps() for flow in self.bodies())


def parallel(*, on_failure: OnFailure = "propagate", **branches: Flow[Any, Any]) -> Parallel:
    """Run flows side by side on the same value; gives a dict of their outputs by branch.

    Args:
        on_failure: `propagate` fails with the first error and cancels the rest; `ignore` leaves a
            failed branch out. A spent budget always propagates.
        branches: The flows, by name.

    Raises:
        FlowInvalid: there is no branch.
    """
    if not branches:
        raise FlowInvalid("parallel has no branches.", hint="Give at least one, by name.")
    if on_failure not in get_args(OnFailure):
        raise FlowInvalid(f"parallel: on_failure is {on_failure!r}.", hint="Give 'propagate' or 'ignore'.")
    return Parallel("parallel", dict(branches), on_failure)


@dataclass
class _Scatter:
    """Sends each item to a task of its own."""

    name: str
    node: str
    join: Label
    producers: str
    gate: str = ""

    def decide(self, position: Position) -> Label | Target:
        items = position.value
        if not isinstance(items, list):
            raise mismatch(items, list, self.producers, self.name)
        if not items:
            return self.join
        return [
            Send(self.node, {"value": [n, item], "feedback": position.feedback})
            for n, item in enumerate(items)
        ]


@dataclass(frozen=True, eq=False)
class MapOver(Flow[list[Any], list[Any]]):
    """One flow over many items. Made by `map_over`."""

    name: str
    body: Flow[Any, Any]
    concurrency: int

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return (self.body,)

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        join = Label()
        scatter = _Scatter(self.name, graph.unique(f"{self.name} item"), join, graph.producers(self.name))
        entry.target = scatter
        scatter.gate = graph.gate(self.name, entry)
        join.target = graph.unique(f"{self.name} joined")
        graph.add(scatter.node, self._item(graph.subgraph(self.body), graph.path), join)
        graph.add(join.target, self._join(), after)

    def _item(self, body: Graph, path: tuple[str, ...]) -> Body:
        lanes: WeakValueDictionary[tuple[Any, ...], asyncio.Semaphore] = WeakValueDictionary()

        async def item(state: State, config: RunnableConfig) -> Update:
            index, value = state["value"]
            base_path.set((*base_path.get(), *path, f"{self.name}[{index}]"))
            lane = lanes.setdefault(_siblings(config), asyncio.Semaphore(self.concurrency))
            async with lane:
                done = await body.ainvoke({"value": value, "feedback": state.get("feedback")}, config)
            return {"results": [[index, done["value"]]]}

        return item

    def _join(self) -> Body:
        async def joined(state: State) -> Update:
            outputs = [output for _, output in sorted(state.get("results") or [], key=lambda r: r[0])]
            return {"value": outputs, **_settle(self, state)}

        return joined

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        checker.expect(incoming, list, self.name)
        given = union(*(_item_type(m) for m in members(incoming.type)))
        outgoing = self.body.infer(checker, Incoming(given, incoming.producers))
        return Incoming(list[outgoing.type], (self.name,))  # type: ignore[name-defined]

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        node = drawing.node(self.name, sources, "fork")
        ends = self.body.draw(drawing, [Source(node, "each")])
        return [Source(drawing.node(f"{self.name} joined", ends, "fork"))]

    def supersteps(self) -> int:
        return 3 + self.body.supersteps()


def _siblings(config: RunnableConfig) -> tuple[Any, ...]:
    """Return what the items of one map in one run have in common, and nothing else has."""
    found = config["configurable"]
    parent = str(found.get("checkpoint_ns", "")).rpartition("|")[0]
    info = found["__pregel_runtime"].execution_info
    return (id(asyncio.get_running_loop()), found.get("thread_id"), parent, info.checkpoint_id)


def _item_type(declared: Any) -> Any:
    found = get_args(declared)
    return found[0] if get_origin(declared) is list and found else Any


def map_over(body: Flow[Any, Any], /, *, concurrency: int = 8) -> MapOver:
    """Run one flow over each item of a list; gives a list in the same order.

    Args:
        body: What is done with each item.
        concurrency: How many items run at once; one that waits for a person does not count.

    Raises:
        FlowInvalid: the concurrency is below 1.
    """
    if concurrency < 1:
        raise FlowInvalid(f"map_over: concurrency is {concurrency}.", hint="Give 1 or more.")
    return MapOver(f"map {body.name}", body, concurrency)
