"""approve, ask and wait: steps where a run pauses until somebody, or a child run, ends the pause.

Each is a lone node that does nothing but interrupt: it runs again from its start on resume.
Human steps fire no step hooks; their interrupt is their event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from langgraph.types import interrupt
from pydantic import BaseModel

from phoenix.domain.approval import Decision, HumanRequest, Verdict
from phoenix.errors import DomainInvalid, FlowInvalid, StepRejected
from phoenix.flow.algebra import Flow
from phoenix.flow.compile import Builder, Jump, Label, State, Update
from phoenix.flow.failure import note_step
from phoenix.flow.feedback import Feedback
from phoenix.flow.forms import (
    as_form,
    digest_of_value,
    from_form,
    keep_read_only,
    parse_decision,
    schema_of,
)
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.mermaid import Drawing, Source
from phoenix.flow.typecheck import argument_of, result_of

Node = Callable[[State], Awaitable[Update | Jump]]
_ANSWER = Decision.model_json_schema()


def decide(request: HumanRequest, declared: Any) -> tuple[Decision, Any]:
    """Pause until there is a decision that fits; return it with its validated value.

    One that does not fit is asked for again, under a new interrupt id.
    """
    asked = request.model_dump(mode="json")
    while True:
        given = interrupt(asked, response_schema=_ANSWER)
        try:
            decision = parse_decision(request, given)
            if decision.verdict in ("edit", "respond") and decision.value is not None:
                form = keep_read_only(request.answer_schema, request.value, decision.value)
                return decision, from_form(form, declared)
        except DomainInvalid:
            continue
        return decision, None


def _cleared(state: State) -> Update:
    return {"feedback": None} if state.get("feedback") else {}


@dataclass(frozen=True, eq=False)
class Approve(Flow[Any, Any]):
    """A gate where somebody decides on the value. Made by `approve`."""

    pauses: ClassVar[bool] = True

    name: str
    revise: Flow[Any, Any] | None = None
    of: Any = None
    respond: Callable[[Any, Any], Any] | None = None

    def types(self) -> tuple[Any, ...]:
        return () if self.of is None else (self.of,)

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return (self.revise,) if self.revise else ()

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        node = graph.unique(self.name)
        entry.target = node
        revise = Label() if self.revise else None
        graph.add(node, self._node(revise), after, jumps=True)
        if self.revise and revise:
            with graph.within(f"{self.name} revised"):
                self.revise.build(graph, revise, entry)

    def request(self, value: Any) -> HumanRequest:
        """Return what is asked about a value."""
        verdicts: list[Verdict] = ["approve", "edit", "reject"]
        declared = self._declared(value)
        if declared is Any:
            verdicts.remove("edit")
        if self.respond is not None:
            verdicts.append("respond")
        return HumanRequest(
            kind="approve",
            name=self.name,
            value_digest=digest_of_value(value),
            value=as_form(value),
            answer_schema=schema_of(declared),
            verdicts=verdicts,
        )

    def _declared(self, value: Any) -> Any:
        if self.of is not None:
            return self.of
        scalar = isinstance(value, (BaseModel, str, int, float))
        return type(value) if scalar else Any

    def _node(self, revise: Label | None) -> Node:
        async def gate(state: State) -> Update | Jump:
            value = state["value"]
            request = self.request(value)
            decision, edited = decide(request, self._declared(value))
            if decision.verdict == "reject":
                if revise is None:
                    error = StepRejected(decision.reason, field=self.name)
                    note_step(error, self.name)
                    raise error
                reason = Feedback(source=self.name, text=decision.reason, previous=request.value_digest)
                return Jump({"feedback": reason.model_dump(mode="json")}, revise)
            if decision.verdict == "edit":
                return {"value": edited, **_cleared(state)}
            if decision.verdict == "respond" and self.respond is not None:
                return {"value": self.respond(value, edited), **_cleared(state)}
            return _cleared(state)

        return gate

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        if self.of is not None:
            checker.expect(incoming, self.of, self.name)
        if self.revise is None:
            return incoming
        revised = self.revise.infer(checker, incoming)
        self.revise.infer(checker, revised)
        if self.of is not None:
            checker.expect(revised, self.of, self.name)
        return Incoming.joined([incoming, revised])

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        node = drawing.node(f"approve {self.name}", sources, "human")
        if self.revise:
            for end in self.revise.draw(drawing, [Source(node, "reject")]):
                drawing.edge(end, node)
        return [Source(node, "approve")]

    def supersteps(self) -> int:
        # Each rejection is a resume of its own, with a limit of its own.
        return 1 + (self.revise.supersteps() if self.revise else 0)


def approve(
    name: str,
    *,
    revise: Flow[Any, Any] | None = None,
    of: Any = None,
    respond: Callable[[Any, Any], Any] | None = None,
) -> Approve:
    """Pause until somebody approves the value, edits it, or rejects it with a reason.

    Args:
        name: The gate.
        revise: What is run on a rejected value, with the reason as its `Feedback`; then the gate
            asks again. Without it a rejection fails the run with `StepRejected`.
        of: The type that an edited value is validated into; the value's own class when left out.
        respond: A pure function of (value, response) giving the new value; without it nobody can respond.
    """
    return Approve(name, revise, of, respond)


@dataclass(frozen=True, eq=False)
class Ask(Flow[Any, Any]):
    """A question to a person. Made by `ask`."""

    pauses: ClassVar[bool] = True

    name: str
    answer: Any
    into: Callable[[Any, Any], Any] | None = None
    default: Callable[[Any], Any] | None = None

    def types(self) -> tuple[Any, ...]:
        return (self.answer, result_of(self.into) if self.into else None)

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        node = graph.unique(self.name)
        entry.target = node
        graph.add(node, self._node(), after)

    def request(self, value: Any) -> HumanRequest:
        """Return what is asked about a value."""
        return HumanRequest(
            kind="ask",
            name=self.name,
            value_digest=digest_of_value(value),
            value=as_form(value),
            answer_schema=schema_of(self.answer),
            verdicts=["respond", "approve"] if self.default else ["respond"],
        )

    def _node(self) -> Node:
        async def question(state: State) -> Update:
            value = state["value"]
            decision, answer = decide(self.request(value), self.answer)
            if decision.verdict == "approve" and self.default is not None:
                answer = self.default(value)
            return {"value": self.into(value, answer) if self.into else answer}

        return question

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        if self.into is None:
            return Incoming(self.answer, (self.name,))
        checker.expect(incoming, argument_of(self.into), self.name)
        return Incoming(result_of(self.into), (self.name,))

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        return [Source(drawing.node(f"ask {self.name}", sources, "human"))]

    def supersteps(self) -> int:
        return 1


def ask(
    name: str,
    *,
    answer: Any,
    into: Callable[[Any, Any], Any] | None = None,
    default: Callable[[Any], Any] | None = None,
) -> Ask:
    """Pause until somebody answers; the answer is the output.

    Args:
        name: The gate.
        answer: The answer's type. Its read-only fields are taken from the value's of the same name.
        into: A pure function of (value, answer) giving the output instead.
        default: A pure function of the value giving the answer of someone who approves as it is.
    """
    if answer is None:
        raise FlowInvalid(f"ask {name!r} has no answer type.", hint="Give `answer=Model`.")
    return Ask(name, answer, into, default)


@dataclass(frozen=True, eq=False)
class Wait(Flow[Any, Any]):
    """A pause that child runs end. Made by `wait`."""

    pauses: ClassVar[bool] = True

    name: str

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        node = graph.unique(self.name)
        entry.target = node

        async def pause(state: State) -> Update:
            digest = digest_of_value(state["value"])
            request = HumanRequest(kind="wait", name=self.name, value_digest=digest, value={})
            interrupt(request.model_dump(mode="json"))
            return {}

        graph.add(node, pause, after)

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        return incoming

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        return [Source(drawing.node(f"wait {self.name}", sources, "human"))]

    def supersteps(self) -> int:
        return 1


def wait(name: str) -> Wait:
    """Pause until the run is resumed, with whatever; the value passes through unchanged."""
    return Wait(name)
