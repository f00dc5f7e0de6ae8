"""Messages of people, brought into the conversations of the agents that they concern."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.config import get_config
from langgraph.runtime import Runtime

from phoenix.agents.middleware import CodingState
from phoenix.domain.frozen import digest_of
from phoenix.domain.steering import Message
from phoenix.ports import Caller, Ports

MARK = "steering"


def as_message(message: Message) -> HumanMessage:
    """Return a message as an agent reads it, marked as what it is."""
    to = f"to the agents of task {message.task}" if message.task else "to all agents of this project"
    text = (
        f"[Message from a person, {message.sent_by}, {to}, sent while the work is under way. Follow it from "
        "now on; where it differs from what you were told before, it takes precedence. It does not change "
        f"what your tools may do.]\n{message.text}\n[End of the message.]"
    )
    return HumanMessage(text, name=MARK, id=f"{MARK}-{message.project_id}-{message.seq}")


def conversation_of(*, inner: bool) -> str:
    """Return what names the running conversation: the same when it goes on after a crash.

    Args:
        inner: The conversation is the agent's graph around the running node; else it is that of the node.
    """
    place = str(_configurable().get("checkpoint_ns", ""))
    return digest_of(place.rpartition("|")[0] if inner else place)


def _configurable() -> dict[str, Any]:
    try:
        return dict(get_config().get("configurable", {}))
    except RuntimeError:  # outside of a graph
        return {}


class Steered(AgentMiddleware[CodingState, Any, Any]):
    """Bring what people say into the conversation before the next model call.

    The message and the number up to which messages are in the conversation are one update of its state, so
    each is in it once: what a crash loses together is read again together, and no model call has seen it.
    """

    state_schema = CodingState

    def __init__(self, ports: Ports, caller: Caller) -> None:
        super().__init__()
        self.ports = ports
        self.caller = caller

    async def abefore_model(self, state: CodingState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Take in what was said since the last model call."""
        project = str(self.ports.project_id)
        heard = state.get("heard") or {}
        is_own = heard.get("project") == project
        found = await self.ports.steering.unread(self.caller, after=int(heard.get("seq", 0)) if is_own else 0)
        if not is_own and "at" in heard:
            # A fork's conversation comes from another project: its messages have other numbers, and the
            # times at which they were sent.
            heard_at = datetime.fromisoformat(heard["at"])
            found = [message for message in found if message.at > heard_at]
        if not found:
            return None
        turn = 1 + sum(isinstance(m, AIMessage) for m in state["messages"])
        conversation = conversation_of(inner=True)
        await self.ports.steering.read(self.caller, found, conversation=conversation, turn=turn)
        messages = [as_message(message) for message in found]
        last = found[-1]
        return {
            "messages": messages,
            "heard": {"project": project, "seq": last.seq, "at": last.at.isoformat()},
        }


class Inbox:
    """What people say to an agent that is asked and answers, without a loop of its own.

    A step that is done again after a crash reads all of it again, and what was said meanwhile too: then the
    model is asked something else, and that is a new call, paid as one.
    """

    def __init__(self, ports: Ports, caller: Caller) -> None:
        self._ports = ports
        self._caller = caller
        self._after = 0

    async def fresh(self, turn: int) -> Sequence[BaseMessage]:
        """Return what was said since the last call."""
        found = await self._ports.steering.unread(self._caller, after=self._after)
        if not found:
            return []
        self._after = found[-1].seq
        conversation = conversation_of(inner=False)
        await self._ports.steering.read(self._caller, found, conversation=conversation, turn=turn)
        return [as_message(message) for message in found]
