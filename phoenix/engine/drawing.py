"""Workflows as people and programs look at them: names, flowcharts, schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from phoenix.domain.frozen import Frozen
from phoenix.engine.programs import input_type
from phoenix.engine.queue import queue_of
from phoenix.errors import NotFound
from phoenix.flow.algebra import Flow
from phoenix.flow.step import Step

Flows = Mapping[str, Flow[Any, Any]]


class Workflow(Frozen):
    """A workflow in a list."""

    name: str
    queue: str
    """Workers that take its runs take this queue."""
    steps: list[str]
    """In the order in which they are written; one that is there twice is named twice."""


def listed(flows: Flows) -> list[Workflow]:
    """Return all workflows, by name."""
    return [
        Workflow(name=name, queue=queue_of(name), steps=[step.name for step in _steps(flow)])
        for name, flow in sorted(flows.items())
    ]


def drawn(flows: Flows, name: str) -> str:
    """Return a workflow as a Mermaid flowchart.

    Raises:
        NotFound: there is none of that name.
    """
    return _flow(flows, name).to_mermaid()


def schemas(flows: Flows, name: str) -> dict[str, Any]:
    """Return the JSON Schemas of what goes into a workflow, comes out, and out of each step.

    Raises:
        NotFound: there is none of that name.
    """
    flow = _flow(flows, name)
    steps = {step.name: found for step in _steps(flow) if (found := _schema(step.gives))}
    last = next(reversed(_steps(flow)), None)
    return {
        "input": _schema(input_type(flow)),
        "output": {} if last is None else steps.get(last.name, {}),
        "steps": steps,
    }


def _flow(flows: Flows, name: str) -> Flow[Any, Any]:
    if name not in flows:
        known = ", ".join(sorted(flows))
        raise NotFound("There is no such workflow.", field="path.name", hint=f"Known are {known}.")
    return flows[name]


def _steps(flow: Flow[Any, Any]) -> list[Step[Any, Any]]:
    return [inner for inner in flow.walk() if isinstance(inner, Step)]


def _schema(kind: Any) -> dict[str, Any]:
    """Return the schema of a type; empty, which fits everything, where it has none."""
    try:
        return TypeAdapter(kind).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError):
        return {}
