"""The part of the screen that changes in place: a view as one renderable."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from phoenix.cli.documents import line, tasks_table
from phoenix.cli.escape import one_line
from phoenix.cli.view import View

SHOWN_STEPS = 6


def board(view: View, now: datetime) -> RenderableType:
    """Return what is running now: steps, tasks, tool calls, tests, cost."""
    parts: list[RenderableType] = [Rule(line(one_line(view.title, 70), "bold"), style="dim"), header(view)]
    for step in view.running[:SHOWN_STEPS]:
        place = f"{step.task} " if step.task else ""
        parts.append(line(f"> {place}{step.name}  {elapsed((now - step.since).total_seconds())}", "yellow"))
    if not view.running and view.status == "waiting":
        parts.append(line(f"waiting for someone: {', '.join(g.name for g in view.gates)}", "yellow"))
    if view.tasks:
        parts.append(tasks_table([(t.task, t.title, t.status, t.said) for t in view.tasks]))
    parts += [line(f"  {tool}", "dim") for tool in view.tools]
    if view.tests:
        parts.append(line(view.tests))
    if view.criteria:
        parts.append(criteria_line(view))
    parts += [line(f"! {note}", "red") for note in view.notes]
    parts.append(line(spent(view), "dim"))
    return Group(*parts)


def header(view: View) -> Text:
    """Return where the work is done, and plainly whether a recording answers."""
    sandbox = f"sandbox {view.sandbox}" if view.sandbox else "worked on elsewhere"
    if view.sandbox == "host":
        sandbox = "NO SANDBOX (host)"
    if view.is_recording:
        return line(f"RECORDING replayed, no model is asked; {sandbox}", "magenta")
    return line(f"model {view.model or 'none'}; {sandbox}", "dim")


def criteria_line(view: View) -> Text:
    """Return each criterion's id, green when it holds."""
    text = Text()
    for name, holds in view.criteria.items():
        text.append(f"{name} ", "green" if holds else "bold red")
    return text


def spent(view: View) -> str:
    """Return cost and tokens in words."""
    tokens = f"{view.calls} model calls, {view.input_tokens:,} tokens in, {view.output_tokens:,} out"
    if view.calls and view.replayed == view.calls:
        return f"{tokens}; all from the recording, nothing spent"
    if view.cost_usd is None:
        return f"{tokens}; price unknown"
    return f"{tokens}; ${view.cost_usd:.4f}"


def elapsed(seconds: float) -> str:
    """Return a time as 42 s, 3 min 05 s or 1 h 02 min."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
