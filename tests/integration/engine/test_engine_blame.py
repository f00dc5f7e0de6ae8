"""Whom a worker's death is charged to; see docs/decisions/0041."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from uuid import UUID

import pytest
from sqlalchemy import text

from phoenix.domain.run import Run
from phoenix.engine.sweep import LAST_CRASHES, MAX_CRASHES, MAX_DAY, is_to_blame
from phoenix.storage import deaths
from phoenix.storage.database import transaction
from phoenix.storage.deaths import SUSPECT, Blame
from tests.integration.engine.engine_toy import System, worker_process
from tests.integration.engine.test_engine_recovery import sweep_of

PATIENCE_SECONDS = 120.0
INNOCENTS = 4
_KEYS = iter(range(100, 10_000))


async def dies(system: System, run_ids: Collection[UUID] = ()) -> None:
    """Let a worker die with these runs in hand, and be swept up after."""
    key = next(_KEYS)
    async with transaction(system.database) as connection:
        await connection.execute(
            text("UPDATE runs SET status = 'running', worker = :key, admitted = true WHERE id = ANY(:runs)"),
            {"key": key, "runs": list(run_ids)},
        )
        await connection.execute(
            text(
                "INSERT INTO workers (key, host, pid, version, queues, concurrency, heartbeat_at)"
                " VALUES (:key, 'h', 1, '0.1.0', '[]', 1, now() - interval '1 minute')"
            ),
            {"key": key},
        )
    await sweep_of(system)()


async def gets_on(system: System, run_id: UUID) -> None:
    """Let a model answer a run once more."""
    async with transaction(system.database) as connection:
        await connection.execute(
            text(
                "INSERT INTO model_journal (run_id, request, ordinal, step, accepted, answer)"
                " SELECT :run, 'r', count(*), 's', true, '{}' FROM model_journal WHERE run_id = :run"
            ),
            {"run": run_id},
        )


async def suspects(system: System, count: int) -> list[Run]:
    """Return runs that are due and were in hand at two deaths."""
    found = [await system.run_of((await system.launch("plain")).id) for _ in range(count)]
    for _ in range(SUSPECT):
        await dies(system, [run.id for run in found])
    return [await system.run_of(run.project_id) for run in found]


async def test_a_run_that_kills_is_found_among_others(system: System, migrated_database_url: str) -> None:
    """All share its worker's first deaths; then suspects come one at a time, and only that one fails."""
    others = [await system.launch("lengthy") for _ in range(INNOCENTS)]
    guilty = await system.launch("fatal")
    killed = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await system.run_of(guilty.id)).status != "failed":
            async with worker_process(migrated_database_url, system.folder) as process:
                ended = asyncio.create_task(process.wait())
                failed = asyncio.create_task(system.until(guilty.id, "failed", seconds=PATIENCE_SECONDS))
                await asyncio.wait({ended, failed}, return_when=asyncio.FIRST_COMPLETED)
                failed.cancel()
                if ended.done():
                    killed += 1
                else:
                    for other in others:
                        await system.until(other.id, "success", "failed")
    run = await system.run_of(guilty.id)
    assert run.error is not None
    assert (run.error.code, killed) == ("run_quarantined", MAX_CRASHES)
    assert {(await system.run_of(other.id)).status for other in others} == {"success"}


async def test_a_worker_has_one_suspect_at_a_time(system: System) -> None:
    """Of two that are taken at once one is left for later or for another worker, until the first got on."""
    one, other = await suspects(system, 2)
    assert (one.crashes, other.crashes) == (SUSPECT, SUSPECT)
    life = system.lifecycle(7)
    taken = await asyncio.gather(life.take(one.id), life.take(other.id))
    (held,) = (found.run.id for found in taken if found is not None)
    left = other if held == one.id else one
    assert await life.take(left.id) is None
    elsewhere = await system.lifecycle(8).take(left.id)
    assert elsewhere is not None
    await system.lifecycle(8).hand_back(elsewhere.run)
    assert await life.take(left.id) is None
    await gets_on(system, held)
    async with transaction(system.database) as connection:
        assert await deaths.clear(connection, 7, [held]) == [held]
    assert await life.take(left.id) is not None


async def test_two_suspects_that_are_taken_at_once_see_each_other(system: System) -> None:
    """The second waits until it is known whether the first was taken."""
    one, other = await suspects(system, 2)
    async with system.database.begin() as connection:
        query = text("SELECT was FROM phoenix_take_v2(:run, 7)")
        await connection.execute(query, {"run": one.id})
        second = asyncio.create_task(system.lifecycle(7).take(other.id))
        done, _ = await asyncio.wait({second}, timeout=0.5)
        assert not done
    assert await second is None


async def test_one_that_lives_for_long_keeps_no_other_waiting(system: System) -> None:
    """After five minutes in hand it is no reason to leave another one."""
    one, other = await suspects(system, 2)
    life = system.lifecycle(7)
    assert await life.take(one.id) is not None
    async with transaction(system.database) as connection:
        query = "UPDATE runs SET taken_at = taken_at - interval '6 minutes' WHERE id = :run"
        await connection.execute(text(query), {"run": one.id})
    assert await life.take(other.id) is not None


async def test_a_suspect_that_got_on_is_none(system: System) -> None:
    """It is taken beside others, its crashes forgotten."""
    one, other = await suspects(system, 2)
    await gets_on(system, other.id)
    life = system.lifecycle(7)
    assert await life.take(one.id) is not None
    taken = await life.take(other.id)
    assert taken is not None
    assert taken.run.crashes == 0


async def test_deaths_elsewhere_speak_for_a_run(system: System) -> None:
    """Where workers die without it as well it is spared, but not for ever."""
    project = await system.launch("plain")
    run = await system.run_of(project.id)
    for _ in range(LAST_CRASHES - 1):
        await dies(system, [run.id])
        await dies(system)
        await dies(system)
    spared = await system.run_of(project.id)
    assert (spared.status, spared.crashes) == ("running", LAST_CRASHES - 1)
    await dies(system, [run.id])
    assert (await system.run_of(project.id)).status == "failed"


async def test_deaths_before_its_own_are_no_excuse(system: System) -> None:
    """Only those count that came after the first one with it in hand."""
    project = await system.launch("plain")
    run = await system.run_of(project.id)
    for _ in range(5):
        await dies(system)
    for _ in range(MAX_CRASHES):
        await dies(system, [run.id])
    assert (await system.run_of(project.id)).status == "failed"


async def test_a_run_that_gets_on_kills_no_workers_for_ever(system: System) -> None:
    """Each death is at another place; at so many within a day it is quarantined, and can be released."""
    project = await system.launch("plain")
    run = await system.run_of(project.id)
    for _ in range(MAX_DAY):
        assert (await system.run_of(project.id)).status in {"pending", "running"}
        await gets_on(system, run.id)
        await dies(system, [run.id])
    found = await system.run_of(project.id)
    assert found.error is not None
    assert (found.error.code, found.crashes) == ("run_quarantined", 1)
    assert str(MAX_DAY) in found.error.message
    await system.engine.resume(project.id)
    await dies(system, [run.id])
    assert (await system.run_of(project.id)).status == "running"


async def test_a_worker_that_was_taken_for_dead_takes_it_back(system: System) -> None:
    """Its session was lost for a while: what others charged its runs with is undone."""
    project = await system.launch("slow")
    async with system.engine.worker():
        await system.until_marked("slow")
        key = system.engine._worker.sweep.key
        async with transaction(system.database) as connection:
            await deaths.record(connection, [key], [(await system.run_of(project.id)).id])
            await connection.execute(text("UPDATE runs SET crashes = 1"))
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
            await connection.execute(text(query), {"name": "phoenix heartbeat"})
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await system.run_of(project.id)).crashes:
                await asyncio.sleep(0.05)
        system.go()
        await system.until(project.id, "success")
    async with transaction(system.database) as connection:
        assert (await connection.execute(text("SELECT count(*) FROM worker_deaths"))).scalar_one() == 0


@pytest.mark.parametrize(
    ("blame", "guilty"),
    [
        (Blame(MAX_CRASHES - 1, 0, 2), False),
        (Blame(MAX_CRASHES, 0, 3), True),
        (Blame(MAX_CRASHES, MAX_CRASHES - 1, 3), True),
        (Blame(MAX_CRASHES, MAX_CRASHES, 3), False),
        (Blame(LAST_CRASHES, 100, 6), True),
        (Blame(1, 0, MAX_DAY), True),
    ],
)
def test_the_rule(blame: Blame, guilty: bool) -> None:
    """Three in a row with no more elsewhere, six in a row, or twenty within a day."""
    assert is_to_blame(blame) is guilty
