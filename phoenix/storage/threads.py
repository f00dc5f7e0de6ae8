"""Queries on threads."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.run import Thread
from phoenix.errors import NotFound
from phoenix.storage.tables import CLOCK, threads


async def lock(connection: AsyncConnection, thread_id: UUID) -> Thread:
    """Return a thread, locked until the transaction ends; take it before its runs.

    Raises:
        NotFound: there is none of that id.
    """
    touched = update(threads).where(threads.c.id == thread_id).values(updated_at=CLOCK).returning(threads)
    row = (await connection.execute(touched)).one_or_none()
    if row is None:
        raise NotFound(f"There is no thread {thread_id}.")
    return Thread.model_validate(dict(row._mapping))


async def get(connection: AsyncConnection, thread_id: UUID) -> Thread:
    """Return a thread.

    Raises:
        NotFound: there is none of that id.
    """
    row = (await connection.execute(select(threads).where(threads.c.id == thread_id))).one_or_none()
    if row is None:
        raise NotFound(f"There is no thread {thread_id}.")
    return Thread.model_validate(dict(row._mapping))
