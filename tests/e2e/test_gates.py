"""The development workflow's gates at budget and merge, and what the evidence says of decisions."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from phoenix.bootstrap import System
from phoenix.domain.approval import Approval, Decision
from phoenix.domain.evidence import Delivery, Evidence
from phoenix.engine.launch import Launch, Overview
from phoenix.errors import DecisionConflict, DomainInvalid
from phoenix.llm.scripted import Say, ScriptedModel
from phoenix.settings import Settings
from tests.e2e.conftest import LONGEST_SECONDS, asks_for, stopped, system_of
from tests.e2e.script import ADD, MODEL, MUL, STUBS, edit, plan, script, submit, task

PRICE = Decimal("0.10")
CALLS = 12
APPROVE = Decision(verdict="approve")


def order(**options: Any) -> Launch:
    """Return a launch of the calculator."""
    return Launch(**({"requirement": "A calculator.", "model": MODEL} | options))


async def opened(system: System, project_id: UUID, gate: str) -> Approval:
    """Return the open approval of a gate, once it is there."""
    overview = await asks_for(system, project_id, gate)
    (approval,) = [a for a in overview.approvals if a.request.name == gate]
    return approval


async def ended(system: System, project_id: UUID) -> Overview:
    """Return the overview of a project that has ended, with all its tasks."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            overview = await stopped(system, project_id)
            runs = (overview.run, *overview.children)
            if not any(run.status in ("pending", "running", "waiting") for run in runs):
                return overview
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("budget", ["0.25", "0.55"], ids=["in a step", "in the tasks"])
async def test_a_spent_budget_asks_and_goes_on_with_more(settings: Settings, budget: str) -> None:
    """All that waits for it waits at one approval, no call is paid twice, and the rest is delivered."""
    model = ScriptedModel(script(), cost_usd=PRICE)
    async with system_of(settings, model) as system:
        project = await system.engine.launch(order(approvals="budget", budget_usd=Decimal(budget)))
        approval = await opened(system, project.id, "budget")
        assert approval.request.value["budget_usd"] == approval.request.value["extend_by_usd"] == budget
        wrong = Decision(verdict="approve", value={"extend_by_usd": "-1"})
        with pytest.raises(DomainInvalid, match="extend_by_usd"):
            await system.engine.decide(approval.id, wrong, by="ada")
        more = Decision(verdict="edit", value=approval.request.value | {"extend_by_usd": "5"})
        await system.engine.decide(approval.id, more, by="ada")
        done = await ended(system, project.id)
        assert done.run.status == "success", done.run.error
        assert (done.project.budget_usd, done.usage.calls) == (Decimal(budget) + 5, CALLS)
        events = await system.engine.log.read(project.id, limit=10_000)
        kinds = [e.kind for e in events]
        assert kinds.count("approval_requested") - 3 == kinds.count("budget_raised") == 1
        waits = [e.data["for"] for e in events if e.kind == "run_waiting"]
        assert ["budget"] in waits


async def test_a_budget_is_spent_again_and_resume_decides_as_well(settings: Settings) -> None:
    """Each end of it is an approval of its own; `resume` with a budget decides the open one."""
    model = ScriptedModel(script(), cost_usd=PRICE)
    async with system_of(settings, model) as system:
        project = await system.engine.launch(order(approvals="budget", budget_usd=Decimal("0.25")))
        first = await opened(system, project.id, "budget")
        await system.engine.decide(first.id, APPROVE, by="ada")
        overview = await asks_for(system, project.id, "budget", other_than=first.id)
        assert overview.project.budget_usd == Decimal("0.50")
        await system.engine.resume(project.id, budget_usd=Decimal(9), by="bob")
        done = await ended(system, project.id)
        assert (done.run.status, done.project.budget_usd) == ("success", Decimal(9))
        assert done.usage.calls == CALLS
        found = Evidence.model_validate(done.artifacts["evidence"]).decisions
        assert [(d.gate, d.by) for d in found if d.gate == "budget"] == [("budget", "ada"), ("budget", "bob")]


async def test_a_refused_budget_stops_the_project_with_what_is_done(settings: Settings) -> None:
    """It ends failed, says who stopped it and why, and could still go on with more."""
    model = ScriptedModel(script(), cost_usd=PRICE)
    async with system_of(settings, model) as system:
        project = await system.engine.launch(order(approvals="budget", budget_usd=Decimal("0.55")))
        approval = await opened(system, project.id, "budget")
        stop = Decision(verdict="reject", reason="It is enough.")
        await system.engine.decide(approval.id, stop, by="ada")
        over = await ended(system, project.id)
        assert over.run.error is not None
        assert (over.run.status, over.run.error.code) == ("failed", "budget_spent")
        assert "stopped at its budget by ada: It is enough." in over.run.error.message
        assert "spec" in over.artifacts
        with pytest.raises(DecisionConflict):
            await system.engine.decide(approval.id, APPROVE, by="bob")
        await system.engine.resume(project.id, budget_usd=Decimal(9))
        assert (await ended(system, project.id)).run.status == "success"


async def test_merges_are_asked_for_one_by_one_and_what_was_shown_is_merged(settings: Settings) -> None:
    """While one waits the other task is built; the commit that was approved is the one that is merged."""
    async with system_of(settings, ScriptedModel(script())) as system:
        project = await system.engine.launch(order(approvals="merge"))
        first = await opened(system, project.id, "merge")
        async with asyncio.timeout(LONGEST_SECONDS):
            while True:
                overview = await system.engine.overview(project.id)
                built = {c.key: c.status for c in overview.children}
                if built.get("build/1/T2") == "success":
                    break
                await asyncio.sleep(0.05)
        assert (first.request.value["task"], first.request.value["files"]) == ("T1", ["calc.py"])
        assert first.request.verdicts == ["approve", "reject"]
        await system.engine.decide(first.id, APPROVE, by="ada")
        overview = await asks_for(system, project.id, "merge", other_than=first.id)
        second = overview.approvals[0]
        assert (second.request.value["task"], second.request.value["head"]) == (
            "T2",
            first.request.value["commit"],
        )
        await system.engine.decide(second.id, APPROVE, by="bob")
        done = await ended(system, project.id)
        assert done.run.status == "success", done.run.error
        merged = [
            e.data for e in await system.engine.log.read(project.id, limit=10_000) if e.kind == "task_merged"
        ]
        assert [m["commit"] for m in merged] == [a.request.value["commit"] for a in (first, second)]
        delivery = Delivery.model_validate(done.artifacts["delivery"])
        report = Path(delivery.report).read_text()
        decisions = Evidence.model_validate(done.artifacts["evidence"]).decisions
        assert [(d.gate, d.key, d.by, d.how) for d in decisions if d.gate == "merge"] == [
            ("merge", "merge/1/T1", "ada", "person"),
            ("merge", "merge/1/T2", "bob", "person"),
        ]
        assert {(d.gate, d.how) for d in decisions if d.by == "policy"} == {
            ("spec", "policy"),
            ("plan", "policy"),
            ("delivery", "policy"),
        }
        assert "- merge of merge/1/T1: approve by ada" in report
        assert "- spec: approve by the policy, nobody was asked" in report
        beside = json.loads(Path(delivery.report).with_suffix(".json").read_text())
        assert [d["by"] for d in beside["evidence"]["decisions"]].count("ada") == 1


async def test_a_rejected_merge_becomes_a_repair_with_the_reason(settings: Settings) -> None:
    """The task is not merged, and whoever mends it reads why."""
    model = ScriptedModel(script(code__R2__r1=[MUL, submit()]))
    async with system_of(settings, model) as system:
        project = await system.engine.launch(order(approvals="merge"))
        first = await opened(system, project.id, "merge")
        await system.engine.decide(first.id, APPROVE, by="ada")
        overview = await asks_for(system, project.id, "merge", other_than=first.id)
        no = Decision(verdict="reject", reason="Use the multiplication sign.")
        second = overview.approvals[0]
        await system.engine.decide(second.id, no, by="ada")
        overview = await asks_for(system, project.id, "merge", other_than=second.id)
        assert overview.approvals[0].request.value["task"] == "R2"
        await system.engine.decide(overview.approvals[0].id, APPROVE, by="ada")
        done = await ended(system, project.id)
        assert done.run.status == "success", done.run.error
    asked = next(r for r in model.requests if r.caller.task == "R2/r1")
    assert "Use the multiplication sign." in str(asked.messages[-1].content)


async def test_guarded_asks_where_an_agent_settled_a_conflict(settings: Settings) -> None:
    """A clean merge passes; one that was resolved waits for a person, and is resolved once."""
    both = STUBS.replace("raise NotImplementedError('add')", "return a + b").replace(
        "raise NotImplementedError('mul')", "return a * b"
    )
    whole = {"path": "calc.py", "old": "", "new": '"""Both."""\n\n\n' + both, "overwrite": True}
    header = edit("calc.py", "def add", '"""Sums."""\n\n\ndef add')
    other = edit("calc.py", "def add", '"""Products."""\n\n\ndef add')
    model = ScriptedModel(
        script(
            decompose=[plan(task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"]))],
            code__T1__r1=[header, ADD, submit()],
            code__T2__r1=[other, MUL, submit()],
            resolve=[Say(calls=[("edit_file", whole)]), submit()],
        )
    )
    async with system_of(settings, model) as system:
        project = await system.engine.launch(order(approvals="guarded"))
        for gate in ("spec", "plan"):
            await system.engine.decide((await opened(system, project.id, gate)).id, APPROVE, by="ada")
        merge = await opened(system, project.id, "merge")
        assert (merge.request.value["task"], merge.request.value["conflicts"]) == ("T2", ["calc.py"])
        await system.engine.decide(merge.id, APPROVE, by="ada")
        await system.engine.decide((await opened(system, project.id, "delivery")).id, APPROVE, by="ada")
        done = await ended(system, project.id)
        assert done.run.status == "success", done.run.error
    assert sum(r.caller.agent == "resolve" for r in model.requests) == 2
