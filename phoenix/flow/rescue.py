"""fallback: another flow does the work when a step has failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phoenix.errors import FlowInvalid
from phoenix.flow.algebra import Flow
from phoenix.flow.cache import Cached
from phoenix.flow.compile import Builder, Label
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.leaf import add_leaf
from phoenix.flow.mermaid import Drawing, Source
from phoenix.flow.step import Step


@dataclass(frozen=True, eq=False)
class Fallback(Flow[Any, Any]):
    """A step, and what replaces it when it fails. Made by `fallback`."""

    name: str
    step: Step[Any, Any] | Cached
    other: Flow[Any, Any]

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return (self.step, self.other)

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        rescue = Label()
        if isinstance(self.step, Cached):
            self.step.add_with_rescue(graph, entry, after, rescue)
        else:
            add_leaf(self.step, graph, entry, after, rescue=rescue)
        with graph.within(f"{self.name} fallback"):
            self.other.build(graph, rescue, after)

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        own = self.step.step if isinstance(self.step, Cached) else self.step
        if any(inner is own for inner in self.other.walk()):
            checker.report(f"the fallbacks of {own.name!r} come back to {own.name!r}: a cycle")
        return Incoming.joined([self.step.infer(checker, incoming), self.other.infer(checker, incoming)])

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        first = drawing.following
        ends = self.step.draw(drawing, sources)
        return ends + self.other.draw(drawing, [Source(first, "on failure")])

    def supersteps(self) -> int:
        return self.step.supersteps() + self.other.supersteps()


def fallback(step: Step[Any, Any] | Cached, other: Flow[Any, Any], /) -> Fallback:
    """Run another flow on the same input when a step has failed all its attempts.

    A spent budget, a stopped run and a broken seal are not replaced.

    Raises:
        FlowInvalid: the first is no step. `validate()` refuses fallbacks that form a cycle.
    """
    if not isinstance(step, (Step, Cached)):
        raise FlowInvalid(f"{step.name!r} is not a step.", hint="Give each of its steps a fallback.")
    return Fallback(step.name, step, other)
