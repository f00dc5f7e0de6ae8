"""Decisions on tool calls: rows, waits, and what a killed worker leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from phoenix.domain.approval import Approval, Decision
from phoenix.domain.permissions import Rule, RuleSet, ToolDecision
from phoenix.engine.permissions import MAX_KEPT_CHARS
from phoenix.storage import permissions
from phoenix.storage.database import transaction
from tests.integration.engine.engine_toy import System
from tests.integration.people.coder_world import SCRIPTS, SUBMIT, asked, bash, open_world, until_file
from tests.integration.people.conftest import Working

ASKS = RuleSet(rules=[Rule(effect="ask", tool="bash", command="make *", reason="It takes long.")])
APPROVE = Decision(verdict="approve")


async def rows(system: System, project_id: UUID) -> list[ToolDecision]:
    """Return a project's decisions."""
    async with transaction(system.database) as connection:
        return await permissions.page(connection, project_id)


async def waiting(system: System, project_id: UUID, seconds: float = 150) -> Approval:
    """Return the one open approval, once there is one and its run waits."""
    async with asyncio.timeout(seconds):
        while True:
            overview = await system.engine.overview(project_id)
            if overview.approvals and any(r.status == "waiting" for r in [overview.run, *overview.children]):
                (approval,) = overview.approvals
                return approval
            await asyncio.sleep(0.05)


async def test_a_killed_worker_asks_once_and_finds_the_decision(
    migrated_database_url: str, tmp_path: Path, working: Working
) -> None:
    """Killed while it waits, and again while the approved tool runs: one approval, one row, one result."""
    async with open_world(migrated_database_url, tmp_path, SCRIPTS["asks"]) as system:
        project = await system.launch("code", "T1", rules=ASKS)
        async with working("asks") as process:
            approval = await waiting(system, project.id)
            process.kill()
        await system.engine.decide(approval.id, APPROVE, by="ada")
        async with working("asks") as process:
            await until_file(tmp_path, "started")
            process.kill()
        for left in tmp_path.glob("projects/**/started"):
            left.unlink()
        async with working("asks"):
            run = await system.until(project.id, "success", "failed", seconds=150)
        assert run.status == "success", run.error
        kinds = await system.kinds(project.id)
        assert (kinds.count("approval_requested"), kinds.count("approval_decided")) == (1, 1)
        found = await rows(system, project.id)
        assert [(d.tool, d.effect, d.outcome, d.by) for d in found] == [
            ("bash", "allow", "allowed", "rules"),
            ("bash", "ask", "approved", "ada"),
            ("submit", "allow", "allowed", "rules"),
        ]
        assert found[1].decided_at is not None
        assert found[1].rule == "project rule 1: ask bash command make *"
        assert [call["turn"] for call in asked(tmp_path)] == [0, 1, 2]


async def test_other_tasks_go_on_while_one_waits(migrated_database_url: str, tmp_path: Path) -> None:
    """A person decides on one task's tool; the other task has ended by then."""
    async with open_world(migrated_database_url, tmp_path, SCRIPTS["asks"]) as system:
        project = await system.launch("two", rules=ASKS)
        async with system.engine.worker():
            approval = await waiting(system, project.id)
            await system.until_marked("done:T2:True")
            assert approval.request.value["task"] == "T1/r1"
            await system.engine.decide(
                approval.id, Decision(verdict="reject", reason="There is no Makefile."), by="ada"
            )
            await system.until_marked("done:T1:True")
        last = asked(tmp_path)[-1]["said"][-1]
        assert "Their reason: There is no Makefile." in last[2]
        assert {(d.task, d.outcome) for d in await rows(system, project.id)} >= {
            ("T1/r1", "rejected"),
            ("T2/r1", "allowed"),
        }


async def test_where_nobody_is_asked_it_is_denied(migrated_database_url: str, tmp_path: Path) -> None:
    """A project without approvals never waits, and never lets pass what the rules ask about."""
    async with open_world(migrated_database_url, tmp_path, SCRIPTS["asks"]) as system:
        project = await system.launch("code", "T1", rules=ASKS, approvals="auto")
        async with system.engine.worker():
            await system.until(project.id, "success")
        assert "nobody is asked in this project" in asked(tmp_path)[-1]["said"][-1][2]
        assert [(d.outcome, d.by) for d in await rows(system, project.id)][1] == ("denied", "policy")
        assert "approval_requested" not in await system.kinds(project.id)


async def test_gates_that_are_named_leave_tools_to_people(migrated_database_url: str, tmp_path: Path) -> None:
    """Where people decide on anything, they decide on tools that the rules ask about."""
    async with open_world(migrated_database_url, tmp_path, SCRIPTS["asks"]) as system:
        project = await system.launch("code", "T1", rules=ASKS, approvals="delivery")
        async with system.engine.worker():
            assert (await waiting(system, project.id)).request.name == "tool"


async def test_an_organisations_rules_count_from_the_next_call_on(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """They are read with each call, and what a call was told before stays with it."""
    async with open_world(migrated_database_url, tmp_path, SCRIPTS["asks"]) as system:
        project = await system.launch("code", "T1", rules=RuleSet(rules=[Rule(effect="allow")]))
        async with transaction(system.database) as connection:
            denies = RuleSet(rules=[Rule(effect="deny", tool="bash", command="make *")])
            await permissions.set_organisation_rules(connection, project.organisation_id, denies)
        async with system.engine.worker():
            await system.until(project.id, "success")
        found = [(d.outcome, d.rule) for d in await rows(system, project.id)]
        assert found[1] == ("denied", "organisation rule 1: deny bash command make *")
        (told,) = [e.data for e in await system.events(project.id) if e.kind == "tool_denied"]
        assert (told["tool"], told["task"], told["rule"]) == ("bash", "T1/r1", found[1][1])


async def test_rows_keep_no_secret_and_no_endless_text(migrated_database_url: str, tmp_path: Path) -> None:
    """What looks like a key is masked, a long text is cut, and its digest is that of the whole."""
    key = "sk-" + "a1B2" * 8
    long = "x" * (MAX_KEPT_CHARS + 10)
    lines = {"T1": [bash(f"echo token={key}"), bash(f"echo {long}"), SUBMIT]}
    async with open_world(migrated_database_url, tmp_path, lines) as system:
        project = await system.launch("code", "T1")
        async with system.engine.worker():
            await system.until(project.id, "success")
        found = await rows(system, project.id)
        async with transaction(system.database) as connection:
            kept = (
                await connection.execute(text("SELECT string_agg(t::text, '') FROM tool_decisions t"))
            ).scalar()
    assert kept is not None
    assert key not in kept
    assert found[0].arguments["command"] == "echo token=[secret]"
    assert (found[1].cut, len(found[1].arguments["command"])) == (["command"], MAX_KEPT_CHARS + 6)
    assert len({d.arguments_digest for d in found}) == 3


async def test_rules_are_rehearsed_on_what_people_decided(migrated_database_url: str, tmp_path: Path) -> None:
    """How much would be automatic, which rejections would run, and which approvals would not."""
    lines = {"T1": [bash("make a"), bash("make b"), bash("ls"), bash("echo " + "x" * 9000), SUBMIT]}
    async with open_world(migrated_database_url, tmp_path, lines) as system:
        project = await system.launch("code", "T1", rules=ASKS)
        async with system.engine.worker():
            first = await waiting(system, project.id)
            await system.engine.decide(first.id, Decision(verdict="reject", reason="No."), by="ada")
            async with asyncio.timeout(30):
                while (second := await waiting(system, project.id)).id == first.id:
                    await asyncio.sleep(0.05)
            await system.engine.decide(second.id, APPROVE, by="ada")
            await system.until(project.id, "success")
        loose = await system.engine.rules.rehearse(RuleSet(rules=[Rule(effect="allow")]), project.id)
        assert (loose.total, loose.allowed, loose.denied, loose.asked) == (5, 4, 0, 1)
        assert [d.arguments["command"] for d in loose.missed] == ["make a"]
        tight = RuleSet(rules=[Rule(effect="deny", tool="bash", command="make *")])
        told = await system.engine.rules.rehearse(tight)
        assert (told.denied, told.missed) == (2, [])
        assert [d.arguments["command"] for d in told.stopped_approved] == ["make b"]
        same = await system.engine.rules.rehearse(ASKS, project.id)
        assert (same.allowed, same.asked) == (2, 3)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    """Have the folder of projects."""
    (tmp_path / "projects").mkdir()
