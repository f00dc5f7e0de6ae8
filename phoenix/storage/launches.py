"""Launches on behalf of somebody, behind the wall between organisations: those of one moment go together.

Row-level security looks for a project's row before it takes others of it, so a launch is two statements
there, and its audit row a third; fifty requests at once share them, and their commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.identity import Principal
from phoenix.storage import audit, organisations, tenancy, transitions
from phoenix.storage.database import transaction
from phoenix.storage.direct import Together
from phoenix.storage.transitions import Launched

AT_ONCE = 2
"""Transactions of launches under way in a process: while one is committed, the next is prepared."""


@dataclass(frozen=True)
class Behalf:
    """For whom something is done, and what the audit log says of it."""

    who: Principal
    request_id: str = ""
    noted: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A launch that somebody asked for."""

    launched: Launched
    behalf: Behalf

    def entry(self) -> dict[str, Any]:
        """Return its row of the audit log."""
        behalf, project = self.behalf, self.launched.project
        noted = {"title": project.title, **behalf.noted}
        return audit.entry(behalf.who, "project.launch", project.id, request_id=behalf.request_id, **noted)


class Launches:
    """Stores launches with their audit rows.

    Args:
        database: Where.
    """

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database
        self._asked: Together[Asked, bool | None] = Together(self._store, at_once=AT_ONCE)

    async def __call__(self, asked: Asked) -> bool | None:
        """Store a launch; return whether its run has a place, and so a job.

        Returns:
            None where nothing was stored: the organisation has quotas, and each launch is counted alone.
        """
        return await self._asked(asked)

    async def _store(self, some: list[Asked]) -> Sequence[bool | Exception | None]:
        by_organisation: dict[UUID, list[Asked]] = {}
        for asked in some:
            by_organisation.setdefault(asked.behalf.who.organisation_id, []).append(asked)
        stored = await asyncio.gather(*(self._of_one(its) for its in by_organisation.values()))
        found = {run: outcome for its in stored for run, outcome in its.items()}
        return [found[asked.launched.run.id] for asked in some]

    async def _of_one(self, some: list[Asked]) -> dict[UUID, bool | Exception | None]:
        """Store an organisation's; where one of them spoils the statement for all, each goes alone."""
        try:
            return await self._together(some)
        except DBAPIError as error:
            if len(some) == 1:
                cause = error.orig if isinstance(error.orig, psycopg.Error) else error
                return {some[0].launched.run.id: cause}
        except Exception as error:  # noqa: BLE001 whatever it is, whoever waits must hear of it
            return dict.fromkeys((asked.launched.run.id for asked in some), error)
        return {run: outcome for asked in some for run, outcome in (await self._of_one([asked])).items()}

    async def _together(self, some: list[Asked]) -> dict[UUID, bool | Exception | None]:
        organisation_id = some[0].behalf.who.organisation_id
        async with transaction(self._database) as connection:
            await tenancy.enter(connection, organisation_id)
            if await organisations.lock_quotas(connection, organisation_id) is not None:
                return dict.fromkeys(asked.launched.run.id for asked in some)
            placed = await transitions.launch_all(connection, [asked.launched for asked in some])
            await audit.note_all(connection, [asked.entry() for asked in some])
        return dict(placed)
