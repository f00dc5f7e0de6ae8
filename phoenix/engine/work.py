"""A transaction on somebody's behalf: what is changed, who did it, and an answer kept for repeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.identity import Principal
from phoenix.errors import PhoenixError
from phoenix.storage import audit, idempotency, tenancy
from phoenix.storage.database import transaction
from phoenix.storage.idempotency import Kept

log = structlog.get_logger(__name__)
T = TypeVar("T")

ALIVE_SECONDS = 5.0
"""So often a transaction that waits says that it is there: the database ends those that say nothing."""

__all__ = ["Kept", "Work", "joined", "open_work", "wall_of", "walled"]


@dataclass(frozen=True)
class Work:
    """One open transaction of one request."""

    connection: AsyncConnection
    who: Principal
    request_id: str = ""
    after: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    """What follows its commit. Nothing depends on it: the sweep makes up for what a crash leaves out."""

    async def during(self, doing: Coroutine[Any, Any, T]) -> T:
        """Wait for what takes long in transactions of its own, and keep this one alive meanwhile."""
        task = asyncio.ensure_future(doing)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=ALIVE_SECONDS)
                await self.connection.execute(text("SELECT 1"))
        finally:
            task.cancel()
            await asyncio.wait({task})
        return task.result()

    async def note(self, action: str, object_id: object = "", **data: object) -> None:
        """Write to the audit log what is done in this transaction: `<noun>.<verb>`."""
        await audit.note(self.connection, self.who, action, object_id, request_id=self.request_id, **data)

    async def repeated(self, key: str, request_hash: bytes) -> Kept | None:
        """Claim an idempotency key, or return the answer that the same request got before.

        Raises:
            KeyReused: the key was used for another request.
        """
        return await idempotency.begin(self.connection, self.who, key, request_hash)

    async def keep(self, key: str, answer: Kept) -> None:
        """Keep the answer under the key that this request has claimed."""
        await idempotency.keep(self.connection, self.who, key, answer)


@asynccontextmanager
async def open_work(
    database: AsyncEngine, find: Callable[[AsyncConnection], Awaitable[Principal]], request_id: str = ""
) -> AsyncIterator[Work]:
    """Open the transaction of a request: committed at the end of the body, rolled back on an error.

    Args:
        database: Where.
        find: Tells, within the transaction, who makes the request; from then on it is theirs.
        request_id: For the audit log.
    """
    async with transaction(database) as connection:
        work = Work(connection, await find(connection), request_id)
        yield work
    for follow in work.after:
        try:
            await follow()
        except PhoenixError as error:
            log.warning("work_not_followed", error=error.code, message=error.message)


async def wall_of(database: AsyncEngine) -> tenancy.Wall:
    """Return how the wall between organisations stands in a database."""
    async with transaction(database) as connection:
        return await tenancy.standing(connection)


@asynccontextmanager
async def joined(database: AsyncEngine, work: Work | None) -> AsyncIterator[AsyncConnection]:
    """Give the transaction of a request, or one of its own where there is no request."""
    if work is not None:
        yield work.connection
        return
    async with transaction(database) as connection:
        yield connection


@asynccontextmanager
async def walled(
    database: AsyncEngine, who: Principal, work: Work | None = None
) -> AsyncIterator[AsyncConnection]:
    """Give the transaction of a request, or one of its own; it sees the caller's organisation only."""
    if work is not None:
        yield work.connection
        return
    async with transaction(database) as connection:
        await tenancy.enter(connection, who.organisation_id)
        yield connection
