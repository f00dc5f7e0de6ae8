"""What the coding agents pass to each other while a plan is being built."""

from __future__ import annotations

from pydantic import Field

from phoenix.domain.evidence import CriterionTests, TaskResult
from phoenix.domain.frozen import Commit, Digest, Frozen, Text


class TaskWork(Frozen):
    """One task on its way: the input and the state of a child run.

    A repair task has no place in the plan; its `brief` says what to mend.
    """

    spec: Digest
    plan: Digest | None = None
    sealed: Digest | None = None
    task: str
    title: str
    brief: str
    criteria: list[str] = []
    files: list[str] = []
    check: str = ""
    base: Commit
    commit: Commit | None = None
    round: int = 0
    """Rounds of code, check and review that have begun."""
    problems: list[str] = []
    """Why the last round was not good enough; empty when it was."""
    sent_back: list[str] = []
    """The problems that this round was begun with."""
    notes: list[str] = []
    """What reviewers found but did not block for."""
    summary: str = ""
    declared: list[CriterionTests] = []
    broken_seal: bool = False


class Finding(Frozen):
    """Something a reviewer found. Only blocking findings send the work back."""

    file: str = ""
    text: Text
    blocking: bool


class Review(Frozen):
    """A review of one diff."""

    summary: Text
    findings: list[Finding] = Field(default=[], max_length=20)


class BuildState(Frozen):
    """A plan that is being built: what is open, what is merged, where the code stands."""

    spec: Digest
    plan: Digest
    sealed: Digest
    base: Commit
    """The contract commit."""
    head: Commit
    """What is merged so far."""
    tasks: list[TaskWork] = []
    """This round's tasks, in the order of the plan."""
    results: list[TaskResult] = []
    """How each of this round's tasks stands, in the same order."""
    earlier: list[TaskResult] = []
    """Results of earlier rounds."""
    waits_for: dict[str, list[str]] = {}
    """Task id → ids of tasks that must be merged before."""
    round: int = 1


class FileEdit(Frozen):
    """An exact replacement: `old` must occur exactly once."""

    old: str
    new: str


class FileChange(Frozen):
    """A file to create (`content`) or to change (`edits`)."""

    path: Text
    content: str | None = None
    edits: list[FileEdit] = []


class ToolOutput(Frozen):
    """The whole of a tool's output, when only its head and tail fit the conversation."""

    text: str
