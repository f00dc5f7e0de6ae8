"""loop_until: a body again and again, until its output is good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phoenix.errors import FlowInvalid, LoopExhausted
from phoenix.flow.algebra import Flow
from phoenix.flow.compile import Builder, Label, Position
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.mermaid import Drawing, Source
from phoenix.flow.typecheck import argument_of


@dataclass
class _Round:
    """The choice at the end of the body. Rounds are counted in the state, by the gate's name."""

    name: str
    done: Callable[[Any], bool]
    cap: int
    again: Label
    out: Label
    on_cap: Label | None
    gate: str = ""

    def decide(self, position: Position) -> Label:
        rounds = position.loops.pop(self.gate, 0) + 1
        if self.done(position.value):
            return self.out
        if rounds < self.cap:
            position.loops[self.gate] = rounds
            return self.again
        if self.on_cap is not None:
            return self.on_cap
        raise LoopExhausted(
            f"{self.name!r} did not hold after {self.cap} rounds.",
            last=position.value,
            hint="Raise the cap, or give `on_cap` a step that takes over. The last output is kept.",
        )


@dataclass(frozen=True, eq=False)
class Loop(Flow[Any, Any]):
    """A repeated flow. Made by `loop_until`."""

    name: str
    done: Callable[[Any], bool]
    body: Flow[Any, Any]
    cap: int
    on_cap: Flow[Any, Any] | None = None

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return (self.body, self.on_cap) if self.on_cap else (self.body,)

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        on_cap = Label() if self.on_cap else None
        choice = _Round(self.name, self.done, self.cap, entry, after, on_cap)
        end = Label(choice)
        choice.gate = graph.gate(self.name, end)
        with graph.within(self.name):
            self.body.build(graph, entry, end)
        if self.on_cap and on_cap:
            with graph.within(f"{self.name} at its cap"):
                self.on_cap.build(graph, on_cap, after)

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        given = self.body.infer(checker, incoming)
        self.body.infer(checker, given)
        checker.expect(given, argument_of(self.done), self.name)
        return Incoming.joined([given, self.on_cap.infer(checker, given)]) if self.on_cap else given

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        first = drawing.following
        choice = drawing.node(self.name, self.body.draw(drawing, sources), "choice")
        drawing.edge(Source(choice, f"again, at most {self.cap}"), first)
        ends = [Source(choice, "done")]
        if self.on_cap:
            ends += self.on_cap.draw(drawing, [Source(choice, "at the cap")])
        return ends

    def supersteps(self) -> int:
        cap = self.on_cap.supersteps() if self.on_cap else 0
        return self.cap * self.body.supersteps() + cap + 1


def loop_until(
    done: Callable[[Any], bool],
    body: Flow[Any, Any],
    /,
    *,
    cap: int,
    on_cap: Flow[Any, Any] | None = None,
) -> Loop:
    """Run a body until its output is good; each round takes the output of the one before.

    Args:
        done: A pure function of the body's output.
        body: What is repeated; its output must fit its input.
        cap: The largest number of rounds.
        on_cap: What takes over with the last output at the cap, such as a human step.

    Raises:
        FlowInvalid: the cap is below 1. At run time `LoopExhausted`: the cap was reached.
    """
    name = getattr(done, "__name__", "loop").replace("<lambda>", "loop")
    if cap < 1:
        raise FlowInvalid(f"The loop until {name!r} has a cap of {cap}.", hint="Give 1 or more.")
    return Loop(f"until {name}" if name != "loop" else name, done, body, cap, on_cap)
