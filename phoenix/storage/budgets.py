"""Budgets: what calls hold before they are made, in all limits that they are under (docs/decisions/0029).

The rules are in functions of the database (migrations 0025 and 0030). What comes together goes together, so
many agents of one process lock the accounts of their organisation once and not one after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

import orjson
from sqlalchemy import ColumnElement, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.budget import Hold, Most, ProjectLimits, Spent, task_of
from phoenix.domain.run import Project, Run
from phoenix.errors import PhoenixError
from phoenix.ports import Caller
from phoenix.storage.direct import Direct, Row, Together
from phoenix.storage.tables import CLOCK, runs

LOOK_SECONDS = 60.0
"""How long a run that is under no limit believes so."""

HOLD = "SELECT n, outcome, choice, scope, measure, most, used FROM phoenix_hold_v2($1::jsonb)"
RELEASE = "DELETE FROM budget_holds WHERE id = $1::uuid RETURNING id"
ORGANISATION = "SELECT max_usd_day IS NOT NULL OR limits <> '{}' FROM organisations WHERE id = $1::uuid"


@dataclass(frozen=True)
class Wanted:
    """A call that asks for what it may use."""

    id: UUID
    run: Run
    task: str
    choices: Sequence[Most]
    seconds: float

    @property
    def order(self) -> tuple[str, str, str]:
        """Where it comes among others: all who hold lock accounts in this order."""
        return str(self.run.organisation_id), str(self.run.project_id), self.task

    def row(self, n: int) -> dict[str, object]:
        """Return it as the statement reads it."""
        return {
            "n": n,
            "id": self.id,
            "run": self.run.id,
            "organisation": self.run.organisation_id,
            "project": self.run.project_id,
            "task": self.task,
            "seconds": self.seconds,
            "choices": [
                {"n": place, "usd": None if most.usd is None else str(most.usd), "tokens": most.tokens}
                for place, most in enumerate(self.choices)
            ],
        }


class Holds:
    """Holds for all runs of a process."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        self._together: Together[Wanted, Hold | Spent | None] = Together(self._send)

    async def hold(self, wanted: Wanted) -> Hold | Spent | None:
        """Hold what a call may use; see `Budgets.hold`. Cancelled meanwhile, nothing stays held."""
        task = asyncio.ensure_future(self._together(wanted))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            with suppress(PhoenixError):
                await task
                await self.release(wanted.id)
            raise

    async def release(self, hold_id: UUID) -> None:
        """Release what is held under an id. Idempotent."""
        await self._direct.fetch(RELEASE, (hold_id,))

    async def limits_organisation(self, organisation_id: UUID) -> bool:
        """Tell whether an organisation has limits."""
        rows = await self._direct.fetch(ORGANISATION, (organisation_id,))
        return bool(rows and rows[0][0])

    async def _send(self, some: list[Wanted]) -> list[Hold | Spent | None]:
        places = sorted(range(len(some)), key=lambda place: some[place].order)
        items = [some[place].row(n) for n, place in enumerate(places, start=1)]
        rows = {row[0]: row for row in await self._direct.fetch(HOLD, (orjson.dumps(items).decode(),))}
        found: list[Hold | Spent | None] = [None] * len(some)
        for n, place in enumerate(places, start=1):
            found[place] = _found(some[place], rows[n])
        return found


def _found(wanted: Wanted, row: Row) -> Hold | Spent | None:
    _, outcome, choice, scope, measure, most, used = row
    over = (
        None
        if scope is None
        else Spent(
            scope=scope,
            measure=measure,
            limit=Decimal(most),
            used=Decimal(used),
            task=wanted.task if scope == "task" else "",
        )
    )
    if outcome == "wait":
        return None
    if outcome == "spent":
        return over
    return Hold(id=wanted.id, most=wanted.choices[choice or 0], lowered_by=over if choice else None)


class RunBudgets:
    """The port `Budgets` of one run.

    Args:
        holds: Those of this process.
        run: Which.
        project: Its project, as it was when the run was taken.
    """

    def __init__(self, holds: Holds, run: Run, project: Project) -> None:
        self._holds = holds
        self._run = run
        self._has_own = project.budget_usd is not None or project.limits != ProjectLimits()
        self._limited = False
        self._looked_at: float | None = None

    async def limited(self) -> bool:
        """Tell whether there is any limit; the organisation's are looked at once in `LOOK_SECONDS`."""
        if self._has_own:
            return True
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at > LOOK_SECONDS:
            self._limited = await self._holds.limits_organisation(self._run.organisation_id)
            self._looked_at = now
        return self._limited

    async def hold(self, caller: Caller, choices: Sequence[Most], *, seconds: float) -> Hold | Spent | None:
        """Hold what a call may use; one round trip, shared with other calls of this process."""
        wanted = Wanted(uuid4(), self._run, task_of(caller.task), choices, seconds)
        return await self._holds.hold(wanted)

    async def release(self, hold: Hold) -> None:
        """Release what was held for a call that was not answered."""
        await self._holds.release(hold.id)


NEXT_DAY: ColumnElement[datetime] = literal_column(
    "(date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC'"
)
"""When the next day (UTC) begins."""
SOME_TIME: ColumnElement[datetime] = literal_column("clock_timestamp() + interval '1 hour'")
"""When a run looks again that waits for somebody to raise a limit, though nobody told it of that."""


async def resumable(connection: AsyncConnection) -> list[UUID]:
    """Return the runs that wait and are to look again by now."""
    query = select(runs.c.id).where(runs.c.status == "waiting", runs.c.resume_at <= CLOCK, ~runs.c.wake)
    return list((await connection.execute(query)).scalars())


async def let_look(connection: AsyncConnection, organisation_id: UUID) -> None:
    """Let the runs of an organisation that wait for its budget look again at once."""
    waiting = (runs.c.organisation_id == organisation_id, runs.c.status == "waiting")
    query = update(runs).where(*waiting, runs.c.resume_at.is_not(None)).values(resume_at=CLOCK)
    await connection.execute(query)
