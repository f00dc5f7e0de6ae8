"""The retrospective agent: reads what a delivered project went through, and keeps what it taught."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from phoenix.agents.prompting import plain_yaml, render
from phoenix.agents.requirement import as_yaml
from phoenix.agents.results import cap
from phoenix.agents.steering import Inbox
from phoenix.domain.evidence import Build, CriterionEvidence, Delivery, Evidence, TaskResult
from phoenix.domain.frozen import Frozen
from phoenix.domain.lessons import (
    MAX_LESSON_CHARS,
    MAX_LESSONS,
    MAX_TAGS,
    Lesson,
    LessonKind,
    Provenance,
    Tag,
)
from phoenix.domain.memory import Recall, Recalled
from phoenix.domain.plan import Plan
from phoenix.domain.project import Request
from phoenix.domain.spec import Spec
from phoenix.domain.work import TaskWork
from phoenix.ports import Caller, Ports
from phoenix.telemetry.redaction import mask_secrets

AGENT = "retrospect"
SETBACK_CHARS = 1500
TASK_CHARS = 6000
DIFF_CHARS = 9000
MENDED_CHARS = 4000
MAX_DIFFS = 2
MAX_KNOWN = 8
SMALL_TASK = "T1"
"""The whole of the short path, which has no plan."""
TOLD_AGAIN = ("debugging", "snippet")
"""Kinds that an agent would write down again, having been told of them."""


class LessonDraft(Frozen):
    """A lesson as the agent writes it: what for, what, and the tasks and criteria it was seen in."""

    kind: LessonKind
    text: str
    tags: list[str] = []
    tasks: list[str] = []
    criteria: list[str] = []


class LessonsDraft(Frozen):
    """What the agent keeps; an empty list when the project taught nothing new."""

    lessons: list[LessonDraft] = []


@dataclass(frozen=True)
class Learned:
    """Lessons that hold together, why others were left out, and how many values were masked."""

    lessons: list[Lesson]
    refused: list[str]
    masked: int


async def retrospect(delivery: Delivery, ports: Ports) -> Learned:
    """Have the lessons of a delivered project written: one call, and one more if its answer is malformed."""
    evidence = await ports.artifacts.get(delivery.evidence, Evidence)
    build = await ports.artifacts.get(evidence.build, Build)
    spec = await ports.artifacts.get(evidence.spec, Spec)
    request = await ports.artifacts.get(spec.request, Request)
    plan = await ports.artifacts.get(build.plan, Plan) if build.plan else None
    results, works = build.tasks, await _works(ports)
    if plan is None:
        results, works = await small_history(build, ports)
    known = await seen(ports)
    messages = render(
        "retrospect",
        request=request,
        spec=as_yaml(spec),
        plan=as_yaml(plan) if plan else "",
        tasks=plain_yaml([_history(result, works.get(result.task)) for result in results]),
        mended=await _mended(works, ports),
        changes=await _changes(works, ports),
        known="\n".join(f"- {item.text}" for item in known),
        evidence=plain_yaml(_outcome(evidence)),
        most=MAX_LESSONS,
    )
    caller = Caller(AGENT)
    messages += await Inbox(ports, caller).fresh(1)
    draft = await ports.models.structured(caller, messages, LessonsDraft)
    origin = Provenance(
        project=ports.project_id,
        commit=delivery.commit,
        agent=AGENT,
        foreign=request.repository is not None,
    )
    ids = {r.task for r in results}, {c.id for c in spec.criteria()}
    return keep(draft, origin, tasks=ids[0], criteria=ids[1])


async def _works(ports: Ports) -> dict[str, TaskWork]:
    """Return each built task as its child run left it."""
    rows = await ports.children.read("build/")
    works = [TaskWork.model_validate(r.output) for r in rows if r.flow == "task" and r.output is not None]
    return {work.task: work for work in works}


async def small_history(build: Build, ports: Ports) -> tuple[list[TaskResult], dict[str, TaskWork]]:
    """Return what the short path's one task went through, as if it had been a plan's."""
    earlier = await setbacks_of(build, ports)
    first = await ports.artifacts.get(earlier[0].build, Build) if earlier else build
    problems = [said for evidence in earlier for said in problems_of(evidence)]
    work = TaskWork(
        spec=build.spec,
        task=SMALL_TASK,
        title=SMALL_TASK,
        brief="",
        base=build.base,
        commit=build.commit,
        first=first.commit,
        round=build.round,
        setbacks=problems,
    )
    result = TaskResult(
        task=SMALL_TASK, status="done", commit=build.commit, rounds=build.round, summary=build.summary
    )
    return [result], {SMALL_TASK: work}


async def setbacks_of(build: Build, ports: Ports) -> list[Evidence]:
    """Return the verifications of the short path that sent it back, the first one first."""
    found = await ports.artifacts.find(Evidence, spec=build.spec)
    return sorted((e for e in found if not e.passed and e.round < build.round), key=lambda e: e.round)


def problems_of(evidence: Evidence) -> list[str]:
    """Say what a verification found wrong, as the coding agent is told: each test once."""
    broken = [c for c in evidence.criteria if not c.holds]
    told = tuple(f"{t.id} {t.outcome}: " for c in broken for t in c.tests)
    others = [problem for problem in evidence.problems if not (told and problem.startswith(told))]
    return [*(_why_not(c) for c in broken), *others]


def _why_not(criterion: CriterionEvidence) -> str:
    said = "; ".join(f"{t.id} {t.outcome}: {t.message[:2000]}" for t in criterion.tests)
    return f"{criterion.criterion} is not shown to hold: {said or 'no test was named for it'}"


async def seen(ports: Ports) -> list[Recalled]:
    """Return the lessons that agents of this project were reminded of, each once, in their order."""
    told = await ports.artifacts.find(Recall)
    return list({i.id: i for r in told[::-1] for i in r.items if i.kind in TOLD_AGAIN}.values())[:MAX_KNOWN]


async def _mended(works: dict[str, TaskWork], ports: Ports) -> dict[str, str]:
    """Return what the tasks that were sent back most often changed after that, as diffs."""
    return {
        work.task: cap(await ports.workspace.patch(work.first, work.commit), MENDED_CHARS)
        for work in _sent_back(works)
        if work.first and work.commit and work.first != work.commit
    }


async def _changes(works: dict[str, TaskWork], ports: Ports) -> dict[str, str]:
    """Return what the tasks that were sent back most often changed in the end, as diffs."""
    return {
        work.task: cap(await ports.workspace.patch(work.base, work.commit or work.base), DIFF_CHARS)
        for work in _sent_back(works)
    }


def _sent_back(works: dict[str, TaskWork]) -> list[TaskWork]:
    return sorted((w for w in works.values() if w.setbacks and w.commit), key=lambda w: -w.round)[:MAX_DIFFS]


def _history(result: TaskResult, work: TaskWork | None) -> dict[str, object]:
    """Say what a task went through; what did not happen is left out."""
    setbacks = [cap(text, SETBACK_CHARS).strip() for text in work.setbacks] if work else []
    facts = {
        "task": result.task,
        "mended": cap(work.brief, TASK_CHARS) if work and result.task.startswith("R") else "",
        "status": result.status,
        "rounds": result.rounds,
        "sent_back_for": setbacks[-5:],
        "conflicts_resolved_in": result.conflicts,
        "failed_because": cap(result.reason, SETBACK_CHARS),
        "handed_in_as": cap(result.summary, SETBACK_CHARS),
        "reviewers_notes": [cap(note, SETBACK_CHARS) for note in result.notes],
    }
    return {name: value for name, value in facts.items() if value}


def _outcome(evidence: Evidence) -> dict[str, object]:
    """Say how the delivery was verified."""
    passed = sum(test.outcome == "passed" for test in evidence.suite.tests)
    facts = {
        "verification": evidence.round,
        "tests": f"{passed} of {len(evidence.suite.tests)} passed",
        "criteria_that_do_not_hold": [c.criterion for c in evidence.criteria if not c.holds],
        "problems": [cap(problem, SETBACK_CHARS) for problem in evidence.problems],
    }
    return {name: value for name, value in facts.items() if value}


def keep(draft: LessonsDraft, origin: Provenance, *, tasks: set[str], criteria: set[str]) -> Learned:
    """Return what of a draft can be kept.

    A lesson that is empty, too long or names no task or criterion of the project is left out: nobody could
    tell where it comes from. Tags that are no single words go too. What looks like a secret is masked.
    """
    kept: list[Lesson] = []
    refused: list[str] = []
    masked = 0
    for number, written in enumerate(draft.lessons, 1):
        text, hidden = mask_secrets(written.text.strip())
        sources = [t for t in written.tasks if t in tasks], [c for c in written.criteria if c in criteria]
        problem = _problem(text, found=any(sources), full=len(kept) == MAX_LESSONS)
        if problem:
            refused.append(f"lesson {number} {problem}")
            continue
        masked += hidden
        provenance = origin.model_copy(update={"tasks": sources[0], "criteria": sources[1]})
        kept.append(Lesson(kind=written.kind, text=text, tags=_tags(written.tags), provenance=provenance))
    return Learned(kept, refused, masked)


def _problem(text: str, *, found: bool, full: bool) -> str:
    if full:
        return f"is more than {MAX_LESSONS}"
    if not text:
        return "is empty"
    if len(text) > MAX_LESSON_CHARS:
        return f"has {len(text)} characters; {MAX_LESSON_CHARS} is the most"
    return "" if found else "names no task or criterion of this project"


def _tags(written: list[str]) -> list[str]:
    """Return usable tags in small letters, each once."""
    found: dict[str, None] = {}
    for tag in written:
        try:
            found[_TAG.validate_python(mask_secrets(tag.strip().lower().replace(" ", "-"))[0])] = None
        except ValidationError:
            continue
    return list(found)[:MAX_TAGS]


_TAG: TypeAdapter[str] = TypeAdapter(Tag)
