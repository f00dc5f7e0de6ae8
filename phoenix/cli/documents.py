"""Specs, plans and evidence as a person reads them. Everything foreign goes through `clean`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from pydantic import ValidationError
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from phoenix.cli.escape import clean, one_line
from phoenix.cli.forms import to_yaml
from phoenix.domain.approval import HumanRequest
from phoenix.domain.evidence import Evidence
from phoenix.domain.forecast import Forecast
from phoenix.domain.lessons import Lessons
from phoenix.domain.plan import PlanDraft
from phoenix.domain.project import Questions
from phoenix.domain.spec import SpecDraft
from phoenix.flow.forms import TYPE_KEY

PIPE_WIDTH = 140
"""Columns where standard output is no terminal."""

STATUS_STYLES = {
    "done": "green",
    "built": "green",
    "running": "yellow",
    "failed": "red",
    "blocked": "red",
    "waiting": "dim",
}


def line(text: str, style: str = "") -> Text:
    """Return text in which nothing is markup."""
    return Text(clean(text), style=style)


def document(request: HumanRequest) -> RenderableType:
    """Return what is decided on."""
    kind = str(request.answer_schema.get(TYPE_KEY, "")).rpartition(":")[2]
    shown = of_kind(kind.lower(), request.value)
    expected = request.notes.get("forecast")
    return shown if expected is None else Group(shown, forecast_text(expected))


def forecast_text(value: Any) -> RenderableType:
    """Return what each task of a plan is expected to cost; as YAML when it is of another version's form."""
    try:
        forecast = Forecast.model_validate(value)
    except ValidationError:
        return line(to_yaml({"forecast": value}))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Task", "Size", "Expected", "Range", "From"):
        table.add_column(name, justify="left" if name in ("Task", "Size", "From") else "right")
    for each in forecast.tasks:
        cost = each.cost
        basis = f"{cost.tasks} past tasks" if cost.tasks else "assumed"
        cells = (each.task, each.size, f"${cost.usd:.2f}", f"${cost.low:.2f} to ${cost.high:.2f}", basis)
        table.add_row(*(line(cell) for cell in cells))
    whole = f"Expected: ${forecast.usd:.2f} for all tasks (${forecast.low:.2f} to ${forecast.high:.2f})."
    return Group(table, line(whole))


def of_kind(kind: str, value: dict[str, Any]) -> RenderableType:
    """Return an artifact of a kind such as `spec`; as YAML when nothing better fits."""
    reader = _READERS.get(kind)
    if reader is None:
        return line(to_yaml(value))
    try:
        return reader(value)
    except ValidationError:
        return line(to_yaml(value))


def _only(model: type[SpecDraft] | type[PlanDraft], value: dict[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in model.model_fields if name in value}


def spec_text(spec: SpecDraft) -> RenderableType:
    """Return a spec: its requirements, each with its criteria."""
    parts: list[RenderableType] = [line(spec.title, "bold"), line(spec.summary)]
    for requirement in spec.requirements:
        parts.append(line(f"{requirement.id}  {requirement.text}", "bold"))
        for criterion in requirement.criteria:
            holds = "  (holds already)" if criterion.already_holds else ""
            parts.append(Padding(line(f"{criterion.id}  {criterion.text}{holds}"), (0, 0, 0, 4)))
    parts += _listed("Not part of it", spec.non_goals)
    parts += _listed("Assumed", spec.assumptions)
    return Group(*parts)


def plan_text(plan: PlanDraft) -> RenderableType:
    """Return a plan: its approach, and its tasks with what each waits for."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Task", "Size", "Title", "After", "Criteria", "Files"):
        table.add_column(name, overflow="fold")
    for task in plan.tasks:
        cells = (
            task.id,
            task.size,
            task.title,
            " ".join(task.depends_on) or "-",
            " ".join(task.criteria) or "-",
            "\n".join(task.files) or "-",
        )
        table.add_row(*(line(cell) for cell in cells))
    interfaces = [f"{i.file}: {i.signature}" for i in plan.interfaces]
    return Group(line(plan.approach), table, *_listed("Shared interfaces", interfaces))


def evidence_table(evidence: Evidence) -> RenderableType:
    """Return the proof: each criterion, its tests, and whether it holds."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "Criterion", "Tests", "Tasks"):
        table.add_column(name, overflow="fold")
    for found in evidence.criteria:
        mark = Text("holds", "green") if found.holds else Text("RED", "bold red")
        passed = sum(t.outcome == "passed" for t in found.tests)
        tests = f"{passed} of {len(found.tests)} pass ({found.source})"
        table.add_row(
            mark,
            line(f"{found.criterion}  {found.text}"),
            line(tests),
            line(" ".join(found.tasks) or "-"),
        )
    suite = evidence.suite.tests
    passed = sum(t.outcome == "passed" for t in suite)
    own = f"The repository's own tests: {passed} of {len(suite)} pass. Commit {evidence.commit[:12]}."
    return Group(table, line(own), *_listed("Problems", evidence.problems))


def questions_text(questions: Questions) -> RenderableType:
    """Return clarifying questions with their defaults."""
    parts: list[RenderableType] = []
    for question in questions.items:
        parts.append(line(f"{question.id}  {question.text}", "bold"))
        parts.append(Padding(line(f"default: {question.default}"), (0, 0, 0, 4)))
    return Group(*parts)


def lessons_text(lessons: Lessons) -> RenderableType:
    """Return what was learned: each lesson with its kind and where it was seen."""
    if not lessons.items:
        return line(f"None: {lessons.why_none}" if lessons.why_none else "None: nothing new was learned.")
    parts: list[RenderableType] = []
    for lesson in lessons.items:
        seen = " ".join([*lesson.provenance.tasks, *lesson.provenance.criteria])
        parts.append(line(f"{lesson.kind}  {' '.join(lesson.tags)}  (seen in {seen})", "bold"))
        parts.append(Padding(line(lesson.text), (0, 0, 0, 4)))
    return Group(*parts)


def _listed(title: str, items: list[str]) -> list[RenderableType]:
    if not items:
        return []
    return [line(title, "bold"), *(Padding(line(f"- {item}"), (0, 0, 0, 2)) for item in items)]


_READERS: dict[str, Callable[[dict[str, Any]], RenderableType]] = {
    "spec": lambda value: spec_text(SpecDraft.model_validate(_only(SpecDraft, value))),
    "plan": lambda value: plan_text(PlanDraft.model_validate(_only(PlanDraft, value))),
    "evidence": lambda value: evidence_table(Evidence.model_validate(value)),
    "questions": lambda value: questions_text(Questions.model_validate(value)),
    "lessons": lambda value: lessons_text(Lessons.model_validate(value)),
}


def tasks_table(rows: list[tuple[str, str, str, str]]) -> Table:
    """Return the task board: (task, title, status, what is said of it)."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for name in ("Task", "Title", "Status", ""):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for task, title, status, said in rows:
        style = STATUS_STYLES.get(status, "")
        table.add_row(
            line(task), line(one_line(title, 44)), line(status, style), line(one_line(said, 60), "dim")
        )
    return table


def new_console(stream: TextIO | None = None) -> Console:
    """Return a console on a stream, standard output when left out, in which nothing foreign is markup."""
    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width)
