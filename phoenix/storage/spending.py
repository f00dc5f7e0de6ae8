"""What a project had spent at any moment."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.tables import model_calls


@dataclass(frozen=True)
class Spending:
    """Model calls in order of their end: when, and how many USD all up to then came to."""

    times: list[datetime]
    totals: list[Decimal | None]

    def until(self, moment: datetime) -> tuple[int, Decimal | None]:
        """Return how many calls had ended, and their cost; None when the price of one is unknown."""
        count = bisect_right(self.times, moment)
        return count, self.totals[count - 1] if count else Decimal(0)


async def of_project(connection: AsyncConnection, project_id: UUID) -> Spending:
    """Return the spending of a project."""
    query = (
        select(model_calls.c.at, model_calls.c.cost_usd)
        .where(model_calls.c.project_id == project_id)
        .order_by(model_calls.c.at, model_calls.c.id)
    )
    times: list[datetime] = []
    totals: list[Decimal | None] = []
    total: Decimal | None = Decimal(0)
    for row in await connection.execute(query):
        total = None if total is None or row.cost_usd is None else total + row.cost_usd
        times.append(row.at)
        totals.append(total)
    return Spending(times, totals)
