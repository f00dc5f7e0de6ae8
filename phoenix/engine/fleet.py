"""The whole installation, for its operators: of no organisation, and with nothing that names one."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.fleet import Fleet
from phoenix.storage import fleet
from phoenix.storage.database import transaction


class FleetWatch:
    """Looks at runs, workers and approvals of all organisations."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def look(self) -> Fleet:
        """Return how the installation stands.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with transaction(self._database) as connection:
            return await fleet.look(connection)

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections to the database this process has, and how many are in use."""
        pool = self._database.pool
        in_use = int(getattr(pool, "checkedout", int)())
        return in_use + int(getattr(pool, "checkedin", int)()), in_use
