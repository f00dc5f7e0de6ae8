"""What a plan is expected to cost, put beside it where people decide on it."""

from __future__ import annotations

from typing import Any, get_args
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import HumanRequest
from phoenix.domain.forecast import Size, forecast
from phoenix.storage import forecasts


async def with_forecast(connection: AsyncConnection, project_id: UUID, request: HumanRequest) -> HumanRequest:
    """Return a request for a plan with its forecast among the notes; any other as it is."""
    sizes = _sizes(request.value) if request.name == forecasts.PLAN else []
    if not sizes:
        return request
    expected = forecast(sizes, await forecasts.past(connection, project_id))
    notes = request.notes | {"forecast": expected.model_dump(mode="json")}
    return request.model_copy(update={"notes": notes})


def _sizes(value: dict[str, Any]) -> list[tuple[str, Size]]:
    """Return id and size of a plan's tasks; a flow of one's own may call something else a plan."""
    tasks = value.get("tasks")
    if not isinstance(tasks, list):
        return []
    rows = [t for t in tasks if isinstance(t, dict) and t.get("size") in get_args(Size) and t.get("id")]
    return [(str(t["id"]), t["size"]) for t in rows]
