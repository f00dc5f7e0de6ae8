"""What a project looks like while it runs, worked out from its events and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from phoenix.cli.escape import clean, one_line
from phoenix.domain.run import Event

RECENT_TOOLS = 6
RECENT_NOTES = 4
RECORDED = "recorded:"
INTERNAL = frozenset(
    {
        *("open", "wait", "start_build", "open_tasks", "absorb", "finish_build"),
        *("keep", "give_up", "leave_red", "nothing_asked", "none_running"),
    }
)
"""Steps of Phoenix's own workflows that a user need not know."""
ENDS = {"success": "delivered", "failed": "failed", "cancelled": "cancelled"}


@dataclass(frozen=True)
class RunningStep:
    """A step that has begun. `task` is empty for work on the whole project."""

    name: str
    task: str
    since: datetime


@dataclass(frozen=True)
class TaskRow:
    """A task on the board; `doing` is its agent's last act."""

    task: str
    title: str
    status: str
    reason: str = ""
    doing: str = ""
    reused: bool = False
    """It was taken over: nothing that it reads has changed."""

    @property
    def said(self) -> str:
        """What is said of it beside its status."""
        what = self.reason or self.doing
        return f"reused; {what}".removesuffix("; ") if self.reused else what


@dataclass(frozen=True)
class Gate:
    """An approval that a person has to decide."""

    approval_id: UUID
    kind: str
    name: str


@dataclass(frozen=True)
class View:
    """A project at one moment. `apply` gives the next moment."""

    title: str = ""
    model: str = ""
    sandbox: str = ""
    seq: int = 0
    status: str = "starting"
    """starting, running, waiting, delivered, failed or cancelled."""
    root: UUID | None = None
    """The project's own run."""
    keys: Mapping[UUID, str] = field(default_factory=dict)
    """Key of each child run."""
    steps: Mapping[UUID | None, tuple[RunningStep, ...]] = field(default_factory=dict)
    finished: int = 0
    """Steps that have finished."""
    tasks: tuple[TaskRow, ...] = ()
    tools: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    criteria: Mapping[str, bool] = field(default_factory=dict)
    tests: str = ""
    calls: int = 0
    replayed: int = 0
    """Calls that were answered from a recording."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = Decimal(0)
    """None when the price of a call is unknown."""
    gates: tuple[Gate, ...] = ()
    branch: str = ""
    commit: str = ""
    error: Mapping[str, Any] | None = None

    @property
    def is_recording(self) -> bool:
        return self.model.startswith(RECORDED)

    @property
    def running(self) -> tuple[RunningStep, ...]:
        """All steps that are running, in order of their beginning; internal ones only when alone."""
        found = sorted((s for steps in self.steps.values() for s in steps), key=lambda s: s.since)
        return tuple(s for s in found if s.name not in INTERNAL) or tuple(found)

    def task_of(self, run_id: UUID | None) -> str:
        """Return the task that a run works on: `build/1/T3` is T3; empty for the project's own run."""
        key = self.keys.get(run_id, "") if run_id else ""
        return key.rsplit("/", 1)[-1]

    def apply(self, event: Event) -> View:
        """Return the view after an event; an unknown kind, or one seen already, changes nothing."""
        if event.seq <= self.seq:
            return self
        view = replace(self, seq=event.seq)
        change = _CHANGES.get(event.kind)
        return view if change is None else change(view, event)


def _run_started(view: View, event: Event) -> View:
    key = _text(event, "key")
    if not key:
        gone = {run: steps for run, steps in view.steps.items() if run != event.run_id}
        return replace(view, status="running", root=event.run_id, steps=gone, error=None)
    if event.run_id is None:
        return view
    return replace(view, keys={**view.keys, event.run_id: key}, steps=_without(view, event.run_id))


def _run_waiting(view: View, event: Event) -> View:
    view = replace(view, steps=_without(view, event.run_id))
    is_root = not _text(event, "key")
    return replace(view, status="waiting") if is_root and view.gates else view


def _run_finished(view: View, event: Event) -> View:
    view = replace(view, steps=_without(view, event.run_id))
    error = event.data.get("error")
    if _text(event, "key"):
        return _note(view, f"{view.task_of(event.run_id)}: {_message(error)}") if error else view
    status = ENDS.get(_text(event, "status"), "failed")
    return replace(view, status=status, error=error, gates=())


def _step_started(view: View, event: Event) -> View:
    step = RunningStep(clean(_text(event, "step")), view.task_of(event.run_id), event.at)
    others = tuple(s for s in view.steps.get(event.run_id, ()) if s.name != step.name)
    view = replace(view, steps={**view.steps, event.run_id: (*others, step)})
    return _doing(view, step.task, step.name)


def _step_ended(view: View, event: Event) -> View:
    name = clean(_text(event, "step"))
    left = tuple(s for s in view.steps.get(event.run_id, ()) if s.name != name)
    view = replace(view, steps={**view.steps, event.run_id: left} if left else _without(view, event.run_id))
    if event.kind == "step_finished":
        return replace(view, finished=view.finished + 1)
    task = view.task_of(event.run_id)
    place = f"{task} {name}".strip()
    return _note(view, f"{place}: {_text(event, 'error')}")


def _model_called(view: View, event: Event) -> View:
    recorded = bool(event.data.get("recorded"))
    price = event.data.get("cost_usd")
    cost: Decimal | None = None
    if recorded:
        cost = Decimal(0)
    elif price is not None:
        cost = Decimal(str(price))
    known = view.cost_usd is not None and cost is not None
    return replace(
        view,
        calls=view.calls + 1,
        replayed=view.replayed + recorded,
        input_tokens=view.input_tokens + _number(event, "input_tokens"),
        output_tokens=view.output_tokens + _number(event, "output_tokens"),
        cost_usd=(view.cost_usd or Decimal(0)) + (cost or Decimal(0)) if known else None,
    )


def _tool_called(view: View, event: Event) -> View:
    line = tool_line(event)
    task = view.task_of(event.run_id)
    shown = f"{task}  {line}" if task else line
    view = replace(view, tools=(*view.tools, shown)[-RECENT_TOOLS:])
    return _doing(view, task, line)


def tool_line(event: Event) -> str:
    """Return a tool call as one line, such as `bash  pytest -q`."""
    arguments = event.data.get("arguments")
    words = " ".join(str(v) for v in arguments.values()) if isinstance(arguments, dict) else ""
    return one_line(f"{_text(event, 'tool')}  {words}", 90)


def _draft_refused(view: View, event: Event) -> View:
    problems = event.data.get("problems") or [["", ""]]
    first = problems[0]
    text = ": ".join(str(part) for part in first) if isinstance(first, list | tuple) else str(first)
    return _note(view, f"{_text(event, 'agent')}: draft {_number(event, 'attempt')} refused: {text}")


def _tests_sealed(view: View, event: Event) -> View:
    count, red = _number(event, "tests"), _number(event, "red")
    return replace(view, tests=f"{count} acceptance tests sealed, {red} of them red")


def _board_changed(view: View, event: Event) -> View:
    doing = {row.task: row.doing for row in view.tasks}
    now = tuple(
        TaskRow(
            task=clean(str(row.get("task", ""))),
            title=one_line(str(row.get("title", "")), 60),
            status=clean(str(row.get("status", ""))),
            reason=one_line(str(row.get("reason", "")), 80),
            doing=doing.get(str(row.get("task", "")), ""),
            reused=bool(row.get("reused")),
        )
        for row in event.data.get("tasks", [])
    )
    ids = {row.task for row in now}
    return replace(view, tasks=(*(row for row in view.tasks if row.task not in ids), *now))


def _task_checked(view: View, event: Event) -> View:
    problems = _number(event, "problems")
    return _doing(
        view, _text(event, "task"), "checks green" if not problems else f"checks: {problems} problems"
    )


def _task_reviewed(view: View, event: Event) -> View:
    blocking = _number(event, "blocking")
    verdict = "review passed" if not blocking else f"review: {blocking} blocking findings"
    return _doing(view, _text(event, "task"), verdict)


def _task_merged(view: View, event: Event) -> View:
    return _doing(view, _text(event, "task"), f"merged as {_text(event, 'commit')[:8]}")


def _merge_conflicted(view: View, event: Event) -> View:
    files = ", ".join(str(f) for f in event.data.get("files", []))
    return _note(view, f"{_text(event, 'task')}: merge conflict in {files or 'its tests'}")


def _seal_broken(view: View, event: Event) -> View:
    return _note(view, f"{_text(event, 'task')}: changed a sealed test")


def _build_verified(view: View, event: Event) -> View:
    found = event.data.get("criteria")
    criteria = {clean(str(k)): bool(v) for k, v in found.items()} if isinstance(found, dict) else {}
    held = sum(criteria.values())
    tests = f"round {_number(event, 'round')}: {held} of {len(criteria)} criteria hold"
    view = replace(view, criteria=criteria, tests=tests)
    for problem in list(event.data.get("problems", []))[:RECENT_NOTES]:
        view = _note(view, str(problem))
    return view


def _delivered(view: View, event: Event) -> View:
    return replace(view, branch=clean(_text(event, "branch")), commit=clean(_text(event, "commit")))


def _requested(view: View, event: Event) -> View:
    if event.data.get("policy"):
        return view
    gate = Gate(UUID(_text(event, "approval_id")), _text(event, "kind"), clean(_text(event, "name")))
    return replace(view, gates=(*view.gates, gate))


def _decided(view: View, event: Event) -> View:
    found = _text(event, "approval_id")
    left = tuple(g for g in view.gates if str(g.approval_id) != found)
    return replace(view, gates=left)


def _model_retried(view: View, event: Event) -> View:
    return _note(view, f"model: {_text(event, 'message')} Trying again.")


_CHANGES = {
    "run_started": _run_started,
    "run_resumed": _run_started,
    "run_retried": _run_started,
    "run_waiting": _run_waiting,
    "run_finished": _run_finished,
    "step_started": _step_started,
    "step_finished": _step_ended,
    "step_failed": _step_ended,
    "model_called": _model_called,
    "model_retried": _model_retried,
    "tool_called": _tool_called,
    "draft_refused": _draft_refused,
    "tests_sealed": _tests_sealed,
    "board_changed": _board_changed,
    "task_checked": _task_checked,
    "task_reviewed": _task_reviewed,
    "task_merged": _task_merged,
    "merge_conflicted": _merge_conflicted,
    "seal_broken": _seal_broken,
    "build_verified": _build_verified,
    "project_delivered": _delivered,
    "approval_requested": _requested,
    "approval_decided": _decided,
}


def _text(event: Event, name: str) -> str:
    value = event.data.get(name)
    return "" if value is None else str(value)


def _number(event: Event, name: str) -> int:
    value = event.data.get(name)
    return int(value) if isinstance(value, int | float) else 0


def _message(error: Any) -> str:
    return str(error.get("message", "failed")) if isinstance(error, dict) else "failed"


def _note(view: View, text: str) -> View:
    return replace(view, notes=(*view.notes, one_line(text, 160))[-RECENT_NOTES:])


def _doing(view: View, task: str, what: str) -> View:
    if not task:
        return view
    what = one_line(what, 60)
    return replace(view, tasks=tuple(replace(r, doing=what) if r.task == task else r for r in view.tasks))


def _without(view: View, run_id: UUID | None) -> Mapping[UUID | None, tuple[RunningStep, ...]]:
    return {run: steps for run, steps in view.steps.items() if run != run_id}
