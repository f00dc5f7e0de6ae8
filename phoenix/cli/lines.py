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


def _run_handed_back(view: View, event: Event) -> Line:
    reason = _text(event, "reason")
    return ("main", f"paused: {reason}") if reason else None


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


def _reused(view: View, event: Event) -> Line:
    return "main", f"{_text(event, 'task')} reused: nothing that it reads has changed"


def _continued(view: View, event: Event) -> Line:
    return "main", f"{_text(event, 'task')} goes on from its former work: what it has to do has changed"


def _plan_kept(view: View, event: Event) -> Line:
    changed = ", ".join(str(c) for c in event.data.get("changed", []))
    return "main", f"the plan is kept: it covers the spec as it is now ({changed or 'no criterion'} changed)"


def _contract_kept(view: View, event: Event) -> Line:
    return "main", "the contract is kept: its interfaces are the same"


def _tests_kept(view: View, event: Event) -> Line:
    kept, written = (", ".join(event.data.get(name, [])) for name in ("criteria", "written"))
    return "main", f"acceptance tests of {kept} are kept; written anew: {written or 'none'}"


def _forked(view: View, event: Event) -> Line:
    before = ", ".join(str(name) for name in event.data.get("before", []))
    return "main", f"forked from {_text(event, 'from')[:8]} before {before}"


def _fell_back(view: View, event: Event) -> Line:
    return "main", f"model: {_text(event, 'message')} {_text(event, 'to')} is asked instead."


def _circuit_changed(view: View, event: Event) -> Line:
    answers = _text(event, "state") == "closed"
    how = "answers again" if answers else "failed again and again, and is left alone for a while"
    return "main", f"model: {_text(event, 'model')} {how}"


def _compacted(view: View, event: Event) -> Line:
    return "detail", f"a conversation became too long: {event.data.get('results')} old results are cut"


def _summarised(view: View, event: Event) -> Line:
    return "detail", f"{event.data.get('messages')} older messages of a long conversation are summed up"


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


def _message_sent(view: View, event: Event) -> Line:
    to = f" to {_text(event, 'task')}" if event.data.get("task") else ""
    return "main", f"{_text(event, 'by')} says{to}: {one_line(str(event.data.get('text', '')), 200)}"


def _message_read(view: View, event: Event) -> Line:
    task = f" {_text(event, 'task')}" if event.data.get("task") else ""
    return "main", f"message {event.data.get('message')} read by {_text(event, 'agent')}{task}"


def _tool_denied(view: View, event: Event) -> Line:
    return "main", f"{_text(event, 'task')} {_text(event, 'tool')} denied: {_text(event, 'rule')}".strip()


def _delivered(view: View, event: Event) -> Line:
    return "main", f"delivered as branch {view.branch} ({view.commit[:8]})"


def _learned(view: View, event: Event) -> Line:
    count = int(event.data.get("lessons", 0))
    return "main", f"{count} {'lesson' if count == 1 else 'lessons'} kept" if count else "no lessons to keep"


def _not_learned(view: View, event: Event) -> Line:
    return "main", f"no lessons were kept, the delivery stands: {_text(event, 'reason')}"


_LINES = {
    "step_started": _step_started,
    "step_finished": _step_finished,
    "step_failed": _step_failed,
    "tool_called": _tool_called,
    "run_resumed": _run_resumed,
    "run_handed_back": _run_handed_back,
    "run_finished": _run_finished,
    "tests_sealed": _tests,
    "task_checked": _checked,
    "task_reviewed": _checked,
    "task_merged": _merged,
    "task_reused": _reused,
    "task_continued": _continued,
    "plan_kept": _plan_kept,
    "contract_kept": _contract_kept,
    "tests_kept": _tests_kept,
    "project_forked": _forked,
    "build_verified": _verified,
    "draft_refused": _noted,
    "merge_conflicted": _noted,
    "seal_broken": _noted,
    "model_retried": _noted,
    "model_fell_back": _fell_back,
    "circuit_changed": _circuit_changed,
    "conversation_compacted": _compacted,
    "conversation_summarised": _summarised,
    "price_unknown": _price_unknown,
    "budget_raised": _budget_raised,
    "approval_decided": _decided,
    "message_sent": _message_sent,
    "message_read": _message_read,
    "tool_denied": _tool_denied,
    "project_delivered": _delivered,
    "lessons_learned": _learned,
    "lessons_missed": _not_learned,
}
