"""Rules on what an agent's tools may do, and the decisions that were taken by them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, field_validator

from phoenix.domain.frozen import Frozen

Effect = Literal["allow", "ask", "deny"]
Strictness = Literal["ask", "deny"]
Outcome = Literal["allowed", "denied", "asked", "approved", "edited", "rejected"]
"""`asked` waits for a person; the last three are what the person decided."""

MAX_RULES = 200
MAX_PATTERN_CHARS = 500

Pattern = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_PATTERN_CHARS)]

TOOL_GATE = "tool"
"""The gate at which a person decides on a tool call."""


class Rule(Frozen):
    """One line of a rule set. It matches a call that fits all the patterns it gives."""

    effect: Effect
    tool: Pattern = "*"
    """Glob of the tool's name."""
    command: Pattern = ""
    """Words of a shell command, each a glob; `**`, and `*` as the last word, stand for any number."""
    path: Pattern = ""
    """Glob of a path below the repository, or of an absolute one; `**` stands for any number of folders."""
    host: Pattern = ""
    """Glob of a host's name or address."""
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] = ""
    """What the agent, and the person who is asked, read."""

    @field_validator("tool", "command", "path", "host")
    @classmethod
    def _whole(cls, pattern: str) -> str:
        if "\0" in pattern or "\n" in pattern:
            raise ValueError("a pattern is one line of text")
        if pattern.count("[") != pattern.count("]"):
            raise ValueError("a [ in a pattern needs its ]")
        return pattern

    @field_validator("tool")
    @classmethod
    def _names_a_tool(cls, pattern: str) -> str:
        if not pattern:
            raise ValueError("name a tool, or leave it out for all of them")
        return pattern

    @field_validator("command")
    @classmethod
    def _plain_words(cls, pattern: str) -> str:
        if any(sign in pattern for sign in "\"'\\;|&$`<>()"):
            raise ValueError(
                "a command pattern is plain words with * and ?; each command of a line is matched by itself"
            )
        return pattern

    @field_validator("path")
    @classmethod
    def _goes_down(cls, pattern: str) -> str:
        if ".." in pattern.split("/"):
            raise ValueError("a path pattern does not go up")
        return pattern

    @field_validator("host")
    @classmethod
    def _only_a_host(cls, pattern: str) -> str:
        if "/" in pattern or "@" in pattern:
            raise ValueError("a host pattern is a name or an address only, such as *.example.org")
        return pattern.lower()

    def __str__(self) -> str:
        parts = [
            f"{name} {getattr(self, name)}" for name in ("command", "path", "host") if getattr(self, name)
        ]
        return " ".join([self.effect, self.tool, *parts])


class RuleSet(Frozen):
    """Ordered rules: a matching `deny` wins over everything, else the first that matches decides."""

    rules: list[Rule] = Field(default=[], max_length=MAX_RULES)
    otherwise: Strictness | None = None
    """Where none matches. Left out, other rule sets may speak; where none does, a person is asked."""
    unclear: Strictness = "ask"
    """Where it cannot be seen whether a `deny` matches."""


class RuleLayer(Frozen):
    """A rule set with the name of where it comes from: service, organisation or project."""

    name: str
    rules: RuleSet


class ToolCall(Frozen):
    """A tool call that an agent wants to make."""

    tool: str
    arguments: dict[str, Any] = {}
    agent: str = ""
    task: str = ""


class Place(Frozen):
    """What a path is in a worktree. `real` has links followed, and is absolute where it leaves it."""

    real: str
    is_folder: bool = False


class Ground(Frozen):
    """Where a call is made: what its paths lead to, and under which names the repository is seen."""

    places: dict[str, Place] = {}
    """By normalised path. A path that is not here is taken at its word."""
    roots: list[str] = ["/workspace"]


class Ruling(Frozen):
    """What the rules say of a call."""

    effect: Effect
    rule: str
    """Which rule decided, as a person reads it."""
    reason: str = ""


class ToolDecision(Frozen):
    """A decision on one tool call: by the rules, and where they ask by a person."""

    id: UUID
    project_id: UUID
    run_id: UUID
    call: str
    """Names the call in its run: what is done again after a crash has it again."""
    agent: str = ""
    task: str = ""
    tool: str
    arguments: dict[str, Any] = {}
    """Without secrets; long texts are cut."""
    arguments_digest: str
    cut: list[str] = []
    """The arguments that were cut."""
    effect: Effect
    rule: str
    reason: str = ""
    outcome: Outcome
    by: str = ""
    """`rules`, `policy`, or the person."""
    at: datetime
    decided_at: datetime | None = None
    """When the person decided."""


class Rehearsal(Frozen):
    """What rules would have done to past decisions."""

    total: int = 0
    allowed: int = 0
    denied: int = 0
    asked: int = 0
    stopped_approved: list[ToolDecision] = []
    """Denied, although a person approved them."""
    missed: list[ToolDecision] = []
    """Allowed, although a person rejected them."""
