"""Runs, their usage of models, and the events they leave."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from phoenix.domain.frozen import Frozen
from phoenix.domain.project import Path

RunStatus = Literal["pending", "running", "waiting", "success", "failed", "cancelled"]
FINISHED: frozenset[str] = frozenset({"success", "failed", "cancelled"})


class RunError(Frozen):
    """Why a run failed, as its user reads it."""

    code: str
    category: str
    message: str
    step: str = ""


class Usage(Frozen):
    """What model calls used. Tokens are counts; cost is USD, None when the price is unknown."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = Decimal(0)

    def plus(self, other: Usage) -> Usage:
        """Return the sum; an unknown cost stays unknown."""
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=(self.cost_usd or Decimal(0)) + (other.cost_usd or Decimal(0)) if known else None,
        )


class ModelCall(Frozen):
    """One answered model call. `cost_usd` is None when the price is unknown."""

    agent: str
    task: str = ""
    model: str
    """As `provider:model`; in a replay the one that was recorded."""
    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cost_usd: Decimal | None = None
    recorded: bool = False
    """It was replayed: the figures are those of the recording, and nothing was spent."""
    seconds: float = Field(default=0.0, ge=0)


class Project(Frozen):
    """A requirement on its way. `options` are the launch options, without secrets."""

    id: UUID
    title: str
    requirement: str
    repository: str | None = None
    model: str
    approvals: str = "ask"
    """`ask`, `auto`, or a comma list of the gates a person decides; the others pass by themselves."""
    path: Path = "auto"
    budget_usd: Decimal | None = None
    created_at: datetime


class Run(Frozen):
    """One thread of work. The row this mirrors is the truth about it."""

    id: UUID
    """Also the thread's id: a run has one thread and a thread one run."""
    project_id: UUID
    parent_id: UUID | None = None
    key: str = ""
    """Names a child among its siblings, such as `build/1/T3`; empty for a project's own run."""
    flow: str
    status: RunStatus
    attempt: int = Field(default=0, ge=0)
    error: RunError | None = None
    output: dict[str, Any] | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Event(Frozen):
    """Something that happened, numbered without gap per project from 1."""

    seq: int
    project_id: UUID
    run_id: UUID | None = None
    kind: str
    """`<noun>_<verb in the past>`, such as `step_started`."""
    data: dict[str, Any] = {}
    at: datetime
