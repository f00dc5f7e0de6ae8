"""Lost connections and a restarted server lose nothing and double nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.savers import chain
from phoenix.checkpoints.saver import open_saver
from phoenix.errors import DatabaseUnavailable
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.migrate import upgrade
from tests.unit.checkpoints.fenced import a_run, execute, of, put, unfenced

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
STEPS = 12


def graph_of(saver: Any) -> Any:
    return chain(STEPS, [0.01], saver)


async def history(saver: Any, run_id: Any) -> list[int]:
    """Return the steps of a run's checkpoints, oldest first."""
    found = [tuple_.metadata["step"] async for tuple_ in saver.alist(of(run_id))]
    return list(reversed(found))


async def test_connections_that_die_lose_and_double_nothing(migrated_database_url: str) -> None:
    """While twenty runs advance, every connection is ended again and again: each run ends as if not."""
    runs = [await a_run(migrated_database_url) for _ in range(20)]
    async with open_saver(migrated_database_url) as saver:
        graph = graph_of(saver)
        working = asyncio.gather(
            *(graph.ainvoke({"n": 0, "found": {}}, of(run), durability="sync") for run in runs)
        )
        killed = 0  # connections
        while not working.done():
            killed += len(await execute(migrated_database_url, TERMINATE))
            await asyncio.sleep(0.1)
        assert [done["n"] for done in await working] == [STEPS] * len(runs)
        assert killed > 0
        for run in runs:
            assert await history(saver, run) == list(range(-1, STEPS + 1))


async def test_a_write_whose_answer_is_lost_is_stored_once(migrated_database_url: str) -> None:
    """The same calls once more, as after a commit whose answer never came, leave the same rows."""
    run = await a_run(migrated_database_url)
    async with open_saver(migrated_database_url) as saver:
        await graph_of(saver).ainvoke({"n": 0, "found": {}}, of(run), durability="sync")
        before = await rows(migrated_database_url)
        async for found in saver.alist(of(run)):
            parent = (found.parent_config or {"configurable": {}})["configurable"]
            config: Any = {"configurable": {**of(run)["configurable"], **parent}}
            await saver.aput(
                config, found.checkpoint, found.metadata, dict(found.checkpoint["channel_versions"])
            )
        assert await rows(migrated_database_url) == before


async def rows(url: str) -> list[tuple[Any, ...]]:
    """Return what is stored of all threads."""
    query = (
        "SELECT checkpoint_id, parent_checkpoint_id, checkpoint::text FROM checkpoints"
        " UNION ALL SELECT channel, version, type FROM checkpoint_blobs ORDER BY 1, 2"
    )
    return await execute(url, query)


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    with suppress(psutil.NoSuchProcess):
        async with asyncio.timeout(60):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.02)


async def test_a_restarted_server_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The server is killed and started again in the middle of ten runs, which notice nothing."""
    server = EmbeddedPostgres(tmp_path)
    url = await server.start()
    try:
        await upgrade(url)
        runs = [await a_run(url) for _ in range(10)]
        # A busy machine may take long to start a server.
        async with open_saver(url, patience_seconds=150) as saver:
            graph = chain(STEPS, [0.05], saver)
            working = asyncio.gather(
                *(graph.ainvoke({"n": 0, "found": {}}, of(run), durability="sync") for run in runs)
            )
            await asyncio.sleep(0.3)
            assert not working.done()
            pid = int((server.data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGQUIT)
            # On a busy machine it may still answer, and would be taken for one that runs.
            await gone(pid)
            again = EmbeddedPostgres(tmp_path)
            await again.start()
            assert [done["n"] for done in await working] == [STEPS] * len(runs)
            for run in runs:
                assert await history(saver, run) == list(range(-1, STEPS + 1))
        await again.stop()
    finally:
        await server.stop()


async def test_a_database_that_stays_away_is_an_error_in_bounded_time(tmp_path: Path) -> None:
    """Reads and writes give up after their patience and say what to do."""
    server = EmbeddedPostgres(tmp_path)
    url = await server.start()
    await upgrade(url)
    async with open_saver(url, patience_seconds=0.3) as saver:
        await put(saver, unfenced(), value=[1])
        await server.stop()
        async with asyncio.timeout(10):
            with pytest.raises(DatabaseUnavailable, match="Check that the database runs"):
                await put(saver, unfenced(), value=[1])
            with pytest.raises(DatabaseUnavailable, match="Check that the database runs"):
                await saver.aget_tuple(unfenced())
            with pytest.raises(DatabaseUnavailable):
                await saver.adelete_thread("a")
