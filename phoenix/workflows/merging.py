"""The merge queue: one task at a time, conflicts found before, verified after."""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from phoenix.agents.checking import clean_checkout, tests_problem
from phoenix.agents.coder import resolve
from phoenix.domain.evidence import TaskResult
from phoenix.domain.gates import MERGE
from phoenix.domain.run import FINISHED
from phoenix.domain.work import BuildState, MergeRequest, TaskWork
from phoenix.flow import approve, step
from phoenix.ports import ChildSpec, Ports

ATTEMPTS = 2


async def merge_task(
    state: BuildState, work: TaskWork, result: TaskResult, ports: Ports
) -> tuple[str, TaskResult]:
    """Merge a built task into the head and return the new head with the task's result.

    A conflict, or a clean merge after which tests fail, goes to the resolver agent; what it hands in is
    verified again. A merge that cannot be settled leaves the head as it was and fails the task.

    Where people decide on merges a child run asks them, and the task stays `built` until it has ended.
    """
    if result.merged is not None:
        return await _decided(state, work, result, ports)
    result = await _prepared(state, work, result, ports)
    if result.merged is None:
        return state.head, result
    patch = await ports.workspace.patch(state.head, result.merged)
    proposed = MergeRequest(
        task=work.task,
        title=work.title,
        summary=result.summary,
        head=state.head,
        commit=result.merged,
        files=changed_files(patch),
        conflicts=result.conflicts,
        resolved=result.resolved,
    )
    if not await ports.gates.asks(MERGE, proposed.model_dump(mode="json")):
        return await _done(ports, work, result, result.merged)
    await ports.children.open([ChildSpec(key=gate_key(state, work.task), flow="merge", input=proposed)])
    return state.head, result


def gate_key(state: BuildState, task: str) -> str:
    """Name the child run that asks for a task's merge."""
    return f"merge/{state.round}/{task}"


def changed_files(patch: str) -> list[str]:
    """Return the files that a diff changes, by their new names."""
    lines = (line for line in patch.splitlines() if line.startswith("diff --git "))
    return sorted({line.rpartition(" b/")[2].rstrip('"') for line in lines})


async def _decided(
    state: BuildState, work: TaskWork, result: TaskResult, ports: Ports
) -> tuple[str, TaskResult]:
    """Take in what was decided on a merge, if anything was yet."""
    found = await ports.children.read(gate_key(state, work.task))
    gate = next((run for run in found if run.key == gate_key(state, work.task)), None)
    if gate is None or gate.status not in FINISHED:
        return state.head, result
    if gate.status == "success" and gate.output is not None:
        # As it was shown: a crash may have prepared the merge twice.
        shown = MergeRequest.model_validate(gate.output)
        return await _done(ports, work, result, shown.commit)
    reason = gate.error.message if gate.error else f"the merge was {gate.status}"
    update = {"status": "failed", "merged": None, "reason": f"its merge was rejected: {reason}"}
    return state.head, result.model_copy(update=update)


async def _prepared(state: BuildState, work: TaskWork, result: TaskResult, ports: Ports) -> TaskResult:
    """Make the merge, and return the result with it as `merged`; failed when it cannot be settled."""
    assert result.commit is not None
    title = f"Merge {work.task}: {work.title}"
    merged = await ports.workspace.merge(state.head, result.commit, message=title)
    problem = ""
    if merged.commit is not None:
        # The same files as the task's own commit, whose tests its check has run in a clean checkout.
        same = not await ports.workspace.patch(result.commit, merged.commit)
        problem = "" if same else await _verified(ports, merged.commit, state.head)
        if not problem:
            return result.model_copy(update={"merged": merged.commit})
    await ports.events.emit(
        "merge_conflicted", task=work.task, files=list(merged.conflicts), tests=problem[:2000]
    )
    name = f"merge-{work.task}"
    for attempt in range(1, ATTEMPTS + 1):
        handed_in = await resolve(
            ports,
            work.model_copy(update={"round": attempt, "summary": result.summary}),
            tree_name=name,
            ours=state.head,
            theirs=result.commit,
            problems=problem,
        )
        tree = await ports.workspace.worktree(name, state.head)
        await tree.restore(handed_in.commit)
        commit = await ports.workspace.commit(name, message=title, parents=[state.head, result.commit])
        problem = await _markers(ports, commit, list(merged.conflicts)) or await _verified(
            ports, commit, state.head
        )
        if not problem and handed_in.submitted:
            update = {"conflicts": list(merged.conflicts), "resolved": True, "merged": commit}
            return result.model_copy(update=update)
    reason = f"could not be merged: {problem or 'the resolver did not hand in a result'}"
    return result.model_copy(update={"status": "failed", "reason": reason[:4000]})


async def _done(ports: Ports, work: TaskWork, result: TaskResult, commit: str) -> tuple[str, TaskResult]:
    await ports.events.emit("task_merged", task=work.task, commit=commit, resolved=result.resolved)
    return commit, result.model_copy(update={"status": "done", "merged": commit})


@step(name="propose_merge")
async def propose_merge(proposed: MergeRequest, runtime: Runtime[Ports]) -> MergeRequest:
    """Show a prepared merge to those who decide on it."""
    await runtime.context.events.emit(
        "merge_proposed", task=proposed.task, commit=proposed.commit, conflicts=proposed.conflicts
    )
    return proposed


merge = propose_merge >> approve(MERGE, of=Any)
"""Asks for one merge, beside everything that does not depend on it. What was shown is what is merged."""


async def _verified(ports: Ports, commit: str, head: str) -> str:
    """Run the repository's tests on a merge; return what it broke."""
    tree = await clean_checkout(ports, "merged", commit)
    return await tests_problem(ports, await ports.harness.run(tree.path), head, name="merged")


async def _markers(ports: Ports, commit: str, files: list[str]) -> str:
    left = []
    for path in files:
        data = await ports.workspace.read(commit, path)
        if data and any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in data.splitlines()):
            left.append(path)
    return f"Conflict markers are left in {', '.join(left)}." if left else ""
