"""What people say to agents that work, and which agents have read it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from phoenix.domain.frozen import Frozen, Text

MAX_MESSAGE_CHARS = 20_000

TASK_AGENTS = frozenset({"code", "review", "resolve"})
"""Who reads what is said to one task: its coder, and those who judge and merge what the coder then does."""


class Message(Frozen):
    """Something that a person says to a project's agents, or to those of one task."""

    id: UUID
    project_id: UUID
    seq: int
    """The number of its event: messages are read in this order."""
    task: str = ""
    """Such as `T2`; empty for all agents of the project."""
    text: Text = Field(max_length=MAX_MESSAGE_CHARS)
    sent_by: str
    at: datetime

    def concerns(self, agent: str, task: str) -> bool:
        """Tell whether an agent reads it. `task` is a caller's, such as `T2/r1`."""
        return not self.task or (agent in TASK_AGENTS and task.partition("/")[0] == self.task)


class MessageRead(Frozen):
    """One conversation of an agent in which a message was read."""

    run_id: UUID
    agent: str
    task: str = ""
    turn: int
    """The model call of that conversation, from 1, that was the first to see it."""
    at: datetime


class Kept(Frozen):
    """Code that stays in the repository of a project that was cancelled."""

    what: str
    """`contract`, a task such as `T2`, `build` or `delivery`."""
    commit: str
    branch: str = ""
    """Where it was published; else the commit is in the project's own repository."""


class SentMessage(Frozen):
    """A message, and who has read it."""

    message: Message
    reads: list[MessageRead] = []
