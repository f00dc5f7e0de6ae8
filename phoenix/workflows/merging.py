"""The merge queue: one task at a time, conflicts found before, verified after."""

from __future__ import annotations

from phoenix.agents.checking import clean_checkout, tests_problem
from phoenix.agents.coder import resolve
from phoenix.domain.evidence import TaskResult
from phoenix.domain.work import BuildState, TaskWork
from phoenix.ports import Ports

ATTEMPTS = 2


async def merge_task(
    state: BuildState, work: TaskWork, result: TaskResult, ports: Ports
) -> tuple[str, TaskResult]:
    """Merge a built task into the head and return the new head with the task's result.

    A conflict, or a clean merge after which tests fail, goes to the resolver agent; what it hands in is
    verified again. A merge that cannot be settled leaves the head as it was and fails the task.
    """
    assert result.commit is not None
    title = f"Merge {work.task}: {work.title}"
    merged = await ports.workspace.merge(state.head, result.commit, message=title)
    problem = ""
    if merged.commit is not None:
        # The same files as the task's own commit, whose tests its check has run in a clean checkout.
        same = not await ports.workspace.patch(result.commit, merged.commit)
        problem = "" if same else await _verified(ports, merged.commit, state.head)
        if not problem:
            return await _done(ports, work, result, merged.commit, resolved=False)
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
            return await _done(ports, work, result, commit, resolved=True)
    reason = f"could not be merged: {problem or 'the resolver did not hand in a result'}"
    return state.head, result.model_copy(update={"status": "failed", "reason": reason[:4000]})


async def _done(
    ports: Ports, work: TaskWork, result: TaskResult, commit: str, *, resolved: bool
) -> tuple[str, TaskResult]:
    await ports.events.emit("task_merged", task=work.task, commit=commit, resolved=resolved)
    return commit, result.model_copy(update={"status": "done", "merged": commit})


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
