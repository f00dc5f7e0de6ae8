"""What an organisation may use: counted where a project is launched, in that transaction."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.frozen import Frozen
from phoenix.domain.identity import Principal
from phoenix.domain.organisation import Organisation
from phoenix.engine.work import Work, walled
from phoenix.errors import QuotaReached
from phoenix.storage import budgets, organisations

AGAIN_SECONDS = 60.0
"""When to come again where nobody knows when a project will end."""


class Used(Frozen):
    """What an organisation uses of its quotas now."""

    projects: int
    """Unfinished ones."""
    usd_today: Decimal
    """Of model calls whose price is known, since midnight (UTC)."""


async def check_quotas(connection: AsyncConnection, organisation_id: UUID) -> None:
    """Check that an organisation may have one more unfinished project.

    Until the transaction ends, others that ask wait: however many are launched at once, no quota is passed.

    Raises:
        QuotaReached: it may not.
    """
    quotas = await organisations.lock_quotas(connection, organisation_id)
    if quotas is None:
        return
    most, usd = quotas
    if most is not None and await organisations.unfinished(connection, organisation_id) >= most:
        raise QuotaReached(
            f"Your organisation may have {most} unfinished projects at once, and has them.",
            field="max_projects",
            after_seconds=AGAIN_SECONDS,
            hint="Wait until one ends, cancel one, or ask an administrator for more.",
        )
    if usd is not None:
        spent, left = await organisations.spent_today(connection, organisation_id)
        if spent >= usd:
            raise QuotaReached(
                f"Your organisation has spent {spent:f} USD today, of {usd:f}.",
                field="max_usd_day",
                after_seconds=left.total_seconds(),
                hint="The day ends at midnight (UTC); an administrator can raise the quota.",
            )


class Organisations:
    """An organisation as its members see it."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def read(self, who: Principal, *, work: Work | None = None) -> tuple[Organisation, Used]:
        """Return the caller's organisation, and what it uses of its quotas."""
        async with walled(self._database, who, work) as connection:
            found = await organisations.get(connection, who.organisation_id)
            spent, _ = await organisations.spent_today(connection, who.organisation_id)
            count = await organisations.unfinished(connection, who.organisation_id)
        return found, Used(projects=count, usd_today=spent)

    async def change(
        self, who: Principal, *, version: int | None, work: Work, **values: object
    ) -> Organisation:
        """Change the quotas of the caller's organisation.

        Raises:
            VersionConflict: somebody else has changed it.
        """
        changed = await organisations.change(work.connection, who.organisation_id, version=version, **values)
        await budgets.let_look(work.connection, who.organisation_id)
        return changed
