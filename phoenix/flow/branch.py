"""branch_on: one of several ways, by a key of the value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phoenix.errors import BranchMissing, FlowInvalid
from phoenix.flow.algebra import Flow
from phoenix.flow.compile import Builder, Label, Position
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.mermaid import Drawing, Source
from phoenix.flow.typecheck import argument_of


@dataclass
class _Choice:
    name: str
    key: Callable[[Any], str]
    ways: dict[str, Label]
    default: Label | None
    gate: str = ""

    def decide(self, position: Position) -> Label:
        key = self.key(position.value)
        way = self.ways.get(key, self.default)
        if way is None:
            known = ", ".join(map(repr, self.ways))
            raise BranchMissing(
                f"{self.name!r} has no branch for the key {key!r}; it has {known}.",
                hint="Add the branch, or a default.",
            )
        return way


@dataclass(frozen=True, eq=False)
class Branch(Flow[Any, Any]):
    """A choice between flows. Made by `branch_on`."""

    name: str
    key: Callable[[Any], str]
    ways: dict[str, Flow[Any, Any]]
    default: Flow[Any, Any] | None = None

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return (*self.ways.values(), *([self.default] if self.default else []))

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        labels = {key: Label() for key in self.ways}
        default = Label() if self.default else None
        choice = _Choice(self.name, self.key, labels, default)
        entry.target = choice
        choice.gate = graph.gate(self.name, entry)
        for key, flow in self.ways.items():
            with graph.within(key):
                flow.build(graph, labels[key], after)
        if self.default and default:
            with graph.within("default"):
                self.default.build(graph, default, after)

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        checker.expect(incoming, argument_of(self.key), self.name)
        return Incoming.joined([flow.infer(checker, incoming) for flow in self.bodies()])

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        node = drawing.node(self.name, sources, "choice")
        ends: list[Source] = []
        for key, flow in self.ways.items():
            ends += flow.draw(drawing, [Source(node, key)])
        if self.default:
            ends += self.default.draw(drawing, [Source(node, "otherwise")])
        return ends

    def supersteps(self) -> int:
        return 1 + max(flow.supersteps() for flow in self.bodies())


def branch_on(
    key: Callable[[Any], str], /, *, default: Flow[Any, Any] | None = None, **branches: Flow[Any, Any]
) -> Branch:
    """Go the way that the value's key names.

    Args:
        key: A pure function of the value.
        default: The way of every other key.
        branches: The ways, by key.

    Raises:
        FlowInvalid: there is no branch. At run time `BranchMissing`: no branch has the key.
    """
    name = getattr(key, "__name__", "branch").replace("<lambda>", "branch")
    if not branches and default is None:
        raise FlowInvalid(f"{name!r} has no branches.", hint="Give at least one.")
    for way, flow in {**branches, **({"default": default} if default else {})}.items():
        if not isinstance(flow, Flow):
            raise FlowInvalid(f"{name!r}: the branch {way!r} is not a flow.", hint="Decorate it with @step.")
    return Branch(name, key, dict(branches), default)
