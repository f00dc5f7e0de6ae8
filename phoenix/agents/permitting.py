"""Whether a tool call runs: by rules, and where they ask by a person. What is not permitted never runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langgraph.config import get_config
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from phoenix.agents.asking import AskedCall, form_for, request_for
from phoenix.agents.desk import Desk
from phoenix.agents.middleware import CodingState
from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import digest_of
from phoenix.domain.permissions import Ground, Place, Ruling, ToolCall
from phoenix.flow.human import decide
from phoenix.ports import Caller
from phoenix.tools.matching import normal_path
from phoenix.tools.permissions import paths_of

Handler = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]

WORKSPACE = "/workspace"
GO_ON = (
    "The tool was not run and nothing has changed. Do not try to get the same done in another way: go on "
    "without it, or hand in with `blocked` when the task cannot be done without it."
)


class Permitted(AgentMiddleware[CodingState, Any, Any]):
    """Run a call only if the rules, or a person they ask, permit it.

    Done again after a crash a call has the same key: its ruling is found again, and so is the decision, by
    the id of its interrupt. While a person decides, the run waits and nothing of the call has been done.
    """

    state_schema = CodingState

    def __init__(self, desk: Desk, caller: Caller) -> None:
        super().__init__()
        self.desk = desk
        self.caller = caller

    async def awrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage | Command[Any]:
        """Run the call, or answer why it is not run."""
        if not _fits(request):
            # It cannot run: the answer says what is wrong with it.
            return await handler(request)
        call = self._call(request, request.tool_call["args"])
        await self.desk.stand_at(request.state["commit"])
        key = key_of(request)
        ruling = await self.desk.ports.permissions.judge(call, key=key, ground=await self._ground(call))
        if ruling.effect == "allow":
            return await handler(request)
        if ruling.effect == "deny":
            return _refusal(request, f"Denied by a permission rule ({ruling.rule}).{_because(ruling)}")
        return await self._asked(request, handler, call, ruling, key)

    async def _asked(
        self, request: ToolCallRequest, handler: Handler, call: ToolCall, ruling: Ruling, key: str
    ) -> ToolMessage | Command[Any]:
        """Wait for a person's decision, and do as it says."""
        form = form_for(call.tool)
        decision, edited = decide(request_for(call, ruling, key), form)
        if decision.verdict == "reject":
            return _refusal(
                request,
                f"A person was asked about this call and rejected it. Their reason: {decision.reason}",
            )
        if decision.verdict != "edit":
            return await handler(request)
        arguments = _plain(edited)
        changed = self._call(request, arguments)
        ruling = await self.desk.ports.permissions.check(changed, ground=await self._ground(changed))
        if ruling.effect == "deny":
            # What a rule denies no person can let pass.
            await self._told(changed, ruling)
            return _refusal(
                request,
                f"A person changed the arguments to {arguments}, which a permission rule denies"
                f" ({ruling.rule}).{_because(ruling)}",
            )
        result = await handler(request.override(tool_call={**request.tool_call, "args": arguments}))
        return _noted(result, f"[A person changed the arguments of this call to {arguments}; this ran.]")

    def _call(self, request: ToolCallRequest, arguments: dict[str, Any]) -> ToolCall:
        return ToolCall(
            tool=request.tool_call["name"],
            arguments=clean_json(arguments),
            agent=self.caller.agent,
            task=self.caller.task,
        )

    async def _ground(self, call: ToolCall) -> Ground:
        roots = [WORKSPACE, self.desk.sandbox.root]

        def look() -> dict[str, Place]:
            return places_of(self.desk.tree.path, paths_of(call, roots), roots)

        return Ground(places=await asyncio.to_thread(look), roots=roots)

    async def _told(self, call: ToolCall, ruling: Ruling) -> None:
        await self.desk.ports.events.emit(
            "tool_denied", tool=call.tool, agent=call.agent, task=call.task, rule=ruling.rule
        )


def key_of(request: ToolCallRequest) -> str:
    """Return what names a call in its run: the same when it is done again from the same checkpoint."""
    place = str(get_config().get("configurable", {}).get("checkpoint_ns", ""))
    return digest_of([place, request.tool_call["id"]])


def places_of(root: Path, paths: Sequence[str], names: Sequence[str]) -> dict[str, Place]:
    """Return where paths lead in a worktree, with its links followed; those that do not exist as well.

    Args:
        root: The worktree.
        paths: Normalised paths.
        names: Under which the worktree is seen by commands; a link may name it so.
    """
    base = os.path.realpath(root)
    found = {}
    for path in paths:
        if path.startswith("/"):
            continue
        real = _followed(base, path, names)
        inside = os.path.relpath(real, base)
        leaves = inside == ".." or inside.startswith("../")
        found[path] = Place(real=real if leaves else inside, is_folder=os.path.isdir(real))  # noqa: PTH112 - false for what is no path
    return found


def _followed(base: str, path: str, names: Sequence[str]) -> str:
    try:
        real = os.path.realpath(os.path.join(base, path))  # noqa: PTH118 - normalised by name, not by pathlib
    except (OSError, ValueError):
        return os.path.join(base, path)  # noqa: PTH118
    below = normal_path(real, [name for name in names if name != base])
    return real if below.startswith("/") else os.path.join(base, below)  # noqa: PTH118


def _fits(request: ToolCallRequest) -> bool:
    """Tell whether there is such a tool, and the arguments are what it takes."""
    schema = getattr(request.tool, "args_schema", None)
    if request.tool is None or not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return request.tool is not None
    try:
        schema.model_validate(request.tool_call["args"])
    except ValidationError:
        return False
    return True


def _plain(edited: AskedCall) -> dict[str, Any]:
    given = edited.arguments
    return given.model_dump(mode="json") if isinstance(given, BaseModel) else dict(given)


def _because(ruling: Ruling) -> str:
    return f" Reason: {ruling.reason}" if ruling.reason else ""


def _refusal(request: ToolCallRequest, text: str) -> ToolMessage:
    call = request.tool_call
    return ToolMessage(f"{text}\n{GO_ON}", tool_call_id=call["id"], name=call["name"], status="error")


def _noted(result: ToolMessage | Command[Any], note: str) -> ToolMessage | Command[Any]:
    """Put a note before a call's result."""
    if isinstance(result, ToolMessage):
        return result.model_copy(update={"content": f"{note}\n{result.content}"})
    update = dict(result.update) if isinstance(result.update, dict) else {}
    noted = [_noted(m, note) if isinstance(m, ToolMessage) else m for m in update.get("messages", [])]
    return Command(update=update | {"messages": noted})
