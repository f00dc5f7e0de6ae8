"""as_step: a pipeline under one name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from phoenix.flow.algebra import Flow
from phoenix.flow.compile import Builder, Label
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.mermaid import Drawing, Source

In = TypeVar("In", contravariant=True)  # noqa: PLC0105
Out = TypeVar("Out", covariant=True)  # noqa: PLC0105
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, eq=False)
class Group(Flow[In, Out]):
    """A pipeline that counts as one member of another. Its steps stay nodes of their own."""

    name: str
    flow: Flow[In, Out]

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return (self.flow,)

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        with graph.within(self.name):
            self.flow.build(graph, entry, after)

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        return self.flow.infer(checker, incoming)

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        return self.flow.draw(drawing, sources)

    def supersteps(self) -> int:
        return self.flow.supersteps()


def as_step(flow: Flow[A, B], name: str) -> Group[A, B]:
    """Put a pipeline under one name: its steps' paths begin with it."""
    return Group(name, flow)
