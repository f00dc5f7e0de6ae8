"""Long conversations of the coding agent: their older part gives way to a summary, what binds it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    ToolMessage,
)
from langchain_core.messages.utils import count_tokens_approximately
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from phoenix.agents.desk import Desk
from phoenix.agents.middleware import CodingState
from phoenix.agents.prompting import fence, plain_yaml, render
from phoenix.agents.results import cap
from phoenix.agents.steering import MARK
from phoenix.ports import Caller

AGENT = "summarise"
NAME = "summary"
SUMMARISE_AT, CLEAR_AT = 80_000, 40_000
"""Tokens of a conversation, as they are estimated, where nothing says how many a model holds."""
SHARE, CLEAR_SHARE = 0.6, 0.4
"""Of a smaller window. The rest is for system prompt, tools, answer, and for estimates that are too low."""
KEPT_SHARE = 0.25
"""Of the size at which it is summed up: the latest messages, which stay as they are."""
RESULT_CHARS = 3000
CALL_CHARS = 100
CHANGE_CHARS = 12_000


@dataclass(frozen=True)
class Sizes:
    """Tokens of a conversation."""

    summarise_at: int
    """The older part is summed up."""
    clear_at: int
    """Older results of tools are left out of what is sent."""

    @property
    def kept(self) -> int:
        """The latest messages that are never summed up, of about so many tokens."""
        return int(self.summarise_at * KEPT_SHARE)


def sizes_for(room: int | None) -> Sizes:
    """Return the sizes for a model that holds so many tokens; None where that is not known."""
    if room is None:
        return Sizes(SUMMARISE_AT, CLEAR_AT)
    return Sizes(min(SUMMARISE_AT, int(room * SHARE)), min(CLEAR_AT, int(room * CLEAR_SHARE)))


class Summarised(AgentMiddleware[CodingState, Any, Any]):
    """Have the older part of a conversation summed up before it outgrows its model.

    The task and what people said stay word by word: no summary may lose them. What was changed so far is
    shown from the worktree and not from memory.
    """

    state_schema = CodingState

    def __init__(self, desk: Desk, caller: Caller, sizes: Sizes) -> None:
        super().__init__()
        self.desk = desk
        self.caller = caller
        self.sizes = sizes

    async def abefore_model(self, state: CodingState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Put a summary in the place of the older part of a conversation that is too long."""
        messages = state["messages"]
        if state.get("submitted") or count_tokens_approximately(messages) < self.sizes.summarise_at:
            return None
        cut = cut_of(messages, self.sizes.kept)
        bound = [messages[0], *(m for m in messages[1:cut] if m.name == MARK)]
        older = [m for m in messages[1:cut] if m.name != MARK]
        if count_tokens_approximately(older) < self.sizes.kept:
            return None  # too little to gain: task and latest turn alone fill the model
        summary = await self._summary(messages[0], older)
        told = await self._told(summary, state["commit"])
        now: list[AnyMessage] = [*bound, told, *messages[cut:]]
        await self.desk.ports.events.emit(
            "conversation_summarised",
            agent=self.caller.agent,
            task=self.caller.task,
            messages=len(older),
            tokens=count_tokens_approximately(messages) - count_tokens_approximately(now),
        )
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), *now]}

    async def _summary(self, task: BaseMessage, older: Sequence[BaseMessage]) -> str:
        models, caller = self.desk.ports.models, Caller(AGENT, self.caller.task)
        room = models.room(caller)
        limit = 4 * min(SUMMARISE_AT, int(room * SHARE) if room else SUMMARISE_AT) // 2
        said = "\n\n".join(as_text(m, older) for m in older)
        asked = render("summarise", task=cap(task.text, limit), said=cap(said, limit))
        answer = await models.chat(caller).ainvoke(asked)
        return answer.text.strip()

    async def _told(self, summary: str, commit: str) -> HumanMessage:
        """Return what the agent reads in the place of what it did."""
        change = await self.desk.ports.workspace.patch(self.desk.base, commit)
        limit = min(CHANGE_CHARS, self.sizes.kept * 2)
        parts = [
            "Your work on this task so far became too long to show. You summed it up:",
            fence(summary or "(nothing)"),
            "The change so far, from the folder:" if change else "Nothing in the folder is changed so far.",
            *([fence(cap(change, limit))] if change else []),
            "Go on from here. Files that you read before may have to be read again.",
        ]
        return HumanMessage("\n".join(parts), name=NAME)


def cut_of(messages: Sequence[BaseMessage], kept: int) -> int:
    """Return where the latest messages begin that have about `kept` tokens, and at least one turn.

    No call is parted from its results, and the first message is never among those that are left.
    """
    cut, tokens = len(messages), 0
    for place in range(len(messages) - 1, 0, -1):
        tokens += count_tokens_approximately([messages[place]])
        if tokens > kept and cut < len(messages):
            break
        if not isinstance(messages[place], ToolMessage):
            cut = place
    return cut


def as_text(message: BaseMessage, around: Sequence[BaseMessage]) -> str:
    """Return a message as the summary's author reads it, a result with the call that it answers."""
    if isinstance(message, ToolMessage):
        calls = [c for m in around if isinstance(m, AIMessage) for c in m.tool_calls]
        call = next((c for c in calls if c["id"] == message.tool_call_id), None)
        about = cap(" ".join(map(str, call["args"].values())), CALL_CHARS) if call else ""
        return f"Result of {message.name} {about}\n{cap(message.text, RESULT_CHARS)}".strip()
    if not isinstance(message, AIMessage):
        return message.text
    made = [
        f"Called {c['name']}:\n{cap(plain_yaml(c['args']).strip(), RESULT_CHARS)}" for c in message.tool_calls
    ]
    return "\n".join([part for part in (message.text, *made) if part])
