"""What it takes to start a project, and how one looks from outside."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import Field

from phoenix.domain.approval import Approval
from phoenix.domain.budget import ProjectLimits
from phoenix.domain.cleaning import clean_text
from phoenix.domain.frozen import Frozen
from phoenix.domain.gates import GateRules
from phoenix.domain.permissions import RuleSet
from phoenix.domain.project import MAX_REQUIREMENT_CHARS, Path, Request
from phoenix.domain.run import DEFAULT_ORGANISATION, Project, Run, Usage
from phoenix.engine.budget import check_budget
from phoenix.errors import RequirementInvalid

TITLE_CHARS = 80


class Launch(Frozen):
    """A project to start. `input` is JSON for the flow; without it the flow gets a `Request`."""

    requirement: str
    model: str
    repository: str | None = None
    approvals: str = "ask"
    """A level (`manual`, `ask`, `guarded`, `auto`), or a comma list of the gates a person decides."""
    gate_rules: GateRules = GateRules()
    """Rules of its own for its gates."""
    path: Path = "auto"
    budget_usd: Decimal | None = None
    limits: ProjectLimits = ProjectLimits()
    """What its model calls may use beside that, and those of each of its tasks."""
    organisation_id: UUID = DEFAULT_ORGANISATION
    priority: int = 0
    """Among the projects of its organisation: the higher goes first."""
    max_runs: int | None = Field(default=None, ge=1)
    """How many of its runs may be worked on at once."""
    created_by: UUID | None = None
    """Who launches it; None for what no user does."""
    rules: RuleSet | None = None
    """What its agents' tools may do, beside the rules of service and organisation."""
    flow: str = "develop"
    queue: str = ""
    """Which workers take its runs; empty takes the queue of the flow."""
    title: str = ""
    """Empty takes the requirement's first line."""
    input: Any = None

    def checked(self) -> Launch:
        """Return the launch with its title filled in.

        Raises:
            RequirementInvalid: the requirement is empty or too long.
            BudgetInvalid: the budget is not a positive amount.
        """
        text = clean_text(self.requirement).strip()
        if not text:
            raise RequirementInvalid(
                "The requirement is empty.", field="requirement", hint="Say what to build."
            )
        if len(text) > MAX_REQUIREMENT_CHARS:
            raise RequirementInvalid(
                f"The requirement has {len(text)} characters; {MAX_REQUIREMENT_CHARS} are allowed.",
                field="requirement",
                hint="Put details into files of the repository and refer to them.",
            )
        if self.budget_usd is not None:
            check_budget(self.budget_usd)
        title = self.title.strip() or text.splitlines()[0].lstrip("# ").strip() or text[:TITLE_CHARS]
        named = {"title": clean_text(title)[:TITLE_CHARS], "requirement": clean_text(self.requirement)}
        return self.model_copy(update=named)

    def flow_input(self) -> Any:
        """Return the JSON that the flow starts with."""
        if self.input is not None:
            return self.input
        request = Request(text=self.requirement, repository=self.repository, path=self.path)
        return request.model_dump(mode="json")


class Overview(Frozen):
    """A project at a glance."""

    project: Project
    run: Run
    """The project's own run."""
    children: list[Run] = []
    approvals: list[Approval] = []
    """Open ones, oldest first."""
    usage: Usage = Usage()
    artifacts: dict[str, dict[str, Any]] = {}
    """The latest of each kind (`spec`, `plan`, `evidence`, `delivery`, ...), as JSON."""


class Listed(Frozen):
    """A project in a list."""

    project: Project
    run: Run
    usage: Usage
    waiting_for: list[str] = []
    """The gates that people are asked to decide."""
