"""Build a plan: child runs for ready tasks, side by side, and a merge queue in the plan's order.

A task starts from the contract and the tasks it depends on, and from nothing else; the queue merges
in a fixed order. So timing changes neither what an agent sees nor the commit that comes out.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

from langgraph.runtime import Runtime

from phoenix.domain.evidence import Build, Evidence, Sealed, TaskResult
from phoenix.domain.gates import LeftOut
from phoenix.domain.plan import Contract, Plan
from phoenix.domain.run import FINISHED, Run
from phoenix.domain.work import BuildState, TaskWork
from phoenix.flow import Feedback, branch_on, loop_until, step, wait
from phoenix.ports import ChildSpec, Ports
from phoenix.workflows.merging import merge_task
from phoenix.workflows.reuse import Readings, continued, reused

MAX_PASSES = 200
OVER = ("done", "failed", "blocked", "skipped")


@step(name="start_build")
async def start_build(
    value: Sealed | Evidence, runtime: Runtime[Ports], feedback: Feedback | None
) -> BuildState:
    """Lay out the plan's tasks, or a repair task for what a verification found."""
    ports = runtime.context
    if isinstance(value, Evidence):
        return await _repair(value, ports, feedback.text if feedback else "")
    contract = await ports.artifacts.get(value.contract, Contract)
    plan = await ports.artifacts.get(contract.plan, Plan)
    sealed = await ports.artifacts.put(value)
    order = in_order(plan)
    works = [
        TaskWork(
            spec=plan.spec,
            plan=contract.plan,
            sealed=sealed,
            task=t.id,
            title=t.title,
            brief=t.description,
            criteria=t.criteria,
            files=t.files,
            check=t.check,
            base=contract.commit,
        )
        for t in (plan.task(task_id) for task_id in order)
    ]
    return BuildState(
        spec=plan.spec,
        plan=contract.plan,
        sealed=sealed,
        base=contract.commit,
        head=contract.commit,
        tasks=works,
        results=[TaskResult(task=w.task, status="waiting") for w in works],
        waits_for={t.id: t.depends_on for t in plan.tasks},
    )


def in_order(plan: Plan) -> list[str]:
    """Return task ids so that each comes after what it depends on, ties in the plan's order."""
    place = {t.id: n for n, t in enumerate(plan.tasks)}
    sorter = TopologicalSorter({t.id: t.depends_on for t in plan.tasks})
    sorter.prepare()
    order: list[str] = []
    ready = sorted(sorter.get_ready(), key=place.__getitem__)
    while ready:
        task_id = ready.pop(0)
        order.append(task_id)
        sorter.done(task_id)
        ready = sorted([*ready, *sorter.get_ready()], key=place.__getitem__)
    return order


async def _repair(evidence: Evidence, ports: Ports, guidance: str) -> BuildState:
    """Make the one task that mends what is red."""
    build = await ports.artifacts.get(evidence.build, Build)
    assert build.plan is not None
    assert build.sealed is not None
    red = [c for c in evidence.criteria if not c.holds and c.criterion not in evidence.left_out]
    lines = [f"{c.criterion} does not hold: {c.text}" for c in red]
    lines += [f"  {t.id}: {t.message[:1500]}" for c in red for t in c.tests if t.outcome != "passed"]
    lines += evidence.problems
    if guidance:
        lines.append(f"The person who reviewed the delivery says: {guidance}")
    round_ = build.round + 1
    work = TaskWork(
        spec=build.spec,
        plan=build.plan,
        sealed=build.sealed,
        task=f"R{round_}",
        title="Mend what the verification found",
        brief="The software was built and verified as a whole. Mend this:\n" + "\n".join(lines),
        criteria=[c.criterion for c in red] or [c.criterion for c in evidence.criteria],
        base=build.commit,
    )
    return BuildState(
        spec=build.spec,
        plan=build.plan,
        sealed=build.sealed,
        base=build.commit,
        head=build.commit,
        tasks=[work],
        results=[TaskResult(task=work.task, status="waiting")],
        earlier=build.tasks,
        waits_for={work.task: []},
        round=round_,
    )


@step(name="open_tasks")
async def open_tasks(state: BuildState, runtime: Runtime[Ports]) -> BuildState:
    """Open a child run for every task whose dependencies are built."""
    ports = runtime.context
    state = _without(state, await ports.gates.left_out())
    opened = {run.key for run in await ports.children.read(f"build/{state.round}/")}
    children = []
    for n, waiting in enumerate(state.tasks):
        status = {r.task: r.status for r in state.results}
        needs = state.waits_for.get(waiting.task, [])
        if status[waiting.task] != "waiting" or not all(status[d] in ("built", "done") for d in needs):
            continue
        base = await _base_for(waiting, state, ports)
        if base is None:
            continue
        work, result = waiting.model_copy(update={"base": base}), state.results[n]
        # What was opened before a crash is that child's, whatever it has come to since.
        if _key(state, work.task) not in opened:
            work, result = await _settled_by_reuse(work, result, ports)
        if result.status == "waiting":
            result = result.model_copy(update={"status": "running"})
            children.append(ChildSpec(key=_key(state, work.task), flow="task", input=work))
        state = _with(state, n, work, result)
    if children:
        await ports.children.open(children)
    return await _told(state, ports)


def _with(state: BuildState, n: int, work: TaskWork, result: TaskResult) -> BuildState:
    tasks, results = list(state.tasks), list(state.results)
    tasks[n], results[n] = work, result
    return state.model_copy(update={"tasks": tasks, "results": results})


async def _settled_by_reuse(work: TaskWork, result: TaskResult, ports: Ports) -> tuple[TaskWork, TaskResult]:
    """Return a task with the address of what it reads, built already if a finished one had read the same."""
    readings = await Readings.of(work, ports)
    tree = await ports.workspace.tree(work.base)
    if readings is None or tree is None:
        return work, result
    work = work.model_copy(update={"reads": readings.address(work, tree)})
    taken = await reused(work, result, ports)
    if taken is not None:
        return work, taken
    return await continued(work, readings, ports), result


async def _base_for(work: TaskWork, state: BuildState, ports: Ports) -> str | None:
    """Return the commit a task starts from: the round's base with all it depends on merged in.

    When those conflict with each other it waits (None) until the queue has merged them, and starts there.
    """
    needed: set[str] = set()
    queue = list(state.waits_for.get(work.task, []))
    while queue:
        task_id = queue.pop()
        if task_id not in needed:
            needed.add(task_id)
            queue += state.waits_for.get(task_id, [])
    base = state.base
    for result in state.results:
        if result.task not in needed or not result.commit:
            continue
        if base == state.base:
            base = result.commit
        else:
            merged = await ports.workspace.merge(base, result.commit, message=f"Bring in {result.task}")
            if merged.commit is None:
                settled = all(r.status == "done" for r in state.results if r.task in needed)
                return state.head if settled else None
            base = merged.commit
    return base


def _key(state: BuildState, task_id: str) -> str:
    return f"build/{state.round}/{task_id}"


@step(name="absorb")
async def absorb(state: BuildState, runtime: Runtime[Ports]) -> BuildState:
    """Take in every child that ended, and merge what is next in the queue."""
    ports = runtime.context
    rows = {r.key: r for r in await ports.children.read(f"build/{state.round}/")}
    results = [
        _ended(result, rows.get(_key(state, result.task))) if result.status == "running" else result
        for result in state.results
    ]
    state = _without(state.model_copy(update={"results": results}), await ports.gates.left_out())
    state = _blocked(state)
    for n, result in enumerate(state.results):
        if result.status in OVER:
            continue
        if result.status != "built":
            break
        head, merged = await merge_task(state, state.tasks[n], result, ports)
        results = list(state.results)
        results[n] = merged
        state = _blocked(state.model_copy(update={"head": head, "results": results}))
        if merged.status not in OVER:
            break  # people decide on it; those behind it are merged after it, in the plan's order
    return await _told(state, ports)


def _ended(result: TaskResult, row: Run | None) -> TaskResult:
    """Return a task's result after its child run ended; unchanged while it goes on."""
    if row is None or row.status not in FINISHED:
        return result
    if row.status == "success" and row.output is not None:
        work = TaskWork.model_validate(row.output)
        update = {
            "status": "built",
            "commit": work.commit,
            "summary": work.summary,
            "rounds": work.round,
            "notes": work.notes,
        }
    else:
        reason = row.error.message if row.error else f"the task was {row.status}"
        update = {"status": "failed", "reason": reason}
    return result.model_copy(update=update)


def _without(state: BuildState, left_out: LeftOut) -> BuildState:
    """Skip the tasks that people left out, and those that depend on them; what is done stays."""
    results = list(state.results)
    status = {r.task: r.status for r in results}
    for n, result in enumerate(results):
        if result.status == "done" or (result.status == "built" and result.task not in left_out.tasks):
            continue
        missing = [d for d in state.waits_for.get(result.task, []) if status[d] == "skipped"]
        reason = left_out.why(result.task)
        if not reason and missing and result.status in ("waiting", "running"):
            reason = f"depends on {', '.join(missing)}, which was left out"
        if reason:
            results[n] = result.model_copy(update={"status": "skipped", "reason": reason})
            status[result.task] = "skipped"
    return state.model_copy(update={"results": results})


def _blocked(state: BuildState) -> BuildState:
    """Mark what can no longer be built because something it depends on failed."""
    results = list(state.results)
    status = {r.task: r.status for r in results}
    for n, result in enumerate(results):
        dead = [d for d in state.waits_for.get(result.task, []) if status[d] in ("failed", "blocked")]
        if result.status in ("waiting", "built") and dead:
            results[n] = result.model_copy(
                update={"status": "blocked", "reason": f"depends on {', '.join(dead)}"}
            )
            status[result.task] = "blocked"
    return state.model_copy(update={"results": results})


async def _told(state: BuildState, ports: Ports) -> BuildState:
    """Show the task board in the events."""
    await ports.events.emit(
        "board_changed",
        round=state.round,
        tasks=[
            {
                "task": w.task,
                "title": w.title,
                "status": r.status,
                "reason": r.reason[:300],
                "reused": r.reused,
            }
            for w, r in zip(state.tasks, state.results, strict=True)
        ],
    )
    return state


@step(name="finish_build")
async def finish_build(state: BuildState) -> Build:
    """Hand over what was built."""
    return Build(
        spec=state.spec,
        plan=state.plan,
        sealed=state.sealed,
        base=state.base,
        commit=state.head,
        tasks=[*state.earlier, *state.results],
        round=state.round,
    )


def all_over(state: BuildState) -> bool:
    """Tell whether no task is waiting, running or unmerged."""
    return all(r.status in OVER for r in state.results)


def running(state: BuildState) -> str:
    """Tell whether there is a child run to wait for: a task's, or one that asks for a task's merge."""
    return "some" if any(r.status == "running" or asks_for_merge(r) for r in state.results) else "none"


def asks_for_merge(result: TaskResult) -> bool:
    """Tell whether people are asked for a task's merge."""
    return result.status == "built" and result.merged is not None


@step
async def none_running(state: BuildState) -> BuildState:
    """Go on at once: all that could be opened was taken over."""
    return state


build = (
    start_build
    >> loop_until(
        all_over,
        open_tasks >> branch_on(running, some=wait("tasks"), none=none_running) >> absorb,
        cap=MAX_PASSES,
    )
    >> finish_build
)
