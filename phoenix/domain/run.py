"""Runs, their usage of models, and the events they leave."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from phoenix.domain.budget import ProjectLimits
from phoenix.domain.frozen import Frozen
from phoenix.domain.gates import GateRules
from phoenix.domain.permissions import RuleSet
from phoenix.domain.project import Path

RunStatus = Literal["pending", "running", "waiting", "success", "failed", "cancelled"]
Multitask = Literal["reject", "interrupt", "rollback", "enqueue"]
"""What a new run does to an unfinished one of its thread."""

FINISHED: frozenset[str] = frozenset({"success", "failed", "cancelled"})

RUN_KEY, ATTEMPT_KEY = "__phoenix_run", "__phoenix_attempt"
"""Keys of a graph's configuration that say which run writes its checkpoints, and in which attempt.

Names with two underscores stay out of checkpoints' metadata; subgraphs inherit them.
"""

FRESH_KEY = "__phoenix_fresh"
"""Key of a graph's configuration that says that nobody has written to its thread yet."""


DEFAULT_ORGANISATION = UUID("00000000-0000-0000-0000-000000000001")
"""The organisation of everything that names no other."""

NO_THREAD = UUID(int=0)


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
    cached_tokens: int = 0
    """Of the input tokens, those that the provider had in its prompt cache."""

    def plus(self, other: Usage) -> Usage:
        """Return the sum; an unknown cost stays unknown."""
        known = self.cost_usd is not None and other.cost_usd is not None
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=(self.cost_usd or Decimal(0)) + (other.cost_usd or Decimal(0)) if known else None,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


class ModelCall(Frozen):
    """One model call that is paid. `cost_usd` is None when the price is unknown."""

    agent: str
    task: str = ""
    model: str
    """As `provider:model`; in a replay the one that was recorded."""
    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cost_usd: Decimal | None = None
    cached_tokens: int = Field(default=0, ge=0)
    """Of the input tokens, those that the provider had in its prompt cache."""
    recorded: bool = False
    """It was replayed: the figures are those of the recording, and nothing was spent."""
    cached: bool = False
    """It was answered from the response cache: no model was asked, and nothing was spent."""
    broken: bool = False
    """No whole answer came, which the provider may bill: the figures are the most that it can have used."""
    seconds: float = Field(default=0.0, ge=0)


class CallKey(Frozen):
    """Names one model call in one execution of one node: what is done again after a crash has it again."""

    step: str
    """LangGraph's namespace of the node that asks, which names its checkpoint."""
    request: str
    """Digest of the step and of all that is asked."""
    ordinal: int = Field(ge=0)
    """How often the same was asked before in this execution."""


class KeptAnswer(Frozen):
    """A model's answer as the journal keeps it, cleaned."""

    message: dict[str, Any]
    """The fields of LangChain's message."""
    model: str
    cost_usd: Decimal | None = None
    finish: str = ""
    unreadable: list[str] = []
    """Tools that were called with arguments that cannot be read."""
    accepted: bool = True
    """False for an answer that was paid and could not be used."""


class Project(Frozen):
    """A requirement on its way. `options` are the launch options, without secrets."""

    id: UUID
    title: str
    requirement: str
    repository: str | None = None
    model: str
    approvals: str = "ask"
    """A level (`manual`, `ask`, `guarded`, `auto`), or a comma list of the gates a person decides."""
    gate_rules: GateRules = GateRules()
    """Rules of its own; what they leave out is as in its organisation."""
    path: Path = "auto"
    budget_usd: Decimal | None = None
    limits: ProjectLimits = ProjectLimits()
    """What its model calls may use beside that, and those of each of its tasks."""
    forked_from: UUID | None = None
    """The project this one was forked from; None as well when that one is gone."""
    forked_at: str = ""
    """The checkpoint that it was forked at."""
    organisation_id: UUID = DEFAULT_ORGANISATION
    priority: int = 0
    """Among the projects of its organisation: the higher goes first."""
    max_runs: int | None = Field(default=None, ge=1)
    """How many of its runs may be worked on at once; None for any number."""
    paused_at: datetime | None = None
    pause_reason: str = ""
    archived_at: datetime | None = None
    created_by: UUID | None = None
    """Who launched it; None for what no user did."""
    rules: RuleSet | None = None
    """What its agents' tools may do, beside the rules of service and organisation."""
    traceparent: str = ""
    """Names the span that launched it, as W3C writes it; empty where nothing did that is traced."""
    version: int = 1
    """Raised by every change that a user makes to the project."""
    created_at: datetime


class Organisation(Frozen):
    """Whose projects share a place in the queue."""

    id: UUID
    name: str
    max_runs: int | None = Field(default=None, ge=1)
    """How many of its runs may be worked on at once; None for any number."""
    created_at: datetime


class Thread(Frozen):
    """A sequence of checkpoints; its runs come one after the other."""

    id: UUID
    project_id: UUID
    metadata: dict[str, Any] = {}
    created_at: datetime
    updated_at: datetime


class Run(Frozen):
    """One piece of work on a thread. The row this mirrors is the truth about it."""

    id: UUID
    project_id: UUID
    organisation_id: UUID = DEFAULT_ORGANISATION
    thread_id: UUID = NO_THREAD
    """Where its checkpoints are; left out, a thread of the run's own id."""
    parent_id: UUID | None = None
    key: str = ""
    """Names a child among its siblings, such as `build/1/T3`; empty for a project's own run."""
    flow: str
    queue: str = "default"
    """Which workers take it."""
    status: RunStatus
    multitask: Multitask = "enqueue"
    metadata: dict[str, Any] = {}
    crashes: int = Field(default=0, ge=0)
    """How often in a row a worker died with it in hand at the same place."""
    paused: bool = False
    """Its project is paused: nobody takes it."""
    behind: bool = False
    """It comes after an unfinished run of its thread."""
    base_checkpoint: str | None = None
    """The thread's checkpoint that it began from; None for a thread's first run."""
    attempt: int = Field(default=0, ge=0)
    error: RunError | None = None
    output: dict[str, Any] | None = None
    created_at: datetime
    queued_at: datetime | None = None
    """When it last became due."""
    taken_at: datetime | None = None
    """When a worker last took it."""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _own_thread(cls, given: Any) -> Any:
        if isinstance(given, dict) and "thread_id" not in given and "id" in given:
            return given | {"thread_id": given["id"]}
        return given


class Event(Frozen):
    """Something that happened, numbered without gap per project from 1."""

    seq: int
    project_id: UUID
    run_id: UUID | None = None
    kind: str
    """`<noun>_<verb in the past>`, such as `step_started`."""
    data: dict[str, Any] = {}
    at: datetime
