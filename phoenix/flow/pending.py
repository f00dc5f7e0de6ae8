"""Open requests of a paused graph, and the commands that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph.types import Command, StateSnapshot
from pydantic import ValidationError

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.errors import ResumeRefused
from phoenix.flow.forms import check_decision


@dataclass(frozen=True)
class Pending:
    """One open request. A resume names its `interrupt_id`."""

    interrupt_id: str
    request: HumanRequest


def pending(state: StateSnapshot) -> list[Pending]:
    """Return the open requests of a graph's state, those inside subgraphs too."""
    found: dict[str, Pending] = {}
    for one in state.interrupts:
        try:
            found[one.id] = Pending(one.id, HumanRequest.model_validate(one.value))
        except ValidationError:
            continue  # an interrupt of somebody else's graph inside a step
    return list(found.values())


def answer(state: StateSnapshot, answers: Mapping[str, Decision | dict[str, Any]]) -> Command[Any]:
    """Return the command that resumes a graph with decisions by interrupt id.

    Raises:
        ResumeRefused: no interrupt is named, or one that is not pending.
        DomainInvalid: a decision does not fit its request.
    """
    if not isinstance(answers, Mapping) or not answers:
        raise ResumeRefused(hint="Give a mapping of interrupt ids to decisions.")
    waiting = {p.interrupt_id: p.request for p in pending(state)}
    for interrupt_id, decision in answers.items():
        request = waiting.get(interrupt_id)
        if request is None:
            raise ResumeRefused(
                f"No interrupt {interrupt_id} is pending.",
                hint=f"Pending: {', '.join(waiting) or 'none'}.",
            )
        if request.kind != "wait":
            check_decision(request, decision)
    return Command(resume={i: _as_json(d) for i, d in answers.items()})


def _as_json(decision: Decision | dict[str, Any]) -> dict[str, Any]:
    return decision.model_dump(mode="json") if isinstance(decision, Decision) else dict(decision)
