"""Flows as the engine drives them: JSON goes in, JSON comes out, steps leave events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError

from phoenix.errors import InputError, NotFound
from phoenix.flow.hooks import Hooks, StepFailed, StepFinished, StepStarted
from phoenix.flow.step import Step
from phoenix.ports import Ports
from phoenix.telemetry import context, tracing

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from phoenix.flow.algebra import Flow

Emit = Callable[[UUID, str, dict[str, Any]], "asyncio.Future[None] | None"]
"""Called with a run's id, an event's kind, and its data; what it returns is done when that is stored."""

_begun: ContextVar[asyncio.Future[None] | None] = ContextVar("phoenix_step_begun", default=None)
"""The event that the present attempt of a step has begun, until it is known to be stored."""


class Programs:
    """The flows of this process by name, each compiled once."""

    def __init__(
        self, flows: Mapping[str, Flow[Any, Any]], checkpointer: BaseCheckpointSaver[Any], emit: Emit
    ) -> None:
        self._flows = flows
        self._checkpointer = checkpointer
        self._hooks = step_hooks(emit)
        self._inputs: dict[str, TypeAdapter[Any]] = {}
        self._graphs: dict[str, CompiledStateGraph[Any, Any, Any, Any]] = {}

    @property
    def flows(self) -> Mapping[str, Flow[Any, Any]]:
        """All of them."""
        return self._flows

    def flow(self, name: str) -> Flow[Any, Any]:
        """Return a flow.

        Raises:
            NotFound: there is none of that name.
        """
        try:
            return self._flows[name]
        except KeyError:
            known = ", ".join(sorted(self._flows))
            raise NotFound(f"There is no flow {name!r}.", field="flow", hint=f"Known are {known}.") from None

    def graph(self, name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Return a flow's graph."""
        if name not in self._graphs:
            self._graphs[name] = self.flow(name).compile(
                checkpointer=self._checkpointer, hooks=self._hooks, context_schema=Ports
            )
        return self._graphs[name]

    def start(self, name: str, body: Any) -> dict[str, Any]:
        """Return a graph's input from JSON, as the type that the flow's first step takes.

        Raises:
            InputError: it does not fit.
        """
        if name not in self._inputs:
            self._inputs[name] = TypeAdapter(input_type(self.flow(name)))
        try:
            return {"value": self._inputs[name].validate_python(body)}
        except ValidationError as error:
            raise InputError(f"This is no input for the flow {name!r}: {error}", field="input") from error


def input_type(flow: Flow[Any, Any]) -> Any:
    """Return the type that a flow's first step takes; Any when it does not say."""
    first = next((inner for inner in flow.walk() if isinstance(inner, Step)), None)
    return Any if first is None else first.takes


_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def as_json(value: Any) -> dict[str, Any]:
    """Return a flow's output as a run's row holds it: a model as its own JSON, else under `value`."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return {"value": _ANY.dump_python(value, mode="json", serialize_as_any=True)}


def step_hooks(emit: Emit) -> Hooks:
    """Return hooks that leave an event when a step starts, finishes or fails.

    A step does not wait until its start is stored: it does so at its end, for both events, which go in
    one transaction where the step was quick.
    """

    async def started(seen: StepStarted) -> None:
        place = seen.place
        # For the rest of this attempt, which is a task of its own.
        context.bind(step=place.step)
        tracing.step_begins(place.step, place.path, place.attempt)
        if place.thread_id is not None:
            about = {"step": place.step, "path": list(place.path), "attempt": place.attempt}
            _begun.set(emit(UUID(place.thread_id), "step_started", about))

    async def ended(seen: StepFinished | StepFailed) -> None:
        place = seen.place
        if isinstance(seen, StepFailed):
            tracing.step_ends(seen.error)
        else:
            tracing.step_ends(cached=seen.cached)
        if place.thread_id is None:
            return
        about: dict[str, Any] = {
            "step": place.step,
            "path": list(place.path),
            "attempt": place.attempt,
            "seconds": round(seen.seconds, 3),
        }
        if isinstance(seen, StepFailed):
            kind = "step_failed"
            about |= {"error": str(seen.error), "will_retry": seen.will_retry}
        else:
            kind = "step_finished"
            about |= {"cached": seen.cached}
        for stored in (_begun.get(), emit(UUID(place.thread_id), kind, about)):
            if stored is not None:
                await stored

    return Hooks(pre_step=(started,), post_step=(ended,))
