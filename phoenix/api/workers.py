"""The processes that work on runs."""

from __future__ import annotations

from fastapi import APIRouter, Request

from phoenix.api.access import Admin
from phoenix.domain.worker import Worker
from phoenix.engine.engine import Engine

router = APIRouter(prefix="/workers", tags=["workers"])


@router.get("")
async def list_workers(_who: Admin, request: Request) -> list[Worker]:
    """List the workers of the service's database, oldest first, with heartbeat, load and version."""
    engine: Engine = request.app.state.engine
    return await engine.workers()
