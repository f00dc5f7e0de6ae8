"""What a run asks of a person, and what the person decides."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from phoenix.domain.frozen import Frozen
from phoenix.domain.gates import DecidingRole, GateRule

HumanKind = Literal["approve", "ask", "wait"]
"""approve: decide on a value; ask: give a typed answer; wait: not for people, child runs end it."""

Verdict = Literal["approve", "edit", "reject", "respond"]

DecidedHow = Literal["", "person", "policy", "deadline"]
"""By people, since nobody is asked at this gate, or since nobody decided in time; empty while open."""


class HumanRequest(Frozen):
    """The value of a flow's interrupt."""

    kind: HumanKind
    name: str
    """The gate: `spec`, `plan`, `delivery`, `questions`, ..."""
    value_digest: str
    """Of `value`; a decision is bound to it."""
    value: dict[str, Any]
    """What is decided on, as JSON."""
    answer_schema: dict[str, Any] = {}
    """JSON Schema of an edited value or an answer."""
    verdicts: list[Verdict] = []
    notes: dict[str, Any] = {}
    """What people may want to know beside it, and do not decide on: of a plan its `forecast`."""


class Decision(Frozen):
    """What somebody decided.

    `value` goes with edit and respond, `reason` with reject.
    """

    verdict: Verdict
    value: dict[str, Any] | None = None
    reason: str = Field(default="", max_length=20_000)

    @model_validator(mode="after")
    def _is_complete(self) -> Decision:
        if self.verdict == "reject" and not self.reason.strip():
            raise ValueError("reason: a rejection needs a reason, which the agent reads")
        if self.verdict in ("edit", "respond") and self.value is None:
            raise ValueError(f"value: {self.verdict} needs a value")
        return self


class Vote(Frozen):
    """What one person said on an approval. Of those before an escalation none counts after it."""

    voter: str
    voter_id: UUID | None = None
    """None for who decides on the service's own machine."""
    verdict: Verdict
    reason: str = ""
    value_digest: str
    """Of what was looked at."""
    escalated: bool = False
    at: datetime


class GateDecision(Frozen):
    """How a gate was decided, by whom and why: what stays in the evidence."""

    gate: str
    key: str = ""
    """Of the run that asked; empty for the project's own."""
    verdict: Verdict
    by: str
    how: DecidedHow = "person"
    reason: str = ""
    value_digest: str
    """Of what was decided on."""
    votes: list[Vote] = []
    at: datetime


class Needs(Frozen):
    """Who is needed for an approval to be decided."""

    role: DecidingRole
    users: list[str] = []
    """Approvers who may as well."""
    votes: int
    """How many more must approve."""


class Approval(Frozen):
    """An open or decided request of a run."""

    id: UUID
    project_id: UUID
    run_id: UUID
    interrupt_id: str
    request: HumanRequest
    decision: Decision | None = None
    decided_by: str = ""
    decided_how: DecidedHow = ""
    rule: GateRule = GateRule()
    """As it was when it was asked; later changes of rules are for later approvals."""
    deadline_at: datetime | None = None
    escalated_at: datetime | None = None
    created_at: datetime
    decided_at: datetime | None = None
    votes: list[Vote] = []

    @property
    def approvals(self) -> int:
        """How many people have approved, of those whose votes count."""
        escalated = self.escalated_at is not None
        return sum(v.verdict == "approve" and v.escalated == escalated for v in self.votes)

    def needs(self) -> Needs:
        """Return who is needed."""
        escalation = self.rule.escalation if self.escalated_at is not None else None
        left = max(0, self.rule.quorum - self.approvals) if self.decision is None else 0
        return Needs(
            role=escalation.role if escalation else self.rule.role,
            users=list(escalation.users) if escalation else [],
            votes=left,
        )
