"""What the coding agents pass to each other while a plan is being built."""

from __future__ import annotations

import re

from pydantic import Field

from phoenix.domain.evidence import CriterionTests, TaskResult
from phoenix.domain.frozen import Commit, Digest, Frozen, Text
from phoenix.domain.spec import Criterion

REPAIR = re.compile(r"R[1-9][0-9]*")
"""Names of tasks that mend what a verification found, numbered by the round of building."""


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
    first: Commit | None = None
    """What the first round came to: from there to `commit` is what sending it back changed."""
    round: int = 0
    """Rounds of code, check and review that have begun."""
    problems: list[str] = []
    """Why the last round was not good enough; empty when it was."""
    sent_back: list[str] = []
    """The problems that this round was begun with."""
    setbacks: list[str] = []
    """The problems of every round so far that was sent back."""
    notes: list[str] = []
    """What reviewers found but did not block for."""
    summary: str = ""
    declared: list[CriterionTests] = []
    broken_seal: bool = False
    reads: Digest | None = None
    """The content address of what it reads; a finished task that had read the same stands for it."""

    @property
    def attempt(self) -> int:
        """Which attempt the running round is, from 1. A repair task `R2` comes after a first one failed."""
        repairs = int(self.task[1:]) - 1 if REPAIR.fullmatch(self.task) else 0
        return max(1, self.round) + repairs


class FinishedTask(Frozen):
    """A task that was built, kept so that another one that reads the same need not be."""

    reads: Digest
    task: str
    base: Commit
    commit: Commit
    criteria: list[Criterion] = []
    """Those of the task, as their texts were then."""
    summary: str = ""
    rounds: int = 0
    notes: list[str] = []


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


class MergeRequest(Frozen):
    """A merge that is prepared: what people decide on at the merge gate."""

    task: str
    title: str
    summary: str = ""
    head: Commit
    """What it would be merged into."""
    commit: Commit
    """The merge itself, verified."""
    files: list[str] = []
    """What it changes."""
    conflicts: list[str] = []
    """Files that conflicted and were resolved by an agent."""
    resolved: bool = False
    """An agent settled it: files conflicted, or tests failed after it."""


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
