"""Queries on the event log."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Text, bindparam, select, text
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.cleaning import clean_dump
from phoenix.domain.run import Event
from phoenix.errors import NotFound
from phoenix.storage.database import transaction
from phoenix.storage.tables import JSON, events
from phoenix.telemetry.redaction import mask_json

CHANNEL = "phoenix_events"
"""Notified at commit with `<project id> <kind> ...`; without kinds they may be any."""

_APPEND = text(
    """
WITH raised AS (
    UPDATE projects SET last_event = last_event + 1 WHERE id = :project RETURNING id, last_event
), stored AS (
    INSERT INTO events (project_id, seq, run_id, kind, data)
    SELECT id, last_event, :run, :kind, :data FROM raised
)
SELECT last_event, pg_notify(:channel, id || ' ' || :kind) FROM raised
"""
).bindparams(
    bindparam("project", type_=UUID_TYPE),
    bindparam("run", type_=UUID_TYPE),
    bindparam("kind", type_=Text),
    bindparam("channel", value=CHANNEL, type_=Text),
    bindparam("data", type_=JSON),
)


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
    values = {
        "project": project_id,
        "run": run_id,
        "kind": kind,
        "data": orjson.loads(mask_json(clean_dump(data))),
    }
    seq = (await connection.execute(_APPEND, values)).scalar_one_or_none()
    if seq is None:
        raise NotFound(f"There is no project {project_id}.")
    return int(seq)


async def last_step(connection: AsyncConnection, project_id: UUID, run_id: UUID) -> tuple[str, str]:
    """Return the step that a run began last, and the last error that one of its steps reported."""

    async def last(kind: str, key: str) -> str:
        query = (
            select(events.c.data[key].astext)
            .where(events.c.project_id == project_id, events.c.run_id == run_id, events.c.kind == kind)
            .order_by(events.c.seq.desc())
            .limit(1)
        )
        return (await connection.execute(query)).scalar_one_or_none() or ""

    return await last("step_started", "step"), await last("step_failed", "error")


class EventRows:
    """The events of all projects, for readers, and of one run, for its steps."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def read(
        self, project_id: UUID, *, after: int = 0, limit: int = 1000, kinds: Collection[str] = ()
    ) -> list[Event]:
        """Return stored events in order, of all kinds unless some are named."""
        query = select(events).where(events.c.project_id == project_id, events.c.seq > after)
        if kinds:
            query = query.where(events.c.kind.in_(kinds))
        query = query.order_by(events.c.seq).limit(limit)
        async with transaction(self._database) as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [Event(**row) for row in rows]

    async def append(
        self, project_id: UUID, kind: str, data: dict[str, Any], *, run_id: UUID | None = None
    ) -> int:
        """Append an event in a transaction of its own."""
        async with transaction(self._database) as connection:
            return await append(connection, project_id, kind, data, run_id=run_id)
