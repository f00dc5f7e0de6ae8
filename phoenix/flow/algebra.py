"""Flows and pipelines: immutable, typed, closed under composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from phoenix.errors import FlowInvalid
from phoenix.flow.compile import Builder, Label, build_graph
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.mermaid import Drawing, Source, draw_mermaid
from phoenix.flow.run import Item, Run, Waiting
from phoenix.flow.typecheck import models_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.store.base import BaseStore

    from phoenix.domain.approval import Decision
    from phoenix.flow.hooks import Hooks

In = TypeVar("In", contravariant=True)  # noqa: PLC0105
Out = TypeVar("Out", covariant=True)  # noqa: PLC0105
T = TypeVar("T")


class Flow(ABC, Generic[In, Out]):
    """Anything that takes a value and gives one: a step, a construct, or a whole pipeline."""

    name: str
    pauses: ClassVar[bool] = False
    """Whether the flow itself interrupts the run."""

    @abstractmethod
    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        """Add nodes to a graph, point `entry` at the first, and go on to `after` from the last."""

    @abstractmethod
    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        """Report what does not fit, and return what comes out."""

    @abstractmethod
    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        """Draw the flow after its sources, and return where it ends."""

    @abstractmethod
    def supersteps(self) -> int:
        """Return an upper bound of the graph steps one pass takes."""

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        """Return the flows inside this one."""
        return ()

    def parts(self) -> tuple[Flow[Any, Any], ...]:
        """Return the members of the flat sequence this flow is."""
        return (self,)

    def walk(self) -> Iterator[Flow[Any, Any]]:
        """Yield this flow and all inside it, in order."""
        yield self
        for body in self.bodies():
            yield from body.walk()

    def types(self) -> tuple[Any, ...]:
        """Return the types that this flow itself declares for its values."""
        return ()

    def models(self) -> frozenset[type]:
        """Return all models and enums of this flow's values: what its checkpoints may hold."""
        return frozenset(
            m for inner in self.walk() for declared in inner.types() for m in models_in(declared)
        )

    def __rshift__(self, other: Flow[Out, T]) -> Pipeline[In, T]:
        """Return a new pipeline: this flow, then the other. Neither changes."""
        if not isinstance(other, Flow):
            raise FlowInvalid(
                f"{self.name!r} >> {other!r}: the right side is not a flow.",
                hint="Decorate an async function with @step.",
            )
        return Pipeline((*self.parts(), *other.parts()))

    def validate(self) -> None:
        """Check that every step fits the next, in every body too.

        Raises:
            FlowInvalid: listing all problems, each with both step names.
        """
        self.checked()

    def checked(self) -> Checker:
        """Validate, and return what was learnt of who feeds whom."""
        checker = Checker()
        self.infer(checker, Incoming.unknown())
        checker.finish()
        return checker

    def to_mermaid(self) -> str:
        """Return the flow as a Mermaid flowchart."""
        return draw_mermaid(self)

    def compile(
        self,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        store: BaseStore | None = None,
        hooks: Hooks | None = None,
        context_schema: type[Any] | None = None,
    ) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return the flow as a LangGraph graph: input and output are `{"value": ...}`.

        Raises:
            FlowInvalid: the flow does not hold together.
        """
        return build_graph(
            self,
            self.checked(),
            checkpointer=checkpointer,
            store=store,
            hooks=hooks,
            context_schema=context_schema,
        )

    async def run(
        self,
        value: In,
        *,
        context: Any = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        hooks: Hooks | None = None,
        config: RunnableConfig | None = None,
    ) -> Out | Waiting:
        """Run to the end and return the output, or a `Waiting` when people have to decide.

        Raises:
            Exception: a failed step's own error.
        """
        run = Run(self, checkpointer=checkpointer, hooks=hooks, config=config, context=context)
        result: Out | Waiting = await run.start(value)
        return result

    async def resume(
        self,
        answers: Mapping[str, Decision | dict[str, Any]],
        *,
        checkpointer: BaseCheckpointSaver[Any],
        config: RunnableConfig,
        context: Any = None,
        hooks: Hooks | None = None,
    ) -> Out | Waiting:
        """Go on from the last checkpoint with decisions by interrupt id; none after a crash.

        Raises:
            ResumeRefused: the answers do not name interrupts that are pending.
            DomainInvalid: a decision does not fit its request; nothing was resumed.
        """
        run = Run(self, checkpointer=checkpointer, hooks=hooks, config=config, context=context)
        result: Out | Waiting = await run.resume(answers)
        return result

    def astream(
        self,
        value: In,
        *,
        context: Any = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        hooks: Hooks | None = None,
        config: RunnableConfig | None = None,
    ) -> AsyncIterator[Item]:
        """Run like `run`, yielding what each step gave; the last item is the result."""
        run = Run(self, checkpointer=checkpointer, hooks=hooks, config=config, context=context)
        return run.stream_start(value)


@dataclass(frozen=True, eq=False)
class Pipeline(Flow[In, Out]):
    """A flat sequence of flows."""

    members: tuple[Flow[Any, Any], ...]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.members:
            raise FlowInvalid("A pipeline needs at least one step.")
        if not self.name:
            object.__setattr__(self, "name", " >> ".join(m.name for m in self.members))

    def named(self, name: str) -> Pipeline[In, Out]:
        """Return the same pipeline under another name."""
        return Pipeline(self.members, name)

    def parts(self) -> tuple[Flow[Any, Any], ...]:
        return self.members

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return self.members

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        for n, member in enumerate(self.members):
            following = after if n == len(self.members) - 1 else Label()
            member.build(graph, entry, following)
            entry = following

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        for member in self.members:
            incoming = member.infer(checker, incoming)
        return incoming

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        for member in self.members:
            sources = member.draw(drawing, sources)
        return sources

    def supersteps(self) -> int:
        return sum(member.supersteps() for member in self.members)
