"""Workflows: which are loaded, how each is drawn, and what goes in and comes out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from phoenix.api.access import Reader
from phoenix.api.payloads import Answer
from phoenix.engine.drawing import Workflow, drawn, listed, schemas
from phoenix.engine.engine import Engine

router = APIRouter(prefix="/workflows", tags=["workflows"])

Name = Annotated[str, Path(max_length=200, examples=["develop"])]


class Graph(Answer):
    """A workflow as a Mermaid flowchart."""

    name: str
    mermaid: str


class Schemas(Answer):
    """JSON Schemas of a workflow."""

    name: str
    input: dict[str, Any]
    output: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    """What each of its steps gives, by the step's name; steps that do not say are left out."""


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


@router.get("")
async def list_workflows(_who: Reader, request: Request) -> list[Workflow]:
    """List the workflows that this service has loaded, by name."""
    return listed(_engine(request).flows)


@router.get("/{name}/graph")
async def graph(name: Name, _who: Reader, request: Request) -> Graph:
    """Draw a workflow."""
    return Graph(name=name, mermaid=drawn(_engine(request).flows, name))


@router.get("/{name}/schemas")
async def read_schemas(name: Name, _who: Reader, request: Request) -> Schemas:
    """Tell what goes into a workflow and comes out, and out of each of its steps."""
    found = schemas(_engine(request).flows, name)
    return Schemas(name=name, **found)
