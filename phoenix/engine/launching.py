"""How a launch is stored: alone, with others that come at the same time, or in a request's transaction."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.engine.admission import Admission
from phoenix.engine.quotas import check_quotas
from phoenix.engine.work import Work
from phoenix.storage import audit, tenancy, transitions
from phoenix.storage.launches import Asked, Behalf, Launches
from phoenix.storage.transitions import Launched, Transitions

__all__ = ["Behalf", "Launching"]


class Launching:
    """Stores projects with their runs, events and jobs, each in one transaction.

    Args:
        database: Where.
        admission: Gives places to those that are held.
        moves: Launches that nobody asked for over HTTP.
    """

    def __init__(self, database: AsyncEngine, admission: Admission, moves: Transitions) -> None:
        self._admission = admission
        self._moves = moves
        self._launches = Launches(database)

    async def __call__(
        self, launched: Launched, *, work: Work | None = None, behalf: Behalf | None = None
    ) -> None:
        """Store a launch; its run has a job, or gets one as soon as there is a place.

        Args:
            launched: What is stored.
            work: The request's transaction, which it joins; the audit row there is the caller's.
            behalf: For whom, where there is no such transaction: the audit row is in the launch's own.

        Raises:
            QuotaReached: the organisation has as much as it may.
        """
        placed = None
        if behalf is not None:
            placed = await self._launches(Asked(launched, behalf))
        elif work is None:
            placed = await self._moves.launch(launched)
        if placed is None:
            await self._counted(launched, work, behalf)
        elif not placed:
            await self._admission.come({launched.run.organisation_id})

    async def _counted(self, launched: Launched, work: Work | None, behalf: Behalf | None) -> None:
        """Store a launch in a transaction that counts it against the organisation's quotas."""
        organisation_id = launched.run.organisation_id
        async with self._admission.transaction(work) as change:
            if behalf is not None:
                await tenancy.enter(change.connection, organisation_id)
            await check_quotas(change.connection, organisation_id)
            if not await transitions.launch(change.connection, launched):
                change.organisations.add(organisation_id)
            if behalf is not None:
                await audit.note_all(change.connection, [Asked(launched, behalf).entry()])
