"""Messages to agents under the real engine: sent, read once, and what a killed worker leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from phoenix.domain.steering import Kept
from phoenix.errors import Conflict, NotFound, PayloadInvalid
from phoenix.storage import messages
from phoenix.storage.database import transaction
from tests.integration.engine.engine_toy import System
from tests.integration.people.coder_world import SCRIPTS, SUBMIT, asked, bash, open_world, until_file
from tests.integration.people.conftest import Working


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    """Have the folder of projects."""
    (tmp_path / "projects").mkdir()


def steered(call: dict[str, Any]) -> list[str]:
    """Return what people said in a model call."""
    return [
        words.splitlines()[1] for kind, name, words in call["said"] if (kind, name) == ("human", "steering")
    ]


async def reads(system: System, project_id: Any) -> list[tuple[str, str, int]]:
    """Return who told that a message was read: agent, task and turn."""
    found = [e.data for e in await system.events(project_id) if e.kind == "message_read"]
    return [(d["agent"], d["task"], d["turn"]) for d in found]


async def test_a_message_is_read_once_though_the_worker_is_killed(
    migrated_database_url: str, tmp_path: Path, working: Working
) -> None:
    """Sent while a tool runs, killed then and again after it was read: in each conversation once."""
    async with open_world(migrated_database_url, tmp_path, SCRIPTS["slow"]) as system:
        project = await system.launch("code", "T1")
        async with working("slow") as process:
            await until_file(tmp_path, "started")
            await system.engine.message(project.id, "Use tabs.", by="ada")
            process.kill()
        async with working("slow") as process:
            async with asyncio.timeout(150):
                while not await reads(system, project.id):
                    await asyncio.sleep(0.01)
            process.kill()
        async with working("slow"):
            await system.until(project.id, "success", seconds=150)
        assert await reads(system, project.id) == [("code", "T1/r1", 3)]
        calls = asked(tmp_path)
        assert {call["turn"] for call in calls} == {0, 1, 2, 3}
        assert [len(steered(call)) for call in calls] == [1 if call["turn"] >= 2 else 0 for call in calls]
        last = [call for call in calls if call["turn"] == 3][-1]
        assert [m[0] for m in last["said"]][-4:] == ["tool", "human", "ai", "tool"]
        async with transaction(system.database) as connection:
            (sent,) = await messages.sent(connection, project.id)
        assert [(r.agent, r.task, r.turn) for r in sent.reads] == [("code", "T1/r1", 3)]


async def test_messages_before_an_agent_begins_are_read_by_it(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """Later agents of the project read what was said to all before them; a task only its own."""
    lines = {"T1": [SUBMIT], "T2": [SUBMIT]}
    async with open_world(migrated_database_url, tmp_path, lines) as system:
        project = await system.launch("code", "T1")
        await system.engine.message(project.id, "To all.", by="ada")
        with pytest.raises(PayloadInvalid, match="no tasks yet"):
            await system.engine.message(project.id, "To one.", task="T1", by="ada")
        async with system.engine.worker():
            await system.until(project.id, "success")
        assert steered(asked(tmp_path)[0]) == ["To all."]
        assert await reads(system, project.id) == [("code", "T1/r1", 1)]
        kinds = await system.kinds(project.id)
        assert kinds.count("message_sent") == 1
        with pytest.raises(Conflict, match=r"over \(success\)"):
            await system.engine.message(project.id, "Too late.", by="ada")


async def test_a_message_to_a_task_reaches_its_coder_only(migrated_database_url: str, tmp_path: Path) -> None:
    """The other task's conversation never holds it; a task that is over takes none."""
    lines = {
        "T1": [bash("touch started; sleep 4"), SUBMIT],
        "T2": [bash("touch started2; sleep 2"), bash("sleep 1"), SUBMIT],
    }
    async with open_world(migrated_database_url, tmp_path, lines) as system:
        project = await system.launch("waiting_two")
        async with system.engine.worker():
            await until_file(tmp_path, "started")
            await until_file(tmp_path, "started2")
            await system.engine.message(project.id, "Only you.", task="T2", by="ada")
            await until_ended(system, project.id, "T2")
            with pytest.raises(Conflict, match="Task T2 is over"):
                await system.engine.message(project.id, "Late.", task="T2", by="ada")
            with pytest.raises(PayloadInvalid, match="no task 'T9'"):
                await system.engine.message(project.id, "Whom?", task="T9", by="ada")
            await system.until(project.id, "success")
        assert [steered(c) for c in asked(tmp_path, "T2")] == [[], ["Only you."], ["Only you."]]
        assert all(steered(c) == [] for c in asked(tmp_path, "T1"))
        assert await reads(system, project.id) == [("code", "T2/r1", 2)]


async def test_what_cannot_be_sent_leaves_nothing(migrated_database_url: str, tmp_path: Path) -> None:
    """No row and no event of a message that is empty, too long, or for no project."""
    async with open_world(migrated_database_url, tmp_path, {}) as system:
        project = await system.launch("code", "T1")
        for said in ("", "  \n", "x" * 20_001):
            with pytest.raises(PayloadInvalid):
                await system.engine.message(project.id, said, by="ada")
        with pytest.raises(NotFound):
            await system.engine.message(type(project.id)(int=7), "Hello.", by="ada")
        assert "message_sent" not in await system.kinds(project.id)
        async with transaction(system.database) as connection:
            assert await messages.sent(connection, project.id) == []


async def test_racing_messages_are_all_read_in_the_order_of_their_events(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """Twenty at once, while agents read: none is passed over, none comes twice."""
    lines = {"T1": [bash(f"touch started; sleep 0.{n}") for n in (3, 4, 5)] + [bash("sleep 1"), SUBMIT]}
    async with open_world(migrated_database_url, tmp_path, lines) as system:
        project = await system.launch("code", "T1")
        async with system.engine.worker():
            await until_file(tmp_path, "started")
            sent = await asyncio.gather(
                *(system.engine.message(project.id, f"M{n}.", by="ada") for n in range(20))
            )
            await system.until(project.id, "success")
        wanted = [m.text for m in sorted(sent, key=lambda m: m.seq)]
        assert steered(asked(tmp_path)[-1]) == wanted
        assert len(await reads(system, project.id)) == 20


async def test_cancelling_kills_the_sandbox_and_says_what_is_kept(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """The command ends with the run, the event names the commits, and so does the answer."""
    lines = {"T1": [SUBMIT], "T2": [bash("touch started2; sleep 60; touch survived"), SUBMIT]}
    async with open_world(migrated_database_url, tmp_path, lines) as system:
        project = await system.launch("waiting_two")
        async with system.engine.worker():
            await until_file(tmp_path, "started2")
            await until_ended(system, project.id, "T1")
            async with transaction(system.database) as connection:
                # As the product's own task flow leaves it.
                done = "UPDATE runs SET output = output || jsonb_build_object('commit', output->'text')"
                await connection.execute(text(f"{done} WHERE key = 'build/1/T1'"))
            kept = await system.engine.cancel(project.id)
            await system.until(project.id, "cancelled")
            async with asyncio.timeout(15):
                while _sleeping():
                    await asyncio.sleep(0.1)
        assert not any(tmp_path.glob("projects/**/survived"))
        (told,) = [e.data for e in await system.events(project.id) if e.kind == "project_cancelled"]
        assert [Kept(**one) for one in told["kept"]] == kept
        assert [one.what for one in kept] == ["build", "T1"]
        assert kept[0].commit == kept[1].commit
        assert {"spec", "build"} <= set(told["documents"])
        assert await system.engine.cancel(project.id) == kept
        assert (await system.kinds(project.id)).count("project_cancelled") == 1


async def until_ended(system: System, project_id: Any, task: str, seconds: float = 150) -> None:
    """Return once a task's run has ended."""
    async with asyncio.timeout(seconds):
        while True:
            children = (await system.engine.overview(project_id)).children
            if any(run.key == f"build/1/{task}" and run.status == "success" for run in children):
                return
            await asyncio.sleep(0.05)


def _sleeping() -> bool:
    """Tell whether the agent's command still runs on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"sleep 60; touch survived" in path.read_bytes():
                return True
        except OSError:
            continue
    return False
