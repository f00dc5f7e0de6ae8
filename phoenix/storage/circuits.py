"""Circuit breakers of models, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Row, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.circuit import Circuit
from phoenix.storage.database import transaction
from phoenix.storage.tables import CLOCK, circuits

COLUMNS = [circuits.c[field.name] for field in fields(Circuit)]
NOW = func.extract("epoch", CLOCK)


class CircuitRows:
    """The port `Circuits` over rows; times are the database's."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def read(self) -> tuple[float, dict[str, Circuit]]:
        """Return the database's time, and the circuits that have rows."""
        # One row at least, so that the time comes with none as well.
        query = select(NOW.label("now"), circuits).select_from(
            select(literal(1)).subquery().outerjoin(circuits, literal(True))
        )
        async with transaction(self._database) as connection:
            rows = (await connection.execute(query)).all()
        return float(rows[0].now), {row.name: _circuit(row) for row in rows if row.name is not None}

    async def change(
        self, name: str, change: Callable[[Circuit, float], Circuit]
    ) -> tuple[float, Circuit, Circuit]:
        """Change a circuit with its row locked."""
        async with transaction(self._database) as connection:
            now, before = await _locked(connection, name)
            after = change(before, now)
            mine = circuits.c.name == name
            if after == Circuit():
                await connection.execute(delete(circuits).where(mine))
            elif after != before:
                await connection.execute(update(circuits).where(mine).values(**asdict(after)))
        return now, before, after


async def _locked(connection: AsyncConnection, name: str) -> tuple[float, Circuit]:
    """Return the time and a circuit whose row nobody else changes until the transaction ends."""
    new = insert(circuits).values(name=name)
    # An update that changes nothing locks the row, also one that was not there a moment ago.
    locking = new.on_conflict_do_update(
        index_elements=[circuits.c.name], set_={"failures": circuits.c.failures}
    )
    row = (await connection.execute(locking.returning(NOW.label("now"), *COLUMNS))).one()
    return float(row.now), _circuit(row)


def _circuit(row: Row[Any]) -> Circuit:
    return Circuit(**{field.name: getattr(row, field.name) for field in fields(Circuit)})
