"""Watches how a new version does beside the old ones."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.upgrade import Outcomes, Verdict, compare
from phoenix.storage import upgrades
from phoenix.storage.database import transaction


@dataclass(frozen=True)
class UpgradeWatch:
    """Compares a version with others in a database.

    Args:
        database: Where the runs are, of all organisations.
        version: The new one.
        old: Versions to compare it with; every other one when empty.
        seconds: How far back to look.
        least: Runs that must have ended on both sides before a version is called healthy.
    """

    database: AsyncEngine
    version: str
    old: tuple[str, ...] = ()
    seconds: float = 1800.0
    least: int = 30

    async def look(self) -> Verdict:
        """Return how the new version does now.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with transaction(self.database) as connection:
            found = await upgrades.outcomes(connection, seconds=self.seconds)
        new = found.pop(self.version, Outcomes())
        others = {name: did for name, did in found.items() if not self.old or name in self.old}
        return compare(self.version, new, sorted(others), sum(others.values(), Outcomes()), least=self.least)
