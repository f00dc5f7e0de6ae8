"""Admission: due runs get jobs within the limits of their project and organisation, and fairly.

Every transaction that makes a run due, or gives a place back, is one of `Admission.transaction`: whoever
is held and may come now is admitted right after it. What a crash leaves between the two, the sweep does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.run import Run
from phoenix.engine.queue import RunQueue
from phoenix.engine.work import Work, joined
from phoenix.storage import places, transitions
from phoenix.storage.database import transaction
from phoenix.storage.direct import Together
from phoenix.storage.places import Lane


class Change:
    """A transaction that makes runs due or gives places back."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.organisations: set[UUID] = set()

    async def due(self, run: Run) -> None:
        """Let a run, whose row this transaction holds, be worked on as soon as it has a place."""
        if not await transitions.enter(self.connection, run.id):
            self.organisations.add(run.organisation_id)

    def left(self, run: Run) -> None:
        """Say that a run has given its place back."""
        self.organisations.add(run.organisation_id)


class Admission:
    """Gives places."""

    def __init__(self, database: AsyncEngine, queue: RunQueue) -> None:
        self._database = database
        self._queue = queue
        self._comes: Together[UUID, None] = Together(self._come)

    @asynccontextmanager
    async def transaction(self, work: Work | None = None) -> AsyncIterator[Change]:
        """Open a transaction, or join a request's; after its commit, admit who may come because of it."""
        async with joined(self._database, work) as connection:
            change = Change(connection)
            yield change
            held = {o for o in change.organisations if await places.holds_back(connection, o)}
        if held and work is not None:
            work.after.append(partial(self.come, held))
        elif held:
            await self.come(held)

    async def come(self, organisations: Iterable[UUID]) -> None:
        """Admit runs that have just become due; those that many transactions made so are looked at once."""
        await asyncio.gather(*map(self._comes, organisations))

    async def _come(self, some: list[UUID]) -> Sequence[None]:
        await self.admit(set(some))
        return [None] * len(some)

    async def admit(self, organisations: set[UUID] | None = None) -> list[UUID]:
        """Admit held runs, of all organisations or of some, and return them."""
        async with transaction(self._database) as connection:
            found = await places.lanes(connection)
        return [
            run_id
            for lane in found
            if organisations is None or lane.organisation_id in organisations
            for run_id in await self._admit(lane)
        ]

    async def _admit(self, lane: Lane) -> list[UUID]:
        async with transaction(self._database) as connection:
            admitted = await places.admit(connection, lane)
            for place in admitted:
                await self._queue.put(connection, place)
        return [place.run_id for place in admitted]
