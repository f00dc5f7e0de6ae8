"""The coding agent: a loop of model turns and tools over one worktree, until it submits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    ModelCallLimitMiddleware,
)
from langchain_core.messages import BaseMessage
from pydantic import TypeAdapter, ValidationError

from phoenix.agents.desk import Desk
from phoenix.agents.middleware import CodingState, EndsBySubmit, NoCircles, OneWriter, Pinned
from phoenix.agents.permitting import Permitted
from phoenix.agents.steering import Steered
from phoenix.agents.summarising import Summarised, sizes_for
from phoenix.domain.evidence import CriterionTests
from phoenix.ports import Caller, Ports

MAX_TURNS = 60
KEEP_RESULTS = 8
STEPS_A_TURN = 9

_declared = TypeAdapter(list[CriterionTests])


@dataclass(frozen=True)
class Submission:
    """What an agent handed in. `submitted` is False when it ran out of turns or only talked."""

    commit: str
    submitted: bool
    blocked: str
    """What stands in the way, in the agent's words; empty when nothing does."""
    summary: str
    declared: list[CriterionTests]


async def code(desk: Desk, caller: Caller, messages: Sequence[BaseMessage], *, start: str) -> Submission:
    """Let an agent work until it submits or its turns are used.

    Runs as a subgraph of the calling step: a checkpoint per turn and per tool call, each with the
    commit of the worktree. Called again after a crash it goes on from there.

    Args:
        desk: The tools and the worktree.
        caller: Who asks.
        messages: The system and the user message.
        start: The commit that the worktree starts from.
    """
    model = desk.ports.models.chat(caller)
    sizes = sizes_for(desk.ports.models.room(caller))
    middleware: list[AgentMiddleware[Any, Any, Any]] = [
        ModelCallLimitMiddleware(run_limit=MAX_TURNS, exit_behavior="end"),
        Summarised(desk, caller, sizes),
        ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=sizes.clear_at, keep=KEEP_RESULTS)]),
        EndsBySubmit(),
        Steered(desk.ports, caller),
        OneWriter(),
        NoCircles(),
        Permitted(desk, caller),
        Pinned(desk),
    ]
    agent = create_agent(
        model,
        desk.tools(),
        system_prompt=str(messages[0].content),
        context_schema=Ports,
        middleware=middleware,
        state_schema=CodingState,
        name=f"{caller.agent}_agent",
    )
    begin: Any = {"messages": list(messages[1:]), "commit": start}
    result: dict[str, Any] = await agent.ainvoke(
        begin, {"recursion_limit": MAX_TURNS * STEPS_A_TURN}, context=desk.ports
    )
    handed_in = result.get("submitted") or {}
    return Submission(
        commit=result["commit"],
        submitted=bool(handed_in),
        blocked=str(handed_in.get("blocked", "")).strip(),
        summary=str(handed_in.get("summary", "")) or _last_words(result["messages"]),
        declared=_tests(handed_in.get("tests")),
    )


def _last_words(messages: Sequence[BaseMessage]) -> str:
    """Return the last text of an agent that did not submit."""
    return next((str(m.text)[:2000] for m in reversed(messages) if m.type == "ai" and m.text), "")


def _tests(value: object) -> list[CriterionTests]:
    try:
        return _declared.validate_python(value or [])
    except ValidationError:
        return []  # its tests still run with the repository's; only the link to a criterion is lost
