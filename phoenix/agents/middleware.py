"""What surrounds the coding agent's loop: one writer a turn, pinned commits, limits, no circles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Required

from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain.agents.middleware.types import hook_config
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.runtime import Runtime
from langgraph.types import Command

from phoenix.agents.desk import WRITERS, Desk
from phoenix.agents.messages import messages_channel
from phoenix.domain.cleaning import clean_text
from phoenix.errors import DomainInvalid, PathRefused
from phoenix.telemetry import tracing
from phoenix.telemetry.redaction import mask

Handler = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]

SAME_CALL_LIMIT = 3
NUDGES = 3


def _latest(_old: str, new: str) -> str:
    return new


class CodingState(AgentState[Any]):
    """The agent's messages and the commit that its worktree stands at."""

    messages: Required[Annotated[list[AnyMessage], messages_channel()]]
    commit: Annotated[str, _latest]
    submitted: dict[str, Any]
    heard: dict[str, Any]
    """`project`, and the number `seq` up to which its messages are in the conversation."""


def calls_of_turn(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls of the latest model turn."""
    for message in reversed(state["messages"]):
        if isinstance(message, AIMessage):
            return [dict(call) for call in message.tool_calls]
    return []


class OneWriter(AgentMiddleware[CodingState, Any, Any]):
    """Let one call that can write run per turn, alone; defer what would race with it.

    When a turn begins with a reading call all its reading calls run; when it begins with a writing
    one only that runs. So a turn has one outcome, whatever order its calls would have run in.
    """

    state_schema = CodingState

    async def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        """Run the call, or answer that it was deferred."""
        calls = calls_of_turn(request.state)
        first = calls[0] if calls else request.tool_call
        writing = request.tool_call["name"] in WRITERS
        if request.tool_call["id"] != first["id"] and (writing or first["name"] in WRITERS):
            return _answer(
                request, "Deferred: a call that changes something runs alone in its turn. Call it again."
            )
        return await handler(request)


class Pinned(AgentMiddleware[CodingState, Any, Any]):
    """Tie the worktree to the checkpoint: restore it before a call, snapshot it after one that writes.

    The commit is part of the call's own state update, so result and code share a checkpoint, and a
    call that is repeated after a crash starts from the same files.
    """

    state_schema = CodingState

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk

    async def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        """Run the call on the pinned commit."""
        with tracing.tool(request.tool_call["name"]):
            return await self._pinned(request, handler)

    async def _pinned(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        desk, name = self.desk, request.tool_call["name"]
        await desk.stand_at(request.state["commit"])
        desk.commit = request.state["commit"]
        # Those that ran: one that was deferred or not permitted says nothing of the work.
        desk.refused = sum(
            m.name == "submit" and m.status != "error"
            for m in request.state["messages"]
            if isinstance(m, ToolMessage)
        )
        try:
            result = await handler(request)
        except (PathRefused, DomainInvalid) as error:
            result = _answer(request, f"Refused: {error}")
        if not isinstance(result, ToolMessage):
            return result
        result = result.model_copy(update={"content": mask(clean_text(str(result.content)))})
        await desk.ports.events.emit(
            "tool_called",
            tool=name,
            arguments=_short(request.tool_call["args"]),
            result=str(result.content)[-300:],
        )
        if name not in WRITERS:
            return result
        commit = await desk.tree.snapshot(f"{name}")
        update: dict[str, Any] = {"messages": [result], "commit": commit}
        if name == "submit" and result.status != "error" and desk.accepted:
            update["submitted"] = dict(request.tool_call["args"])
        return Command(update=update)


class NoCircles(AgentMiddleware[CodingState, Any, Any]):
    """Refuse a call that was made with the same arguments and the same code several times."""

    state_schema = CodingState

    async def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        """Run the call unless it goes in circles."""
        wanted = (request.tool_call["name"], str(request.tool_call["args"]))
        same = 0
        for message in reversed(request.state["messages"]):
            if not isinstance(message, AIMessage) or not message.tool_calls:
                continue
            if (message.tool_calls[0]["name"], str(message.tool_calls[0]["args"])) != wanted:
                break
            same += 1
        if same > SAME_CALL_LIMIT:
            return _answer(
                request,
                f"Refused: you made this same call {same - 1} times already and nothing changed in "
                "between. Read the last results again and do something else, or submit and say what "
                "stands in the way.",
            )
        return await handler(request)


class EndsBySubmit(AgentMiddleware[CodingState, Any, Any]):
    """End the loop when something was submitted; remind a model that only talks."""

    state_schema = CodingState

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: CodingState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Stop once there is a submission."""
        return {"jump_to": "end"} if state.get("submitted") else None

    @hook_config(can_jump_to=["model"])
    async def aafter_model(self, state: CodingState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Ask for a tool call where there was none."""
        last = state["messages"][-1]
        if not isinstance(last, AIMessage) or last.tool_calls:
            return None
        said = sum(1 for m in state["messages"] if isinstance(m, HumanMessage) and m.name == "reminder")
        if said >= NUDGES:
            return None
        text = "You work by calling tools. Go on, or call `submit` when the task is done and green."
        return {"messages": [HumanMessage(text, name="reminder")], "jump_to": "model"}


def _answer(request: ToolCallRequest, text: str) -> ToolMessage:
    return ToolMessage(
        text, tool_call_id=request.tool_call["id"], name=request.tool_call["name"], status="error"
    )


def _short(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: v if len(str(v)) <= 200 else f"{str(v)[:200]}…" for k, v in arguments.items()}
