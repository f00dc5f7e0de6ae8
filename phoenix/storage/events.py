"""Queries on the event log."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.cleaning import clean_json
from phoenix.domain.run import Event
from phoenix.errors import NotFound
from phoenix.storage.database import transaction
from phoenix.storage.tables import events, projects

CHANNEL = "phoenix_events"
"""Notified at commit with `<project id>`."""


async def append(
    connection: AsyncConnection,
    project_id: UUID,
    kind: str,
    data: dict[str, Any],
    *,
    run_id: UUID | None = None,
) -> int:
    """Append an event and return its number.

    It holds the project's row until commit: that makes numbers gapless and their order that of commits,
    so append late in a transaction, and after locking any run.

    Raises:
        NotFound: there is no such project.
    """
    raised = (
        update(projects)
        .where(projects.c.id == project_id)
        .values(last_event=projects.c.last_event + 1)
        .returning(projects.c.last_event)
    )
    seq = (await connection.execute(raised)).scalar_one_or_none()
    if seq is None:
        raise NotFound(f"There is no project {project_id}.")
    await connection.execute(
        insert(events).values(project_id=project_id, seq=seq, run_id=run_id, kind=kind, data=clean_json(data))
    )
    await connection.execute(select(func.pg_notify(CHANNEL, str(project_id))))
    return int(seq)


class EventRows:
    """The events of all projects, for readers, and of one run, for its steps."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def read(self, project_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return stored events in order."""
        query = (
            select(events)
            .where(events.c.project_id == project_id, events.c.seq > after)
            .order_by(events.c.seq)
            .limit(limit)
        )
        async with transaction(self._database) as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [Event(**row) for row in rows]

    async def append(
        self, project_id: UUID, kind: str, data: dict[str, Any], *, run_id: UUID | None = None
    ) -> int:
        """Append an event in a transaction of its own."""
        async with transaction(self._database) as connection:
            return await append(connection, project_id, kind, data, run_id=run_id)


class RunEvents:
    """The port `Events` of one run."""

    def __init__(self, rows: EventRows, project_id: UUID, run_id: UUID) -> None:
        self._rows = rows
        self._project_id = project_id
        self._run_id = run_id

    async def emit(self, kind: str, **data: Any) -> None:
        await self._rows.append(self._project_id, kind, data, run_id=self._run_id)
