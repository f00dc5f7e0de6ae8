"""Whether the process lives, and whether work gets done."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request

from phoenix import __version__
from phoenix.api.access import Public
from phoenix.api.payloads import Answer
from phoenix.engine.engine import Engine
from phoenix.engine.work import wall_of

router = APIRouter(tags=["health"])


class Alive(Answer):
    """The process answers."""

    version: str


class Ready(Answer):
    """The database answers, and how work goes on."""

    version: str
    workers: int
    """That live: their last heartbeat is seconds old."""
    due: int
    """Runs that wait for a worker."""
    oldest_due_seconds: float
    is_progressing: bool
    """Nothing waits, or a worker lives that takes what waits."""
    wall: Literal["role", "forced", "none"]
    """How PostgreSQL keeps organisations apart besides the queries: by a role, by policies, or not at all."""


@router.get("/livez", dependencies=[Public])
async def livez() -> Alive:
    """Tell that the process answers."""
    return Alive(version=__version__)


@router.get("/readyz", dependencies=[Public])
async def readyz(request: Request) -> Ready:
    """Tell that requests can be served, and whether workers make progress. 503 while the database is away."""
    engine: Engine = request.app.state.engine
    standing = await engine.standing()
    wall = await wall_of(request.app.state.database)
    return Ready(version=__version__, wall=wall, **standing.model_dump())
