"""Who decides at a gate, how many of them, and what happens when nobody does."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from phoenix.domain.budget import Measure
from phoenix.domain.frozen import Frozen
from phoenix.domain.identity import Email

Level = Literal["manual", "ask", "guarded", "auto"]
DecidingRole = Literal["approver", "admin"]
WhenOver = Literal["approve", "reject", "defaults"]

QUESTIONS, MERGE, BUDGET = "questions", "merge", "budget"
"""Gates that Phoenix itself treats apart from others."""
OTHERS = "*"
"""Stands for every gate that a set of rules does not name."""

MAX_SECONDS = 90 * 86_400
Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
GateName = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9_.:/-]{1,60})$")]


class Escalation(Frozen):
    """Whom an approval goes to that waits for too long. From then on nobody below them decides it."""

    model_config = ConfigDict(strict=True)

    after_seconds: Seconds
    """Since it was asked."""
    role: DecidingRole = "admin"
    users: list[Email] = Field(default=[], max_length=20)
    """Approvers who may decide as well, whatever the role says."""


class GateRule(Frozen):
    """How one gate is decided. Times are seconds since the approval was asked."""

    model_config = ConfigDict(strict=True)

    ask: bool | None = None
    """Whether people are asked; None leaves that to the project's level."""
    role: DecidingRole = "approver"
    """The least that somebody must be to decide."""
    quorum: int = Field(default=1, ge=1, le=20)
    """How many people must approve. The first rejection decides; questions take one answer."""
    four_eyes: bool = False
    """Whoever launched the project, edited something in it, or sent it a message may not approve."""
    remind_seconds: list[Seconds] = Field(default=[], max_length=10)
    escalation: Escalation | None = None
    deadline_seconds: Seconds | None = None
    when_over: WhenOver | None = None
    """What is decided at the deadline; None takes the defaults of questions, and lets others wait on."""
    fixed: bool = False
    """Of an organisation's rule: it holds at every level, and no project has another."""

    @model_validator(mode="after")
    def _holds_together(self) -> GateRule:
        if self.when_over is not None and self.deadline_seconds is None:
            raise ValueError("when_over: it needs deadline_seconds")
        last = self.deadline_seconds or MAX_SECONDS + 1
        if any(seconds >= last for seconds in self.remind_seconds):
            raise ValueError("remind_seconds: reminders come before the deadline")
        if self.escalation is not None and self.escalation.after_seconds >= last:
            raise ValueError("escalation: it comes before the deadline")
        return self

    def times(self) -> list[int]:
        """Return when something happens if nobody decides, in seconds since the approval was asked."""
        late = [self.escalation.after_seconds] if self.escalation else []
        late += [self.deadline_seconds] if self.deadline_seconds else []
        return sorted([*self.remind_seconds, *late])


class GateRules(Frozen):
    """Rules by gate; `*` is for those that are not named."""

    model_config = ConfigDict(strict=True)

    gates: dict[GateName, GateRule] = Field(default={}, max_length=50)

    @model_validator(mode="after")
    def _fits(self) -> GateRules:
        asked = self.gates.get(QUESTIONS)
        if asked is not None and asked.when_over not in (None, "defaults"):
            raise ValueError(f"gates.{QUESTIONS}.when_over: questions can only take their defaults")
        return self

    def of(self, gate: str) -> GateRule | None:
        """Return the rule of a gate; None when there is none."""
        return self.gates.get(gate) or self.gates.get(OTHERS)


def rule_for(gate: str, project: GateRules, organisation: GateRules) -> GateRule:
    """Return the rule of a gate: a project's own before its organisation's, but for a fixed one."""
    theirs = organisation.of(gate)
    if theirs is not None and theirs.fixed:
        return theirs
    own = project.of(gate)
    if own is not None:
        return own.model_copy(update={"fixed": False})
    return theirs or GateRule()


READ_ONLY: dict[str, JsonValue] = {"readOnly": True}


class SpentBudget(Frozen):
    """A project, or a task of it, at its budget's end, and what becomes of it by an approval.

    As shown it gets as much again. People may give another amount, leave tasks out, or stop the work.
    """

    reason: str = Field(default="", json_schema_extra=READ_ONLY)
    scope: Literal["project", "task"] = Field(default="project", json_schema_extra=READ_ONLY)
    measure: Measure = Field(default="usd", json_schema_extra=READ_ONLY)
    budget_usd: Decimal | None = Field(default=None, json_schema_extra=READ_ONLY)
    spent_usd: Decimal | None = Field(default=None, json_schema_extra=READ_ONLY)
    """Of the whole project; None when a price is unknown."""
    limit: int | None = Field(default=None, json_schema_extra=READ_ONLY)
    """Of tokens, calls or seconds."""
    extend_by_usd: Decimal | None = Field(default=None, gt=0, max_digits=12, decimal_places=4)
    extend_by: int | None = Field(default=None, ge=1, le=2**53)
    """Of tokens, calls or seconds."""
    leave_out: list[str] = Field(default=[], max_length=50)
    """Tasks that are not built, with all that depend on them. The budget stays, unless it is extended too."""
    stop: bool = False
    """Build nothing more: what is done is merged, verified, and delivered if a person takes it."""


class LeftOut(Frozen):
    """What people took out of a project's scope, and why."""

    tasks: dict[str, str] = {}
    """Reason by task."""
    stopped: str = ""
    """Why nothing more is built; empty where the work goes on."""

    def why(self, task: str) -> str:
        """Return why a task that is not finished is left out; empty when it is not."""
        return self.tasks.get(task) or self.stopped
