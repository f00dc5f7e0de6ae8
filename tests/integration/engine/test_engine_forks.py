"""Forks and histories over small flows."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from phoenix.domain.approval import Decision
from phoenix.domain.history import ForkOrder
from phoenix.domain.run import Project
from phoenix.engine import forking
from phoenix.errors import BudgetInvalid, CheckpointUnknown, DomainInvalid, ForkRefused, NotFound
from tests.integration.engine.engine_toy import CHILDREN, System


async def approved(system: System, project: Project) -> None:
    """Approve what a project asks for next."""
    await system.until(project.id, "waiting")
    (approval,) = (await system.engine.overview(project.id)).approvals
    await system.engine.decide(approval.id, Decision(verdict="approve"), by="bob")


async def test_a_history_tells_steps_and_what_waits(system: System) -> None:
    """Each checkpoint says what was done, what is next, and what is asked."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await approved(system, project)
        await system.until(project.id, "success")
    moments = await system.engine.history.moments(project.id)
    assert [(m.step, m.next, m.asks) for m in moments] == [
        ("start", ["first"], []),
        ("first", ["spec"], ["spec"]),
        ("spec", ["last"], []),
        ("last", [], []),
    ]
    assert [m.value for m in moments] == ["Words"] * 4
    for moment in moments:
        assert (await system.engine.history.find(project.id, moment.short)).moment == moment
        assert (await system.engine.history.find(project.id, moment.checkpoint)).moment == moment


async def test_a_fork_where_a_person_decided_asks_again(system: System) -> None:
    """The answer came after the checkpoint: the fork may get another, and the source keeps its own."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await approved(system, project)
        was = await system.until(project.id, "success")
        fork = await system.engine.forks.fork(project.id, "spec", by="ada")
        await system.until(fork.id, "waiting")
        (approval,) = (await system.engine.overview(fork.id)).approvals
        await system.engine.decide(approval.id, Decision(verdict="reject", reason="shorter"), by="ada")
        await system.until_marked("first", times=2)
        await system.until(fork.id, "waiting")
        (again,) = (await system.engine.overview(fork.id)).approvals
        await system.engine.decide(again.id, Decision(verdict="approve"), by="ada")
        run = await system.until(fork.id, "success")
        assert run.output is not None
        assert run.output["text"] == "SHORTER"
        assert await system.run_of(project.id) == was


async def test_an_edited_value_answers_the_gate(system: System) -> None:
    """Nobody is asked; the decision is on record, and the value is stored."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        edit = {"text": "mine", "folder": str(system.folder)}
        fork = await system.engine.forks.fork(project.id, "spec", ForkOrder(edit=edit), by="ada")
        run = await system.until(fork.id, "success", "waiting", "failed")
    assert run.output is not None, run.error
    assert run.output["text"] == "MINE"
    events = await system.events(fork.id)
    assert [e.kind for e in events[:2]] == ["project_forked", "approval_decided"]
    assert (events[1].data["verdict"], events[1].data["by"]) == ("edit", "ada")
    assert (await system.engine.overview(fork.id)).artifacts["words"]["text"] == "mine"
    assert (await system.run_of(project.id)).status == "waiting"


async def test_what_cannot_be_forked_is_refused(system: System) -> None:
    """With what to do instead; nothing is left behind."""
    project = await system.launch("gate")
    forks = system.engine.forks
    with pytest.raises(CheckpointUnknown, match="has not begun"):
        await forks.fork(project.id, by="ada")
    async with system.engine.worker():
        await approved(system, project)
        await system.until(project.id, "success")
    for at, error in (("", ForkRefused), ("nowhere", CheckpointUnknown), ("ffffffff", CheckpointUnknown)):
        with pytest.raises(error):
            await forks.fork(project.id, at, by="ada")
    with pytest.raises(ForkRefused, match="Nothing can be edited"):
        await forks.fork(project.id, "first", ForkOrder(edit={"text": "x"}), by="ada")
    with pytest.raises(DomainInvalid) as wrong:
        await forks.fork(project.id, "spec", ForkOrder(edit={"text": 1, "folder": "x"}), by="ada")
    assert [path for path, _ in wrong.value.problems] == ["text"]
    with pytest.raises(BudgetInvalid):
        await forks.fork(project.id, "spec", ForkOrder(budget_usd=-1), by="ada")
    with pytest.raises(NotFound):
        await forks.fork(uuid4(), "spec", by="ada")
    assert [o.project.id for o in await system.engine.projects()] == [project.id]


async def test_children_are_as_they_were_at_that_moment(system: System) -> None:
    """Ended ones come along with their outputs; begun ones go on; those that came later are not there."""
    project = await system.launch("parent", "c")
    async with system.engine.worker():
        source = await system.until(project.id, "success")
    moments = await system.engine.history.moments(project.id)
    last = [m for m in moments if m.is_own and "absorb" in m.next][-1]
    first = next(m for m in moments if m.is_own and m.next == ["build"])
    before = next(m for m in moments if m.is_own and m.next == ["open_children"])
    late, open_, early = [
        await system.engine.forks.fork(project.id, m.short, by="ada") for m in (last, first, before)
    ]
    statuses = {
        fork.id: [c.status for c in (await system.engine.overview(fork.id)).children]
        for fork in (late, open_, early)
    }
    # One may have ended between the checkpoint and the look that followed it: then it had not at that moment.
    again = statuses[late.id].count("pending")
    assert statuses[late.id].count("success") == CHILDREN - again >= 1
    assert statuses[open_.id] == ["pending"] * CHILDREN
    assert statuses[early.id] == []
    async with system.engine.worker():
        for fork in (late, open_, early):
            assert (await system.until(fork.id, "success", "failed")).output == source.output
    begun = [m for m in system.marks() if m.startswith("begin")]
    # Of the source, and of the two forks in which they had not ended.
    # A step that was over does not begin again.
    assert 3 * CHILDREN - again <= len(begun) <= 3 * CHILDREN + again
    assert await system.run_of(project.id) == source


async def test_gates_side_by_side_are_both_asked_again(system: System) -> None:
    """Also when only one of them was decided before the fork."""
    project = await system.launch("two_gates")
    async with system.engine.worker():
        await system.until(project.id, "waiting")
        one, _ = (await system.engine.overview(project.id)).approvals
        await system.engine.decide(one.id, Decision(verdict="approve"), by="bob")
        await system.until_marked("first")
        fork = await system.engine.forks.fork(project.id, by="ada")
        await system.until(fork.id, "waiting")
        again = await system.engine.forks.fork(fork.id, by="ada")
        for made in (fork, again):
            await system.until(made.id, "waiting")
            for approval in (await system.engine.overview(made.id)).approvals:
                await system.engine.decide(approval.id, Decision(verdict="approve"), by="ada")
            run = await system.until(made.id, "success", "failed")
            assert run.output is not None
            assert run.output["text"] == "HELLO"
    assert again.forked_from == fork.id


async def test_a_fork_that_fails_leaves_nothing(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copied threads are removed when the transaction is not made."""
    project = await system.launch("gate")
    async with system.engine.worker():
        await system.until(project.id, "waiting")

    async def fail(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("no more")

    threads = await _threads(system)
    monkeypatch.setattr(forking.forks, "copy_artifacts", fail)
    with pytest.raises(RuntimeError):
        await system.engine.forks.fork(project.id, by="ada")
    assert [o.project.id for o in await system.engine.projects()] == [project.id]
    assert await _threads(system) == threads


async def _threads(system: System) -> set[str]:
    saver = system.engine.history._checkpointer
    return {found.config["configurable"]["thread_id"] async for found in saver.alist(None)}
