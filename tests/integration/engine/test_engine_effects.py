"""Model calls and pushes around kills: an answer is paid once, and a remote receives a branch once."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, update

from phoenix.domain.run import Usage
from phoenix.engine.outbox import Dispatcher
from phoenix.errors import EffectConflict, RunSuperseded
from phoenix.ports import Effect
from phoenix.storage import jobs, runs
from phoenix.storage import outbox as rows
from phoenix.storage.database import transaction
from phoenix.storage.tables import outbox
from tests.integration.engine.durable_toy import (
    CALLS,
    POINTS,
    make_remote,
    options,
    received_in,
    reply,
)
from tests.integration.engine.engine_toy import System, open_system
from tests.unit.llm.server import Server, serving

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A model server that counts what it is asked."""
    async with serving() as running:
        running.choose = reply(running.requests)
        yield running


@pytest.fixture(autouse=True)
def _ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


async def killed(url: str, folder: Path, server: str, point: str) -> None:
    """Run a worker until it kills itself at a point."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.engine.durable_toy", url, str(folder), server, point),
        cwd=ROOT,
    )
    try:
        assert await asyncio.wait_for(process.wait(), 60) == -9
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def usage_of(system: System, project_id: UUID) -> Usage:
    return (await system.engine.overview(project_id)).usage


async def test_a_worker_killed_after_every_answer_pays_each_once(
    migrated_database_url: str, tmp_path: Path, server: Server
) -> None:
    """kill -9 between the journal and the checkpoint, again and again: the server saw each call once."""
    opened = options(tmp_path, server.url, lambda _: None)
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("talk")
        for count in range(1, 5):
            await killed(migrated_database_url, tmp_path, server.url, "kept")
            assert len(server.requests) == count
        async with system.engine.worker():
            run = await system.until(project.id, "success", "failed")
        assert run.status == "success", run.error
        asked = Counter(str(r["messages"][-1]["content"]) for r in server.requests)
        assert asked == {"one": 1, "two": 1, "go": 1, "nothing at home": 1, "picky": 2}
        assert (await usage_of(system, project.id)).calls == CALLS
        kinds = await system.kinds(project.id)
        assert kinds.count("model_replayed") >= 4


async def test_trying_a_failed_run_again_asks_again(
    migrated_database_url: str, tmp_path: Path, server: Server
) -> None:
    """The answer that led to the failure is not replayed."""
    opened = options(tmp_path, server.url, lambda _: None)
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("strict")
        async with system.engine.worker():
            assert (await system.until(project.id, "failed", "success")).status == "failed"
            await system.engine.resume(project.id)
            assert (await system.until(project.id, "success")).status == "success"
        assert [r["messages"][-1]["content"] for r in server.requests] == ["one", "two", "strict", "strict"]


@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_killed_around_a_push_pushes_once(
    migrated_database_url: str, tmp_path: Path, point: str
) -> None:
    """kill -9 before the row, before the effect, before its mark, and before the checkpoint."""
    commit = await make_remote(tmp_path)
    opened = options(tmp_path, "http://none", lambda _: None)
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("ship", text=commit)
        await killed(migrated_database_url, tmp_path, "http://none", point)
        async with system.engine.worker():
            run = await system.until(project.id, "success", "failed")
        assert run.status == "success", run.error
        assert run.output is not None
        assert run.output["text"] == commit
    assert received_in(tmp_path) == [f"{'0' * 40} {commit} refs/heads/phoenix/done"]


@pytest.mark.parametrize("point", POINTS)
async def test_a_step_that_fails_around_a_push_pushes_once(
    migrated_database_url: str, tmp_path: Path, point: str
) -> None:
    """The same points by exception: somebody tries the failed run again."""
    commit = await make_remote(tmp_path)
    failing = [point]

    def at(reached: str) -> None:
        if [reached] == failing:
            failing.clear()
            raise RuntimeError("no further")

    async with open_system(migrated_database_url, tmp_path, **options(tmp_path, "http://none", at)) as system:
        project = await system.launch("ship", text=commit)
        async with system.engine.worker():
            assert (await system.until(project.id, "failed", "success")).status == "failed"
            await system.engine.resume(project.id)
            await system.until(project.id, "success")
        async with transaction(system.database) as connection:
            found = (
                await connection.execute(select(outbox.c.status, outbox.c.attempts, outbox.c.error))
            ).all()
    again = point in ("begun", "pushed")
    assert [tuple(row) for row in found] == [("done", 2 if again else 1, None)]
    assert len(received_in(tmp_path)) == 1


async def test_a_superseded_attempt_begins_no_effect(migrated_database_url: str, tmp_path: Path) -> None:
    """A worker that was frozen before its push and is woken after the take-over is refused."""
    commit = await make_remote(tmp_path)
    taken: list[UUID] = []
    go_on = asyncio.Event()
    opened = options(tmp_path, "http://none", lambda _: None)
    ports_for, superseded = opened["ports_for"], []

    def watched(run, project, services):  # type: ignore[no-untyped-def]
        class Late:
            async def perform(self, effect: Effect) -> object:
                taken.append(run.id)
                await go_on.wait()
                try:
                    return await services.outbox.perform(effect)
                except RunSuperseded as error:
                    superseded.append(error)
                    raise

        ports = ports_for(run, project, services)
        ports.outbox = Late()
        return ports

    opened["ports_for"] = watched
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("ship", text=commit)
        async with system.engine.worker():
            async with asyncio.timeout(20):
                while not taken:
                    await asyncio.sleep(0.02)
            async with transaction(system.database) as connection:
                await runs.supersede(connection, taken[0])
            go_on.set()
            async with asyncio.timeout(20):
                while not superseded:
                    await asyncio.sleep(0.02)
        assert (await system.run_of(project.id)).status != "failed"
    assert received_in(tmp_path) == []


async def test_a_posted_effect_is_done_by_a_job_and_tried_again(
    migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is written in the caller's transaction; a failure is noted, waited out, and made good."""
    monkeypatch.setattr("phoenix.engine.outbox.FIRST_WAIT_SECONDS", 1.0)
    tries: list[str] = []

    async def call(project: object, effect: Effect) -> dict[str, str]:
        tries.append(effect.key)
        if len(tries) == 1:
            raise ConnectionError("nobody answers")
        return {"said": "ok"}

    opened = options(tmp_path, "http://none", lambda _: None) | {"performers": {"call": call}}
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("ship", text="x")
        await system.engine.cancel(project.id)
        effects: Dispatcher = system.engine._effects
        effect = Effect("call", "once", {"a": 1})
        async with system.database.connect() as connection:
            await effects.put(connection, effect, project_id=project.id)
            await connection.rollback()
        assert await effects.sweep() == []
        for _ in range(2):
            async with transaction(system.database) as connection:
                await effects.put(connection, effect, project_id=project.id)
        async with transaction(system.database) as connection:
            with pytest.raises(EffectConflict):
                await effects.put(connection, Effect("call", "once", {"a": 2}), project_id=project.id)
        assert tries == []
        async with system.engine.worker():
            await done(system)
        assert tries == ["once", "once"]


async def test_a_posted_effect_without_a_job_is_found_by_a_worker_that_runs(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """The job of a worker that died may be removed at any time, and nobody starts a worker just then."""
    tries: list[str] = []

    async def call(project: object, effect: Effect) -> dict[str, str]:
        tries.append(effect.key)
        return {"said": "ok"}

    opened = options(tmp_path, "http://none", lambda _: None) | {"performers": {"call": call}}
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("ship", text="x")
        await system.engine.cancel(project.id)
        async with system.engine.worker():
            async with transaction(system.database) as connection:
                effect = Effect("call", "once", {})
                await rows.add(connection, effect, project_id=project.id, run_id=None, posted=True)
            await done(system)
    assert tries == ["once"]


async def done(system: System) -> None:
    """Return once the one effect is done."""
    async with asyncio.timeout(20):
        while True:
            async with transaction(system.database) as connection:
                found = (await connection.execute(select(outbox.c.status, outbox.c.result))).one()
            if found.status == "done":
                assert found.result == {"said": "ok"}
                return
            await asyncio.sleep(0.05)


async def test_a_posted_effect_whose_job_is_lost_is_done_all_the_same(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """Rows are the truth: a worker that starts puts them back into the queue."""

    async def call(project: object, effect: Effect) -> dict[str, str]:
        return {"said": "ok"}

    opened = options(tmp_path, "http://none", lambda _: None) | {"performers": {"call": call}}
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("ship", text="x")
        await system.engine.cancel(project.id)
        async with transaction(system.database) as connection:
            row = await rows.add(connection, Effect("call", "once", {}), project_id=project.id, posted=True)
            await connection.execute(update(outbox).where(outbox.c.id == row.id).values(status="begun"))
        async with system.engine.worker():
            await done(system)


async def test_a_worker_that_stops_leaves_its_effect_to_another(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """The job is back in the queue the moment the worker is gone."""
    begun = asyncio.Event()

    async def call(project: object, effect: Effect) -> dict[str, str]:
        if begun.is_set():
            return {"said": "ok"}
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    opened = options(tmp_path, "http://none", lambda _: None) | {"performers": {"call": call}}
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("ship", text="x")
        await system.engine.cancel(project.id)
        async with transaction(system.database) as connection:
            await system.engine._effects.put(connection, Effect("call", "k", {}), project_id=project.id)
        async with system.engine.worker(), asyncio.timeout(20):
            await begun.wait()
        async with transaction(system.database) as connection:
            row_id = (await connection.execute(select(outbox.c.id))).scalar_one()
            assert await jobs.live(connection, [row_id])
        async with system.engine.worker():
            await done(system)


async def test_a_posted_effect_that_always_fails_is_given_up(
    migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project's log says so; nothing is tried for ever."""
    monkeypatch.setattr("phoenix.engine.outbox.MAX_ATTEMPTS", 1)

    async def call(project: object, effect: Effect) -> dict[str, str]:
        raise ConnectionError("nobody answers")

    opened = options(tmp_path, "http://none", lambda _: None) | {"performers": {"call": call}}
    async with open_system(migrated_database_url, tmp_path, **opened) as system:
        project = await system.launch("ship", text="x")
        await system.engine.cancel(project.id)
        async with transaction(system.database) as connection:
            await system.engine._effects.put(connection, Effect("call", "k", {}), project_id=project.id)
        async with system.engine.worker(), asyncio.timeout(20):
            while "effect_failed" not in await system.kinds(project.id):
                await asyncio.sleep(0.05)
        async with transaction(system.database) as connection:
            found = (await connection.execute(select(outbox.c.status, outbox.c.error))).one()
        assert tuple(found) == ("failed", "nobody answers")
