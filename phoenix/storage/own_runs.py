"""Projects' own runs, read for those who wait for their ends: many wait at once."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from phoenix.domain.run import Run
from phoenix.errors import NotFound
from phoenix.storage.direct import Direct, Together

_COLUMNS = ", ".join(f'r."{name}"' for name in Run.model_fields)
READ = f"""
SELECT {_COLUMNS} FROM unnest($1::uuid[]) WITH ORDINALITY AS g (project_id, n), LATERAL (
    SELECT * FROM runs o WHERE o.project_id = g.project_id AND o.parent_id IS NULL AND NOT o.behind
    ORDER BY o.ordinal DESC LIMIT 1
) AS r ORDER BY g.n
"""  # noqa: S608 only names of our own are put in  # nosec B608


class OwnRuns:
    """Reads the own runs of projects, in one statement what is asked at once."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        self._reads: Together[UUID, Run] = Together(self._read)

    async def of(self, project_id: UUID) -> Run:
        """Return a project's own run: of those on its thread the latest that has begun or is next.

        Raises:
            NotFound: there is no such project.
        """
        return await self._reads(project_id)

    async def _read(self, project_ids: list[UUID]) -> Sequence[Run | Exception]:
        rows = await self._direct.fetch(READ, [project_ids])
        found = {
            run.project_id: run
            for run in (Run(**dict(zip(Run.model_fields, row, strict=True))) for row in rows)
        }
        return [found.get(key) or NotFound(f"There is no project {key}.") for key in project_ids]
