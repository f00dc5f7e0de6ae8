"""The evidence report: requirement → criterion → task → commit → test → result."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from phoenix.domain.approval import GateDecision
from phoenix.domain.evidence import CriterionEvidence
from phoenix.domain.forecast import TaskCost
from phoenix.domain.lessons import Lessons
from phoenix.domain.run import Usage
from phoenix.ports import Parcel

SOURCES = {
    "sealed": "acceptance tests, written before the code and out of the coder's reach",
    "declared": "tests the coder wrote with the code",
}

HOW = {"policy": "by the policy, nobody was asked", "deadline": "by the deadline, nobody decided in time"}


def plain(text: str) -> str:
    """Make foreign text safe inside one Markdown line or table cell."""
    line = re.sub(r"\s+", " ", "".join(c for c in text if c.isprintable() or c.isspace())).strip()
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line)


def report_markdown(parcel: Parcel, *, branch: str) -> str:
    """Return the report as Markdown, the same text for the same parcel."""
    evidence = parcel.evidence
    verdict = "All criteria hold." if evidence.passed else "**Not everything holds.**"
    lines = [
        f"# Evidence: {plain(parcel.title)}",
        "",
        f"{verdict} Verified at commit `{evidence.commit}` (branch `{branch}`) in a clean checkout and a "
        f"fresh {evidence.sandbox} sandbox, verification {evidence.round}.",
        "",
        "## Criteria",
        "",
        "| criterion | holds | tests | tasks | commits |",
        "|---|---|---|---|---|",
        *[_row(c) for c in evidence.criteria],
        "",
        f"Criteria are decided by {_source(evidence.criteria)}.",
        "",
    ]
    for requirement in parcel.spec.requirements:
        ids = ", ".join(c.id for c in requirement.criteria)
        lines.append(f"- {requirement.id}: {plain(requirement.text)} ({ids})")
    lines += ["", "## Tests", ""]
    for criterion in evidence.criteria:
        for test in criterion.tests:
            lines.append(f"- {criterion.criterion}: `{test.id}` {test.outcome}")
    passed = sum(t.outcome == "passed" for t in evidence.suite.tests)
    lines += [
        "",
        f"Whole suite: {passed} of {len(evidence.suite.tests)} passed (`{evidence.suite.command}`).",
    ]
    if evidence.left_out or evidence.stopped:
        lines += ["", "## Left out", ""]
        lines += [f"- {plain(c)} does not hold: the tasks for it were left out." for c in evidence.left_out]
        lines += [f"- Nothing more was built: {plain(evidence.stopped)}"] if evidence.stopped else []
    if evidence.problems:
        lines += ["", "## Problems", "", *[f"- {plain(p)}" for p in evidence.problems]]
    lines += ["", *_decisions(evidence.decisions), *_tasks(parcel), "## Commits", ""]
    lines += [f"- `{commit[:12]}` {plain(subject)}" for commit, subject in parcel.log]
    lines += ["", "## Requirement", "", *[f"> {line}" for line in parcel.requirement.splitlines()], ""]
    lines += _list("Non-goals", parcel.spec.non_goals) + _list("Assumptions", parcel.spec.assumptions)
    lines += ["## Cost", "", f"{_cost(parcel.usage)}", "", *_task_costs(parcel.costs)]
    return "\n".join(lines)


def _row(c: CriterionEvidence) -> str:
    passed = sum(t.outcome == "passed" for t in c.tests)
    cells = [
        f"{c.criterion}: {plain(c.text)}",
        "yes" if c.holds else "**no**",
        f"{passed} of {len(c.tests)}",
        ", ".join(c.tasks),
        ", ".join(f"`{commit[:12]}`" for commit in c.commits),
    ]
    return f"| {' | '.join(cells)} |"


def _source(criteria: list[CriterionEvidence]) -> str:
    return " and ".join(text for key, text in SOURCES.items() if any(c.source == key for c in criteria))


def _decisions(decisions: list[GateDecision]) -> list[str]:
    """Return who decided what and why; where nobody was asked, or nobody answered, that is said."""
    if not decisions:
        return []
    lines = ["## Decisions", ""]
    for one in decisions:
        place = f" of {plain(one.key)}" if one.key else ""
        by = HOW.get(one.how, f"by {plain(one.by)}")
        lines.append(
            f"- {plain(one.gate)}{place}: {one.verdict} {by}, {one.at:%Y-%m-%d %H:%M} UTC{_why(one.reason)}"
        )
        if len(one.votes) > 1:
            lines += [f"    - {plain(v.voter)}: {v.verdict}{_why(v.reason)}" for v in one.votes]
    return [*lines, ""]


def _why(reason: str) -> str:
    return f": {plain(reason[:1000])}" if reason.strip() else ""


def _tasks(parcel: Parcel) -> list[str]:
    if parcel.plan is None:
        return []
    titles = {t.id: t.title for t in parcel.plan.tasks}
    lines = ["## Tasks", ""]
    for task in parcel.build.tasks:
        title = plain(titles.get(task.task, "repair"))
        note = f": {plain(task.reason[:300])}" if task.reason else ""
        taken = " (reused: nothing that it reads has changed)" if task.reused else ""
        lines.append(f"- {task.task} {title}: {task.status}{taken}{note}")
        lines += [f"    - reviewer's note: {plain(n[:500])}" for n in task.notes]
    return [*lines, ""]


def _list(title: str, items: list[str]) -> list[str]:
    return [f"## {title}", "", *[f"- {plain(i)}" for i in items], ""] if items else []


def _cost(usage: Usage) -> str:
    cost = "of unknown price" if usage.cost_usd is None else f"{usage.cost_usd:.4f} USD"
    return f"{usage.calls} model calls, {usage.input_tokens} tokens in, {usage.output_tokens} out, {cost}."


def _task_costs(costs: Sequence[TaskCost]) -> list[str]:
    """Return what tasks cost beside what was expected."""
    if not costs:
        return []
    lines = ["| task | cost | expected | range | from |", "|---|---|---|---|---|"]
    for one in costs:
        cost = "unknown" if one.usage.cost_usd is None else f"{one.usage.cost_usd:.4f} USD"
        cells = [plain(one.task), cost, "-", "-", "-"]
        if one.expected is not None:
            low, high = one.expected.low, one.expected.high
            basis = f"{one.expected.tasks} past tasks" if one.expected.tasks else "assumed"
            cells[2:] = [f"{one.expected.usd:.4f} USD", f"{low:.4f} to {high:.4f} USD", basis]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def report_json(parcel: Parcel, *, branch: str) -> str:
    """Return the same facts as JSON, for programs."""
    data: dict[str, Any] = {
        "title": parcel.title,
        "branch": branch,
        "evidence": parcel.evidence.model_dump(mode="json"),
        "spec": parcel.spec.model_dump(mode="json"),
        "plan": parcel.plan.model_dump(mode="json") if parcel.plan else None,
        "build": parcel.build.model_dump(mode="json"),
        "commits": [{"id": c, "subject": s} for c, s in parcel.log],
        "usage": parcel.usage.model_dump(mode="json"),
        "costs": [one.model_dump(mode="json") for one in parcel.costs],
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def lessons_markdown(lessons: Lessons) -> str:
    """Return what a project taught as Markdown, each lesson with where it was seen."""
    lines = [
        "# Lessons",
        "",
        "Written by an agent from what this project went through; data, not advice.",
        "",
    ]
    for lesson in lessons.items:
        tags = f" ({', '.join(lesson.tags)})" if lesson.tags else ""
        seen = ", ".join([*lesson.provenance.tasks, *lesson.provenance.criteria])
        lines += [f"## {lesson.kind}{tags}", "", fenced(lesson.text), "", f"Seen in {seen}.", ""]
    return "\n".join(lines)


def fenced(text: str) -> str:
    """Put foreign text of several lines where nothing in it is markup."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    bar = "`" * max(3, longest + 1)
    return f"{bar}text\n{text}\n{bar}"
