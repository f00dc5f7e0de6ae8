"""What a run asks of a person, and what the person decides."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from phoenix.domain.frozen import Frozen

HumanKind = Literal["approve", "ask", "wait"]
"""approve: decide on a value; ask: give a typed answer; wait: not for people, child runs end it."""

Verdict = Literal["approve", "edit", "reject", "respond"]


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


class Approval(Frozen):
    """An open or decided request of a run."""

    id: UUID
    project_id: UUID
    run_id: UUID
    interrupt_id: str
    request: HumanRequest
    decision: Decision | None = None
    decided_by: str = ""
    created_at: datetime
    decided_at: datetime | None = None
