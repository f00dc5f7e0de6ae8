"""One task of a plan: code, check and review until green, on a thread and a worktree of its own."""

from __future__ import annotations

import asyncio

from langgraph.runtime import Runtime

from phoenix.agents.checking import clean_checkout, lay_sealed, results_of, tests_problem
from phoenix.agents.coder import folder_of, work_on
from phoenix.agents.desk import IMPORTS, MAX_BASH_SECONDS
from phoenix.agents.results import cap
from phoenix.agents.reviewer import review
from phoenix.domain.evidence import Sealed
from phoenix.domain.plan import Plan
from phoenix.domain.spec import Spec
from phoenix.domain.work import FinishedTask, TaskWork
from phoenix.errors import AgentGaveUp, SealBroken
from phoenix.flow import Pipeline, loop_until, step
from phoenix.ports import Ports

ROUNDS = 3


def tree_name(work: TaskWork) -> str:
    """Name the worktree of a task."""
    return f"task-{work.task}"


@step(name="code")
async def code_task(work: TaskWork, runtime: Runtime[Ports]) -> TaskWork:
    """Let the coding agent work on the task until it submits."""
    begun = work.model_copy(
        update={
            "round": work.round + 1,
            "sent_back": work.problems,
            "setbacks": [*work.setbacks, *work.problems],
        }
    )
    done = await work_on(begun, runtime.context, tree_name=tree_name(work))
    unfinished = f"The work was not submitted. Finish what is left, then submit. Last said: {done.summary}"
    return begun.model_copy(
        update={
            "commit": done.commit,
            "first": begun.first or done.commit,
            "summary": done.summary or begun.summary,
            "declared": done.declared or begun.declared,
            "problems": [] if done.submitted else [unfinished],
        }
    )


@step(name="check")
async def check_task(work: TaskWork, runtime: Runtime[Ports]) -> TaskWork:
    """Run the task's check, the repository's tests and the sealed tests that can hold by now."""
    ports = runtime.context
    assert work.commit is not None
    tree = await clean_checkout(ports, f"check-{work.task}", work.commit)
    changed = await tree.changed(work.base)
    folder = await folder_of(ports, work.sealed)
    # A file or a link in the place of the folder, or of one above it, would keep the tests out as well.
    touched = [p for p in changed if f"{p}/".startswith(f"{folder}/") or f"{folder}/".startswith(f"{p}/")]
    if work.sealed and touched:
        await ports.events.emit("seal_broken", task=work.task, files=changed[:20])
        return work.model_copy(update={"broken_seal": True})
    problems = list(work.problems)
    if not changed:
        problems.append("Nothing was changed.")
    own, sealed = await asyncio.gather(
        _checks(work, ports, f"check-{work.task}"), _sealed_problems(work, ports, f"sealed-{work.task}")
    )
    problems += [*own, *sealed]
    await ports.events.emit("task_checked", task=work.task, round=work.round, problems=len(problems))
    return work.model_copy(update={"problems": problems})


async def _checks(work: TaskWork, ports: Ports, name: str) -> list[str]:
    """Run the task's check and the repository's tests in its clean checkout; return what is wrong."""
    assert work.commit is not None
    tree = await ports.workspace.worktree(name, work.commit)
    problems = []
    if work.check:
        environment = await ports.provisioner.provision(tree.path)
        sandbox = ports.sandboxes.open(tree.path, environment=environment)
        result = await sandbox.execute(work.check, timeout_seconds=MAX_BASH_SECONDS, variables=IMPORTS)
        if not result.ok:
            said = cap(f"{result.stdout}\n{result.stderr}".replace(sandbox.root, "."), 6000)
            problems.append(f"The task's check failed: {work.check}\n{said}")
    wrong = await tests_problem(ports, await ports.harness.run(tree.path), work.base, name=name)
    if wrong:
        problems.append(f"Tests of the repository fail:\n{wrong}")
    return problems


async def _sealed_problems(work: TaskWork, ports: Ports, name: str) -> list[str]:
    """Run the sealed tests of criteria that this task and those before it complete."""
    if work.sealed is None or work.plan is None or work.commit is None:
        return []
    sealed = await ports.artifacts.get(work.sealed, Sealed)
    ready = decidable(await ports.artifacts.get(work.plan, Plan), work)
    tests = [t for t in sealed.tests if t.criterion in ready]
    if not tests:
        return []
    tree = await clean_checkout(ports, name, work.commit)
    paths = await lay_sealed(ports, tree, sealed)
    hidden = sorted(set(paths) - set(await tree.files()))
    if hidden:
        return [
            f"A .gitignore leaves out the acceptance tests' files {', '.join(hidden)}. Take them back in."
        ]
    suite = await ports.harness.run(tree.path, paths=paths, sealed=True)
    return [
        f"Criterion {test.criterion} does not hold yet ({result.outcome}):\n{cap(result.message, 3000)}"
        for test in tests
        for result in results_of(test, suite)
        if result.outcome != "passed"
    ]


def decidable(plan: Plan, work: TaskWork) -> set[str]:
    """Return the task's criteria that no task outside it and its dependencies has a part in."""
    known = {t.id: t for t in plan.tasks}
    if work.task not in known:  # a repair task stands on everything that was built
        return set(work.criteria)
    inside, queue = set(), [work.task]
    while queue:
        task_id = queue.pop()
        if task_id not in inside:
            inside.add(task_id)
            queue += known[task_id].depends_on
    return {c for c in work.criteria if {t.id for t in plan.tasks if c in t.criteria} <= inside}


@step(name="review")
async def review_task(work: TaskWork, runtime: Runtime[Ports]) -> TaskWork:
    """Have a green change reviewed; blocking findings send it back."""
    if work.problems or work.broken_seal or work.commit is None:
        return work
    report = await review(work, work.commit, runtime.context)
    blocking = [f for f in report.findings if f.blocking]
    await runtime.context.events.emit(
        "task_reviewed", task=work.task, round=work.round, blocking=len(blocking), summary=report.summary
    )
    said = [(f.blocking, f"{f.file + ': ' if f.file else ''}{f.text}") for f in report.findings]
    return work.model_copy(
        update={
            "problems": [f"Review: {text}" for blocks, text in said if blocks],
            "notes": [text for blocks, text in said if not blocks],
        }
    )


@step(name="keep")
async def keep_task(work: TaskWork, runtime: Runtime[Ports]) -> TaskWork:
    """Make the task's lasting commit.

    Raises:
        SealBroken: the coder wrote where the acceptance tests belong.
    """
    if work.broken_seal:
        raise SealBroken(f"{work.task} changed files of the sealed acceptance tests; its work is refused.")
    ports = runtime.context
    assert work.commit is not None
    await clean_checkout(ports, f"check-{work.task}", work.commit)
    commit = await ports.workspace.commit(f"check-{work.task}", message=message_of(work), parents=[work.base])
    if work.reads is not None:
        spec = await ports.artifacts.get(work.spec, Spec)
        finished = FinishedTask(
            reads=work.reads,
            task=work.task,
            base=work.base,
            commit=commit,
            criteria=[c for c in spec.criteria() if c.id in work.criteria],
            summary=work.summary,
            rounds=work.round,
            notes=work.notes,
        )
        await ports.artifacts.put(finished)
    return work.model_copy(update={"commit": commit})


def message_of(work: TaskWork) -> str:
    """Return the message of a task's lasting commit."""
    return f"{work.task}: {work.title}\n\n{work.summary}".strip()


@step(name="give_up")
async def give_up(work: TaskWork) -> TaskWork:
    """End a task that is not green after its rounds.

    Raises:
        AgentGaveUp: always, with the problems of the last round.
    """
    raise AgentGaveUp(
        f"{work.task} is not green after {work.round} rounds:\n" + cap("\n".join(work.problems), 4000)
    )


def settled(work: TaskWork) -> bool:
    """Tell whether a task needs no further round."""
    return not work.problems or work.broken_seal


def task_with(rounds: int = ROUNDS) -> Pipeline[TaskWork, TaskWork]:
    """Return the workflow in which a task is written at most so many times."""
    return (
        loop_until(settled, code_task >> check_task >> review_task, cap=rounds, on_cap=give_up) >> keep_task
    )


task = task_with()
