"""Take over what was made before where nothing that it read has changed.

Only what a project holds is looked at: its own documents, and in a fork those that it inherited. A plan, a
contract and sealed tests are kept whole or in part; a task is known by the content address of what it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from phoenix.agents.decomposition import decompose as ask_for_plan
from phoenix.agents.kept_tests import Former
from phoenix.agents.test_source import name_of, plain_tests
from phoenix.domain.difference import SpecChanges, compare
from phoenix.domain.evidence import Sealed, TaskResult
from phoenix.domain.frozen import digest_of
from phoenix.domain.plan import Contract, Plan, check_plan
from phoenix.domain.project import Request
from phoenix.domain.spec import Criterion, Spec
from phoenix.domain.work import FinishedTask, TaskWork
from phoenix.errors import DomainInvalid, NotFound
from phoenix.ports import Ports
from phoenix.workflows.task import decidable, message_of

KEEP = "Keep every task that this does not touch exactly as it is, its id included."


async def revised_plan(spec: Spec, ports: Ports) -> Plan:
    """Return the plan of a spec: the former one where it still covers it, else one that came of it."""
    digest = await ports.artifacts.put(spec)
    former = await _former_plan(spec, ports)
    if former is None:
        return await ask_for_plan(spec, ports)
    plan, changes = former
    moved = plan.model_copy(update={"spec": digest})
    try:
        check_plan(moved, spec)
    except DomainInvalid as error:
        reason = (
            f"The specification has changed:\n{changes.text()}\n\nSo the plan does not fit: {error}\n{KEEP}"
        )
        return await ask_for_plan(moved, ports, reason)
    await ports.events.emit("plan_kept", changed=changes.touched)
    return moved


async def _former_plan(spec: Spec, ports: Ports) -> tuple[Plan, SpecChanges] | None:
    for plan in await ports.artifacts.find(Plan):
        try:
            was = await ports.artifacts.get(plan.spec, Spec)
        except NotFound:
            continue
        if was.request == spec.request:
            return plan, compare(was, spec)
    return None


async def kept_contract(plan: Plan, ports: Ports) -> Contract | None:
    """Return the former contract when the plan's interfaces are those that it holds; None else."""
    digest = await ports.artifacts.put(plan)
    spec = await ports.artifacts.get(plan.spec, Spec)
    request = await ports.artifacts.get(spec.request, Request)
    base = await ports.workspace.prepare(request.repository)
    for former in await ports.artifacts.find(Contract, base=base):
        try:
            was = await ports.artifacts.get(former.plan, Plan)
        except NotFound:
            continue
        if was.interfaces == plan.interfaces and await ports.workspace.tree(former.commit):
            await ports.events.emit("contract_kept", commit=former.commit)
            return former.model_copy(update={"plan": digest})
    return None


async def former_seal(contract: Contract, ports: Ports) -> Former | None:
    """Return the last sealed tests with the criteria that they decide; None when there are none."""
    for sealed in await ports.artifacts.find(Sealed):
        try:
            was = await ports.artifacts.get(sealed.contract, Contract)
            plan = await ports.artifacts.get(was.plan, Plan)
            spec = await ports.artifacts.get(plan.spec, Spec)
        except NotFound:
            continue
        return Former(sealed, {c.id: c for c in spec.criteria()})
    return None


@dataclass(frozen=True)
class Readings:
    """What the tasks of one build read in common."""

    spec: Spec
    plan: Plan
    sealed: Sealed

    @classmethod
    async def of(cls, work: TaskWork, ports: Ports) -> Readings | None:
        """Return what a task of a plan reads; None when it has no plan."""
        if work.plan is None or work.sealed is None:
            return None
        return cls(
            await ports.artifacts.get(work.spec, Spec),
            await ports.artifacts.get(work.plan, Plan),
            await ports.artifacts.get(work.sealed, Sealed),
        )

    def criteria(self, work: TaskWork) -> list[Criterion]:
        """Return the criteria of a task, as their texts are now."""
        return [c for c in self.spec.criteria() if c.id in work.criteria]

    def address(self, work: TaskWork, tree: str) -> str:
        """Return the content address of all that decides what a task comes to.

        That is its definition, the texts of its criteria, the interfaces, the sealed tests that decide it,
        its check, and the files it starts from (`tree`). Commits, dates and other tasks have no part in it.
        """
        return digest_of(
            {
                "task": [work.task, work.title, work.brief, work.criteria, work.files, work.check],
                "criteria": [c.model_dump(mode="json") for c in self.criteria(work)],
                "interfaces": [i.model_dump(mode="json") for i in self.plan.interfaces],
                "tests": self._tests(work),
                "folder": self.sealed.folder,
                "tree": tree,
            }
        )

    def _tests(self, work: TaskWork) -> dict[str, str]:
        """Return the sealed tests that decide a task, by file, those of other criteria taken out."""
        deciding = decidable(self.plan, work)
        found = {}
        for file in self.sealed.files:
            tests = [t for t in self.sealed.tests if t.id.partition("::")[0] == file.path]
            if not tests or any(t.criterion in deciding for t in tests):
                others = [name_of(t.id) for t in tests if t.criterion not in deciding]
                found[file.path] = plain_tests(file.content, others)
        return found


async def reused(work: TaskWork, result: TaskResult, ports: Ports) -> TaskResult | None:
    """Return the result of a finished task that had read the same; None when there is none.

    Its commit is taken over as it is, or made again on the present base where only that commit is another.
    """
    for finished in await ports.artifacts.find(FinishedTask, reads=work.reads or ""):
        if await ports.workspace.tree(finished.commit) is None:
            continue
        commit = finished.commit
        if finished.base != work.base:
            name = f"reuse-{work.task}"
            tree = await ports.workspace.worktree(name, work.base)
            await tree.restore(finished.commit)
            message = message_of(work.model_copy(update={"summary": finished.summary}))
            commit = await ports.workspace.commit(name, message=message, parents=[work.base])
        await ports.events.emit("task_reused", task=work.task, commit=commit)
        kept = {"summary": finished.summary, "rounds": finished.rounds, "notes": finished.notes}
        return result.model_copy(update={"status": "built", "commit": commit, "reused": True, **kept})
    return None


async def continued(work: TaskWork, readings: Readings, ports: Ports) -> TaskWork:
    """Return a task that begins where the former task of its id ended, with what has changed as its problems.

    It begins from its base when there is no former one, or that stood on other files.
    """
    base = await ports.workspace.tree(work.base)
    for former in await ports.artifacts.find(FinishedTask, task=work.task):
        if await ports.workspace.tree(former.base) != base or not await ports.workspace.tree(former.commit):
            continue
        was = {c.id: c.text for c in former.criteria}
        lines = [
            f"{c.id} said: {was[c.id]}\n  and says now: {c.text}"
            if c.id in was
            else f"{c.id} is new: {c.text}"
            for c in readings.criteria(work)
            if was.get(c.id) != c.text
        ]
        said = "\n".join(lines) or "Its description, its check or its acceptance tests are other ones now."
        problem = f"What this task has to do has changed after it was done. Bring the work in line.\n{said}"
        await ports.events.emit("task_continued", task=work.task, commit=former.commit, changed=lines)
        return work.model_copy(update={"commit": former.commit, "problems": [problem]})
    return work
