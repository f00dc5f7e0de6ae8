"""What is handed over to a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phoenix.domain.evidence import Build, Evidence
from phoenix.domain.forecast import TaskCost
from phoenix.domain.plan import Plan
from phoenix.domain.run import Usage
from phoenix.domain.spec import Spec


@dataclass(frozen=True)
class Parcel:
    """All that a delivery is made of."""

    title: str
    requirement: str
    spec: Spec
    plan: Plan | None
    build: Build
    evidence: Evidence
    log: Sequence[tuple[str, str]]
    """(id, subject) of the delivered commits, oldest first."""
    usage: Usage
    costs: Sequence[TaskCost] = ()
    """Of each task, beside what was expected."""
