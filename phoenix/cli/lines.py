"""Events as plain sentences: what a log, or the part of a screen that scrolls, says."""

from __future__ import annotations

from typing import Literal

from phoenix.cli.escape import clean, one_line
from phoenix.cli.view import INTERNAL, View, tool_line
from phoenix.domain.run import Event

Weight = Literal["main", "detail"]
"""main stays on the screen; detail is shown only while it is new."""

Line = tuple[Weight, str] | None

VERDICTS = {"approve": "approved", "edit": "edited", "reject": "rejected", "respond": "answered"}


def line_of(view: View, event: Event) -> Line:
    """Return an event as a line; None when it says nothing to a reader. `view` is after the event."""
    say = _LINES.get(event.kind)
    return None if say is None else say(view, event)


def past(verdict: str) -> str:
    """Return a verdict as something that has happened."""
    return VERDICTS.get(verdict, clean(verdict))


def _text(event: Event, name: str, width: int = 300) -> str:
    return one_line(str(event.data.get(name, "")), width)


def _place(view: View, event: Event) -> str:
    return f"{view.task_of(event.run_id)} {_text(event, 'step')}".strip()


def _step_started(view: View, event: Event) -> Line:
    return None if event.data.get("step") in INTERNAL else ("detail", f"{_place(view, event)} ...")


def _step_finished(view: View, event: Event) -> Line:
    if event.data.get("step") in INTERNAL:
        return None
    weight: Weight = "detail" if view.task_of(event.run_id) else "main"
    return weight, f"{_place(view, event)} done ({event.data.get('seconds', 0):.1f} s)"


def _step_failed(view: View, event: Event) -> Line:
    again = " (will be tried again)" if event.data.get("will_retry") else ""
    return "main", f"{_place(view, event)} failed{again}: {_text(event, 'error')}"


def _tool_called(view: View, event: Event) -> Line:
    return "detail", f"{view.task_of(event.run_id)} {tool_line(event)}".strip()


def _run_resumed(view: View, event: Event) -> Line:
    if event.data.get("key") or event.data.get("was") == "waiting":
        return None
    return "main", f"goes on (attempt {event.data.get('attempt')})"


def _run_finished(view: View, event: Event) -> Line:
    error = event.data.get("error")
    if not event.data.get("key") or not isinstance(error, dict):
        return None
    return "main", f"{view.task_of(event.run_id)} failed: {one_line(str(error.get('message', '')), 300)}"


def _tests(view: View, event: Event) -> Line:
    return "main", view.tests


def _checked(view: View, event: Event) -> Line:
    task = _text(event, "task")
    return "detail", f"{task} {next((r.doing for r in view.tasks if r.task == task), 'checked')}"


def _merged(view: View, event: Event) -> Line:
    resolved = " after a conflict" if event.data.get("resolved") else ""
    return "main", f"{_text(event, 'task')} merged{resolved} as {_text(event, 'commit')[:8]}"


def _verified(view: View, event: Event) -> Line:
    said = "verified" if event.data.get("passed") else "not yet verified"
    return "main", f"{said}, {view.tests}"


def _noted(view: View, event: Event) -> Line:
    return "main", view.notes[-1] if view.notes else event.kind


def _price_unknown(view: View, event: Event) -> Line:
    return "main", f"the price of {_text(event, 'model')} is unknown: the budget cannot be watched"


def _budget_raised(view: View, event: Event) -> Line:
    return "main", f"budget raised from ${_text(event, 'from_usd')} to ${_text(event, 'budget_usd')}"


def _decided(view: View, event: Event) -> Line:
    return "main", f"{_text(event, 'name')}: {past(str(event.data.get('verdict')))} by {_text(event, 'by')}"


def _delivered(view: View, event: Event) -> Line:
    return "main", f"delivered as branch {view.branch} ({view.commit[:8]})"


_LINES = {
    "step_started": _step_started,
    "step_finished": _step_finished,
    "step_failed": _step_failed,
    "tool_called": _tool_called,
    "run_resumed": _run_resumed,
    "run_finished": _run_finished,
    "tests_sealed": _tests,
    "task_checked": _checked,
    "task_reviewed": _checked,
    "task_merged": _merged,
    "build_verified": _verified,
    "draft_refused": _noted,
    "merge_conflicted": _noted,
    "seal_broken": _noted,
    "model_retried": _noted,
    "price_unknown": _price_unknown,
    "budget_raised": _budget_raised,
    "approval_decided": _decided,
    "project_delivered": _delivered,
}
