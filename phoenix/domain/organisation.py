"""An organisation, and what it may use."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from phoenix.domain.budget import OrganisationLimits
from phoenix.domain.frozen import Frozen
from phoenix.domain.run import Usage

UsageBy = Literal["project", "agent", "model", "day", "task"]


class Organisation(Frozen):
    """Who shares projects, members and quotas. None stands for no such limit."""

    id: UUID
    name: str
    max_runs: int | None
    """Of its runs so many are worked on at once; more wait."""
    max_projects: int | None
    """Of its projects so many may be unfinished at once; more are refused."""
    max_usd_day: Decimal | None
    """USD that model calls may cost from midnight to midnight (UTC); then no project is launched, and runs
    wait for the next day."""
    limits: OrganisationLimits = OrganisationLimits()
    """What model calls may use beside that."""
    version: int
    created_at: datetime


class UsageLine(Frozen):
    """What model calls used for one project, agent, model or day (UTC)."""

    key: str
    usage: Usage
