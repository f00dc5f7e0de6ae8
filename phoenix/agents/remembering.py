"""What is remembered of a delivered project: its requirement, the plan that worked, and its lessons."""

from __future__ import annotations

from collections.abc import Sequence

from phoenix.agents.results import cap
from phoenix.agents.retrospective import SMALL_TASK
from phoenix.domain.code_facts import LICENCE_FILES, changed_in, language_of, licence_of
from phoenix.domain.evidence import Build, Delivery, Evidence, TaskResult
from phoenix.domain.lessons import Lessons
from phoenix.domain.memory import MAX_MEMORY_CHARS, MemoryDraft, ProjectOutcome, TaskOutcome
from phoenix.domain.plan import Plan
from phoenix.domain.project import Request
from phoenix.domain.spec import Spec
from phoenix.ports import Ports

REQUIREMENT, PATTERN = "requirement", "decompose"
"""Agents whose words are kept."""
PASSED = ("built", "done")


async def remember(delivery: Delivery, lessons: Lessons, ports: Ports) -> None:
    """Keep what a delivered project taught, and credit what it was reminded of. Idempotent."""
    if ports.memory is None:
        return
    evidence = await ports.artifacts.get(delivery.evidence, Evidence)
    build = await ports.artifacts.get(evidence.build, Build)
    spec = await ports.artifacts.get(evidence.spec, Spec)
    request = await ports.artifacts.get(spec.request, Request)
    plan = await ports.artifacts.get(build.plan, Plan) if build.plan else None
    usage = await ports.models.usage()
    tasks = outcomes(build.tasks)
    files = [f for result in build.tasks for f in result.files]
    if plan is None:
        tasks = [TaskOutcome(task=SMALL_TASK, first_try=evidence.passed and build.round <= 1)]
        files = changed_in(await ports.workspace.patch(build.base, build.commit))
    await ports.memory.settle(ProjectOutcome(tasks=tasks, calls=usage.calls, cost_usd=usage.cost_usd))
    if not evidence.passed:
        return
    language = language_of(files)
    about = MemoryDraft(
        kind="requirement",
        text=cap(request.text, MAX_MEMORY_CHARS - 200),
        language=language,
        project=ports.project_id,
        commit=delivery.commit,
        agent=REQUIREMENT,
    )
    drafts = [about]
    # What agents wrote after reading a foreign repository may echo it.
    foreign = {"origin": "foreign", "licence": await _licence(ports, build)} if request.repository else {}
    if plan is not None:
        pattern = {"kind": "pattern", "text": pattern_text(spec, plan, tasks), "agent": PATTERN}
        drafts.append(about.model_copy(update={**pattern, **foreign}))
    drafts += [
        about.model_copy(
            update={
                "kind": lesson.kind,
                "text": lesson.text,
                "tags": lesson.tags,
                "agent": lesson.provenance.agent,
                **foreign,
            }
        )
        for lesson in lessons.items
    ]
    written = await ports.memory.keep(drafts)
    await ports.events.emit(
        "memory_written",
        items=[str(i) for i in written.stored],
        known=written.known,
        masked=written.masked,
        refused=written.refused,
        unindexed=written.unindexed,
    )


def outcomes(results: Sequence[TaskResult]) -> list[TaskOutcome]:
    """Return how the tasks of a plan went; repairs, and what was taken over from before, tell nothing."""
    return [
        TaskOutcome(task=r.task, first_try=r.status in PASSED and r.rounds <= 1 and not r.resolved)
        for r in results
        if r.task.startswith("T") and not r.reused
    ]


def pattern_text(spec: Spec, plan: Plan, tasks: Sequence[TaskOutcome]) -> str:
    """Return a spec and the plan that delivered it, as a later project reads them."""
    first = sum(t.first_try for t in tasks)
    lines = [
        f"{spec.title}: {spec.summary}",
        "Criteria:",
        *(f"- {c.text}" for c in spec.criteria()),
        f"Plan that was delivered ({first} of {len(tasks)} tasks at first try): {plan.approach}",
        *(
            f"- {t.id} {t.title} [{t.size}; {', '.join(t.files) or 'no files named'}]"
            + (f" after {', '.join(t.depends_on)}" if t.depends_on else "")
            for t in plan.tasks
        ),
    ]
    return cap("\n".join(lines), MAX_MEMORY_CHARS - 200)


async def _licence(ports: Ports, build: Build) -> str:
    for name in LICENCE_FILES:
        text = await ports.workspace.read(build.base, name)
        if text is not None:
            return licence_of(text.decode("utf-8", "replace"))
    return ""
