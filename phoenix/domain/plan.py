"""The plan: a DAG of tasks that together cover every criterion of the spec."""

from __future__ import annotations

import posixpath
from typing import Literal

from pydantic import Field

from phoenix.domain.frozen import Commit, Digest, Frozen, Text
from phoenix.domain.spec import SpecDraft
from phoenix.errors import DomainInvalid


class Interface(Frozen):
    """A name that several tasks share: where it lives, its signature, and what it promises."""

    file: Text
    signature: Text
    promise: str = ""


class Task(Frozen):
    """A piece of work one coding agent does on its own worktree."""

    id: str = Field(pattern=r"^T[1-9][0-9]*$")
    title: Text = Field(max_length=120)
    description: Text
    criteria: list[str] = []
    files: list[str] = []
    """Files it may create or change, relative to the repository."""
    depends_on: list[str] = []
    size: Literal["S", "M", "L"] = "M"
    check: str = ""
    """Shell command that must exit 0 when the task is done; empty: the project's own tests."""


class PlanDraft(Frozen):
    """A plan as the decomposition agent writes it."""

    approach: Text
    interfaces: list[Interface] = []
    tasks: list[Task] = Field(min_length=1, max_length=40)

    def task(self, task_id: str) -> Task:
        """Return one task.

        Raises:
            DomainInvalid: there is none of that id.
        """
        for t in self.tasks:
            if t.id == task_id:
                return t
        raise DomainInvalid([("tasks", f"there is no task {task_id}")])


def size_in(plan: PlanDraft | None, task_id: str) -> Literal["", "S", "M", "L"]:
    """Return a task's size; empty where the plan does not have it."""
    return next((t.size for t in plan.tasks if t.id == task_id), "") if plan else ""


class Plan(PlanDraft):
    """A plan that belongs to a spec."""

    spec: Digest


def check_plan(plan: PlanDraft, spec: SpecDraft) -> None:
    """Check that a plan holds together and covers its spec.

    Raises:
        DomainInvalid: with the path of each duplicate id, orphan reference, cycle, file outside
            the repository and uncovered criterion.
    """
    problems = [*_references(plan, spec), *_files(plan)]
    if not problems:
        cycle = _cycle(plan)
        if cycle:
            problems.append(("tasks", f"depends_on goes in a circle: {' -> '.join(cycle)}"))
    if problems:
        raise DomainInvalid(problems)


def _references(plan: PlanDraft, spec: SpecDraft) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    ids = [t.id for t in plan.tasks]
    known = {c.id for c in spec.criteria()}
    problems += [
        ("tasks", f"id {i} is used more than once") for i in sorted({i for i in ids if ids.count(i) > 1})
    ]
    for n, task in enumerate(plan.tasks):
        for dep in task.depends_on:
            if dep not in ids:
                problems.append((f"tasks[{n}].depends_on", f"{task.id} depends on unknown task {dep}"))
        for criterion in task.criteria:
            if criterion not in known:
                problems.append((f"tasks[{n}].criteria", f"the spec has no criterion {criterion}"))
    covered = {c for t in plan.tasks for c in t.criteria}
    for c in spec.criteria():
        if c.id not in covered and not c.already_holds:
            problems.append(("tasks", f"no task covers criterion {c.id}: {c.text}"))
    return problems


def _files(plan: PlanDraft) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    places = [(f"tasks[{n}].files", f) for n, t in enumerate(plan.tasks) for f in t.files]
    places += [(f"interfaces[{n}].file", i.file) for n, i in enumerate(plan.interfaces)]
    for where, name in places:
        clean = posixpath.normpath(name.replace("\\", "/"))
        if clean.startswith(("/", "..")) or ".git" in clean.split("/"):
            problems.append((where, f"{name!r} is not a path inside the repository"))
    return problems


def _cycle(plan: PlanDraft) -> list[str]:
    """Return one cycle of depends_on as task ids, first repeated last; [] when there is none."""
    after = {t.id: list(t.depends_on) for t in plan.tasks}
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for dep in after[node]:
            found = walk(dep, [*trail, node])
            if found:
                return found
        done.add(node)
        return []

    for task_id in after:
        found = walk(task_id, [])
        if found:
            return found
    return []


class Contract(Frozen):
    """The commit that holds the shared interfaces as stubs; `base` is what it stands on."""

    plan: Digest
    base: Commit
    commit: Commit
    files: list[str] = []
