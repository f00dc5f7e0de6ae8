"""What a coding agent is told about a task, and the resolver's about a merge."""

from __future__ import annotations

from phoenix.agents.coding import Submission, code
from phoenix.agents.desk import Desk
from phoenix.agents.grounding import ground, is_test
from phoenix.agents.prompting import render
from phoenix.agents.recalling import recall, reminder
from phoenix.agents.requirement import as_yaml
from phoenix.agents.results import cap, suite_text
from phoenix.agents.reviewer import interfaces_text
from phoenix.agents.test_author import sealed_folder
from phoenix.domain.code_facts import language_of
from phoenix.domain.evidence import Sealed
from phoenix.domain.plan import Plan, size_in
from phoenix.domain.spec import Spec
from phoenix.domain.work import TaskWork
from phoenix.errors import AgentGaveUp
from phoenix.ports import Caller, Ports, Worktree

MAX_DIFF_CHARS = 30_000


async def folder_of(ports: Ports, sealed: str | None, files: tuple[str, ...] = ()) -> str:
    """Return where sealed tests live, or would live."""
    if sealed is None:
        return sealed_folder(files)
    return (await ports.artifacts.get(sealed, Sealed)).folder


async def work_on(task: TaskWork, ports: Ports, *, tree_name: str) -> Submission:
    """Let the coding agent do a task, or go on with one that was sent back.

    Raises:
        AgentGaveUp: the agent says what keeps it from finishing.
    """
    start = task.commit or task.base
    tree = await ports.workspace.worktree(tree_name, task.base)
    if await tree.current() != start:
        await tree.restore(start)
    environment = await ports.provisioner.provision(tree.path)
    spec = await ports.artifacts.get(task.spec, Spec)
    plan = await ports.artifacts.get(task.plan, Plan) if task.plan else None
    about = await ground(ports, start, focus=[task.title, task.brief, *task.files])
    desk = Desk(
        ports=ports,
        tree=tree,
        sandbox=ports.sandboxes.open(tree.path, environment=environment),
        sealed_folder=await folder_of(ports, task.sealed, about.files),
        check=task.check,
        base=task.base,
        environment=str(environment.root),
    )
    caller = Caller("code", f"{task.task}/r{task.round}", size_in(plan, task.task), task.attempt)
    # What sent it back says best what would help.
    criteria = [c.text for c in spec.criteria() if c.id in task.criteria]
    wanted = "\n".join([*task.problems, task.title, task.brief, *criteria, spec.title, spec.summary])
    language = language_of(task.files or about.files)
    recalled = await recall(ports, caller, wanted, ["snippet", "debugging"], language=language)
    messages = render(
        "code",
        task=task,
        spec=as_yaml(spec),
        interfaces=interfaces_text(plan),
        guidance=about.guidance,
        layout=about.layout or "(no files yet)",
        map=about.map,
        recalled=reminder(recalled),
        sealed_folder=desk.sealed_folder,
        problems="\n\n".join(task.problems),
        tests=await _tests_now(ports, tree, about.files) if not task.plan and not task.commit else "",
        diff=cap(await ports.workspace.patch(task.base, start), MAX_DIFF_CHARS) if task.commit else "",
    )
    done = await code(desk, caller, messages, start=start)
    if done.blocked:
        raise AgentGaveUp(
            f"{task.task} is blocked: {done.blocked[:4000]}",
            hint="Remove what stands in the way, then resume.",
        )
    return done


async def _tests_now(ports: Ports, tree: Worktree, files: tuple[str, ...]) -> str:
    """Say how an existing repository's tests go before anything is changed; empty when it has none."""
    if not any(is_test(f) for f in files):
        return ""
    return suite_text(await ports.harness.run(tree.path), 3000)


async def resolve(
    ports: Ports,
    task: TaskWork,
    *,
    tree_name: str,
    ours: str,
    theirs: str,
    problems: str = "",
) -> Submission:
    """Let the resolver agent settle a merge: conflict markers, or tests that fail after it.

    Args:
        ports: What the run may use.
        task: The task whose commit is merged.
        tree_name: The worktree to lay the merge out in.
        ours: The commit merged so far.
        theirs: The task's commit.
        problems: What fails after a clean merge; empty for a merge with conflicts.
    """
    tree = await ports.workspace.worktree(tree_name, ours)
    files = await ports.workspace.conflicted(tree_name, ours, theirs)
    start = await tree.snapshot("merge")
    environment = await ports.provisioner.provision(tree.path)
    spec = await ports.artifacts.get(task.spec, Spec)
    desk = Desk(
        ports=ports,
        tree=tree,
        sandbox=ports.sandboxes.open(tree.path, environment=environment),
        sealed_folder=await folder_of(ports, task.sealed),
        base=ours,
        environment=str(environment.root),
    )
    done = await ports.workspace.log(task.base, ours)
    messages = render(
        "resolve",
        ours="\n".join(f"- {subject}" for _, subject in done) or "the interfaces as stubs",
        theirs=f"{task.title}\n{task.summary}",
        files=list(files),
        problems=problems,
        spec=as_yaml(spec),
        sealed_folder=desk.sealed_folder,
    )
    return await code(desk, Caller("resolve", f"{task.task}/r{task.round}"), messages, start=start)
