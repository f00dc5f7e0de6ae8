"""Flows as LangGraph graphs: one node per leaf step; loops and branches are edges.

Every node knows the `Label` that follows it. A label leads to a node, or to a `Decision`: a pure
choice from the value. Decisions are taken by the node that ends before them, so they cost no
step of the graph. A decision that fails or refuses has a gate node of its own: the run goes there,
with the finished step's output kept, and fails there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from langgraph.channels.topic import Topic
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from typing_extensions import TypedDict

from phoenix.flow.callbacks import HookCallbacks
from phoenix.flow.failure import note_step
from phoenix.flow.hooks import Hooks
from phoenix.flow.inference import INPUT, named

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.store.base import BaseStore

    from phoenix.flow.algebra import Flow
    from phoenix.flow.inference import Checker

SPARE_STEPS = 10
"""Graph steps allowed beyond the bound computed from the flow."""


class State(TypedDict, total=False):
    """The channels of every graph. A channel is written only by the step that changes it."""

    value: Any
    feedback: dict[str, Any] | None
    """A `Feedback` as JSON, until a step has used it."""
    loops: dict[str, int]
    """Rounds done, by loop, of the loops that are going on."""
    tries: int
    """Attempts of the present step that validators have rejected."""
    results: Annotated[list[Any], Topic(list)]
    """[key, output] of each parallel branch or map item, for one step of the graph."""


class Value(TypedDict):
    """What a plain step reads, and what a graph gives."""

    value: Any


Update = dict[str, Any]
NodeFunction = Callable[..., Awaitable["Update | Jump"]]
Compiled = "CompiledStateGraph[Any, Any, Any, Any]"


class Label:
    """A place in a graph: a node's name, or a decision. Set once, read when the flow runs."""

    __slots__ = ("target",)

    def __init__(self, target: str | Decision | None = None) -> None:
        self.target = target


@dataclass(frozen=True)
class Jump:
    """What a node returns that goes on elsewhere than to its following label."""

    update: Update
    label: Label


@dataclass
class Position:
    """State as a decision sees it. Only `loops` may be changed."""

    value: Any
    feedback: dict[str, Any] | None = None
    loops: dict[str, int] = field(default_factory=dict)

    @classmethod
    def after(cls, state: Mapping[str, Any], update: Update) -> Position:
        """Return the state once a node's update is applied."""
        seen = {**state, **update}
        return cls(seen.get("value"), seen.get("feedback"), dict(seen.get("loops") or {}))


Target = str | list[str] | list[Send]


class Decision(Protocol):
    """A pure choice of what follows. `gate` is the node where a failing choice fails."""

    gate: str

    def decide(self, position: Position) -> Label | Target:
        """Return what follows, or raise the error that the run shall fail with."""


def resolve(label: Label, position: Position) -> Target:
    """Follow decisions until they lead to nodes."""
    target: Any = label.target
    while not isinstance(target, (str, list)):
        choice = target.decide(position)
        target = choice.target if isinstance(choice, Label) else choice
    return target


@dataclass
class _Node:
    name: str
    function: NodeFunction
    after: Label
    reads: type[Any]
    jumps: bool
    is_gate: bool
    options: dict[str, Any]


class Builder:
    """Collects the nodes of one graph; parallel branches and map items get builders of their own."""

    def __init__(self, hooks: Hooks | None, context_schema: type[Any] | None, checker: Checker) -> None:
        self.hooks = hooks or Hooks()
        self.context_schema = context_schema
        self.path: tuple[str, ...] = ()
        """Names of the constructs around the step being added, below this graph."""
        self._checker = checker
        self._names = {START, END, *State.__annotations__}
        self._nodes: list[_Node] = []

    def unique(self, name: str) -> str:
        """Return a node name; the second step of a name gets `#2`. Stable for one flow."""
        clean = name.replace("|", "/").replace(":", ".")
        found, count = clean, 1
        while found in self._names:
            count += 1
            found = f"{clean}#{count}"
        self._names.add(found)
        return found

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Add steps inside a named construct."""
        outside = self.path
        self.path = (*outside, name)
        yield
        self.path = outside

    def producers(self, step: str) -> str:
        """Name the steps whose output reaches a step."""
        return named(self._checker.producers.get(step, ()), INPUT)

    def consumers(self, step: str) -> str:
        """Name the steps that a step's output reaches."""
        return named(self._checker.consumers.get(step, ()), "the end")

    def add(
        self,
        name: str,
        function: NodeFunction,
        after: Label,
        *,
        reads: type[Any] = State,
        jumps: bool = False,
        **options: Any,
    ) -> None:
        """Add a node under a unique name. `jumps` when it may return a Jump."""
        self._nodes.append(_Node(name, function, after, reads, jumps, False, options))

    def gate(self, name: str, label: Label) -> str:
        """Add the gate node of the decision that a label leads to, and return its name."""
        node = self.unique(name)

        async def stand(_state: State) -> Jump:
            return Jump({}, label)

        self._nodes.append(_Node(node, stand, label, State, True, True, {}))
        return node

    def subgraph(self, flow: Flow[Any, Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Compile a body to a graph of its own, so that it runs on beside waiting siblings."""
        inner = Builder(self.hooks, self.context_schema, self._checker)
        return inner.graph(flow)

    def graph(
        self,
        flow: Flow[Any, Any],
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        store: BaseStore | None = None,
    ) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Compile a flow with this builder."""
        entry = Label()
        flow.build(self, entry, Label(END))
        graph: StateGraph[Any, Any, Any, Any] = StateGraph(
            State, context_schema=self.context_schema, input_schema=State, output_schema=Value
        )
        for node in self._nodes:
            self._attach(graph, node)
        first = entry.target
        graph.add_edge(START, first if isinstance(first, str) else first.gate)  # type: ignore[union-attr]
        return graph.compile(checkpointer=checkpointer, store=store, name=flow.name)

    @staticmethod
    def _attach(graph: StateGraph[Any, Any, Any, Any], node: _Node) -> None:
        static = isinstance(node.after.target, str) and not node.jumps
        function = node.function if static else _routed(node)
        reads = node.reads if static else State
        graph.add_node(node.name, function, input_schema=reads, **node.options)
        if static and isinstance(node.after.target, str):
            graph.add_edge(node.name, node.after.target)


def _routed(node: _Node) -> Callable[..., Awaitable[Command[Any]]]:
    """Wrap a node that decides itself where the flow goes on."""

    @wraps(node.function)
    async def routed(state: State, **injected: Any) -> Command[Any]:
        done = await node.function(state, **injected)
        label, update = (done.label, done.update) if isinstance(done, Jump) else (node.after, done)
        position = Position.after(state, update)
        goto: Target | None = None
        if isinstance(label.target, str):
            goto = label.target
        elif node.is_gate:
            try:
                goto = resolve(label, position)
            except Exception as error:
                note_step(error, node.name)
                raise
        else:
            # This step is done: an error of the choice after it belongs to the gate, which asks again.
            with suppress(Exception):
                goto = resolve(label, position)
        if goto is None:
            return Command(update=update, goto=label.target.gate)  # type: ignore[union-attr]
        if position.loops != (state.get("loops") or {}):
            update = {**update, "loops": position.loops}
        return Command(update=update, goto=goto)

    return routed


def build_graph(
    flow: Flow[Any, Any],
    checker: Checker,
    *,
    checkpointer: BaseCheckpointSaver[Any] | None,
    store: BaseStore | None,
    hooks: Hooks | None,
    context_schema: type[Any] | None,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Compile a flow, with the recursion limit that its loops need. It reaches every subgraph."""
    graph = Builder(hooks, context_schema, checker).graph(flow, checkpointer, store)
    config: dict[str, Any] = {"recursion_limit": flow.supersteps() + SPARE_STEPS}
    if hooks is not None and hooks.watch_calls:
        config["callbacks"] = [HookCallbacks(hooks)]
    return graph.with_config(config)  # type: ignore[arg-type]
