"""Verify a build in a clean checkout and a fresh sandbox: the full tests, and the sealed ones."""

from __future__ import annotations

import asyncio

from langgraph.runtime import Runtime

from phoenix.agents.checking import clean_checkout, lay_sealed, new_failures, results_of
from phoenix.agents.results import cap, suite_text
from phoenix.domain.evidence import Build, CriterionEvidence, Evidence, Sealed, SealedTest, SuiteResult
from phoenix.domain.plan import Plan
from phoenix.domain.project import Request
from phoenix.domain.spec import Criterion, Spec
from phoenix.flow import step
from phoenix.ports import Ports
from phoenix.workflows.soundness import unsound

TREE = "verify"
SEALED_TREE = "verify-sealed"


@step(name="verify")
async def verify(build: Build, runtime: Runtime[Ports]) -> Evidence:
    """Prove each criterion on the built commit, sealed tests restored from their digest."""
    return await prove(build, runtime.context)


async def prove(build: Build, ports: Ports) -> Evidence:
    """Return the evidence for a build; nothing of an earlier verification is reused."""
    digest = await ports.artifacts.put(build)
    spec = await ports.artifacts.get(build.spec, Spec)
    plan = await ports.artifacts.get(build.plan, Plan) if build.plan else None
    sealed = await ports.artifacts.get(build.sealed, Sealed) if build.sealed else None
    commit = await _with_sealed(build, sealed, ports)
    decided, suite = await asyncio.gather(_sealed_run(commit, sealed, ports), _whole_run(commit, ports))
    origin = await _origin(build, ports)
    folders = [sealed.folder] if sealed else []
    problems = [
        f"{t.id} {t.outcome}: {cap(t.message, 2000)}"
        for t in await new_failures(ports, suite, origin, name=TREE, apart_from=folders)
    ]
    problems += await unsound(ports, commit, origin, suite=suite, decided=decided, sealed=sealed)
    problems += [
        f"{t.task} {t.status}: {cap(t.reason, 2000)}"
        for t in build.tasks
        if t.status in ("failed", "blocked") and build.round in (1, _round(t.task))
    ]
    tests = sealed.tests if sealed else _declared_tests(build)
    criteria = [
        _criterion(c, [t for t in tests if t.criterion == c.id], decided if sealed else suite, build, plan)
        for c in spec.criteria()
    ]
    passed = all(c.holds for c in criteria) and not problems
    out = await ports.gates.left_out()
    evidence = Evidence(
        build=digest,
        spec=build.spec,
        commit=commit,
        criteria=criteria,
        suite=_trimmed(suite),
        problems=problems,
        passed=passed,
        sandbox=ports.sandboxes.kind,
        round=build.round,
        left_out=_left_out(criteria, build, plan),
        stopped=out.stopped,
    )
    await ports.artifacts.put(evidence)
    await ports.events.emit(
        "build_verified",
        round=build.round,
        passed=passed,
        criteria={c.criterion: c.holds for c in criteria},
        tests=suite_text(suite, 1500),
        problems=[p[:300] for p in problems],
    )
    return evidence


def _round(task: str) -> int:
    """Return the round of a repair task, which makes up for what failed before; 1 for a plan's task."""
    return int(task[1:]) if task.startswith("R") else 1


async def _with_sealed(build: Build, sealed: Sealed | None, ports: Ports) -> str:
    """Return the commit to verify: the build with the sealed tests as they were written."""
    if sealed is None:
        return build.commit
    await ports.workspace.remove(TREE)
    tree = await clean_checkout(ports, TREE, build.commit)
    await lay_sealed(ports, tree, sealed)
    return await ports.workspace.commit(TREE, message="Add the acceptance tests", parents=[build.commit])


async def _sealed_run(commit: str, sealed: Sealed | None, ports: Ports) -> SuiteResult:
    """Run the sealed tests in a checkout of their own."""
    if sealed is None:
        return SuiteResult(command="", exit_code=0)
    tree = await clean_checkout(ports, SEALED_TREE, commit)
    return await ports.harness.run(tree.path, paths=[f.path for f in sealed.files], sealed=True)


async def _whole_run(commit: str, ports: Ports) -> SuiteResult:
    """Run all tests of the repository."""
    tree = await clean_checkout(ports, TREE, commit)
    return await ports.harness.run(tree.path)


async def _origin(build: Build, ports: Ports) -> str:
    """Return the commit that the project started from: its old failures are not ours."""
    if build.plan is None:
        return build.base
    spec = await ports.artifacts.get(build.spec, Spec)
    request = await ports.artifacts.get(spec.request, Request)
    return await ports.workspace.prepare(request.repository)


def _declared_tests(build: Build) -> list[SealedTest]:
    return [SealedTest(id=i, criterion=d.criterion, red=False) for d in build.declared for i in d.tests]


def _criterion(
    criterion: Criterion, tests: list[SealedTest], suite: SuiteResult, build: Build, plan: Plan | None
) -> CriterionEvidence:
    results = [r for t in tests for r in results_of(t, suite)]
    covering = {t.id for t in plan.tasks if criterion.id in t.criteria} if plan else set()
    done = [t for t in build.tasks if t.status == "done" and (t.task in covering or t.task.startswith("R"))]
    return CriterionEvidence(
        criterion=criterion.id,
        text=criterion.text,
        holds=bool(results) and all(r.outcome == "passed" for r in results),
        source="sealed" if build.sealed else "declared",
        tests=[r.model_copy(update={"message": cap(r.message, 4000)}) for r in results],
        tasks=[t.task for t in done],
        commits=[t.commit for t in done if t.commit] or ([] if plan else [build.commit]),
    )


def _left_out(criteria: list[CriterionEvidence], build: Build, plan: Plan | None) -> list[str]:
    """Return the criteria that do not hold since tasks for them were left out."""
    skipped = {t.task for t in build.tasks if t.status == "skipped"}
    covered = {c for t in (plan.tasks if plan else ()) if t.id in skipped for c in t.criteria}
    return [c.criterion for c in criteria if not c.holds and c.criterion in covered]


def _trimmed(suite: SuiteResult) -> SuiteResult:
    tests = [t.model_copy(update={"message": cap(t.message, 1000)}) for t in suite.tests]
    return suite.model_copy(update={"tests": tests, "output": cap(suite.output, 4000)})
