"""What upkeep did, or would do: migrations and what was removed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from phoenix.domain.frozen import Frozen


class Migrated(Frozen):
    """How a schema stands, or what was done to it. Revisions are None where there is no schema."""

    before: str | None
    after: str | None
    queue: list[str] = []
    """The queue's files that were applied."""
    waiting: list[str] = []
    """What is left to do: revisions, and files of the queue."""
    is_needed: bool = False
    """This Phoenix cannot work before it is done; else it removes what older ones still need."""
    reason: str = ""
    """Why something is left."""


class Pruned(Frozen):
    """What went of one project."""

    project_id: UUID
    title: str
    finished_at: datetime
    database_bytes: int = 0
    disk_bytes: int = 0


class UpkeepReport(Frozen):
    """What went in all, or would go."""

    projects: list[Pruned] = []
    environments: int = 0
    environment_bytes: int = 0
    jobs: int = 0
    """Ended jobs of the queue."""
    effects: int = 0
    """Effects of pruned projects that are done, or were given up."""
    forks: int = 0
    """Copies for forks that were never made."""
    has_more: bool = False
    """More is due than one request does."""

    @property
    def total_bytes(self) -> int:
        return self.environment_bytes + sum(p.database_bytes + p.disk_bytes for p in self.projects)
