"""What Phoenix adds to the queue's schema."""

from __future__ import annotations

import psycopg
import pytest

from phoenix.storage.database import conninfo

PUT = "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('default', 't', 'run')"
FETCH = "SELECT id FROM procrastinate_fetch_job_v2(NULL, (SELECT max(id) FROM procrastinate_workers))"


@pytest.mark.parametrize("deleted", [True, False])
async def test_workers_are_notified_when_a_lock_frees(migrated_database_url: str, *, deleted: bool) -> None:
    """The next job of the same lock need not wait for polling, whether its forerunner is kept or deleted."""
    url = conninfo(migrated_database_url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT procrastinate_register_worker_v1()")
        await connection.execute(PUT)
        await connection.execute(PUT)
        first = await (await connection.execute(FETCH)).fetchone()
        assert first is not None
        assert await (await connection.execute(FETCH)).fetchone() == (None,)
        await connection.execute("LISTEN procrastinate_any_queue_v1")
        await connection.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', %s)", [*first, deleted])
        notices = [notice async for notice in connection.notifies(timeout=1, stop_after=1)]
        assert len(notices) == 1
        assert "job_inserted" in notices[0].payload
        second = await (await connection.execute(FETCH)).fetchone()
        assert second != (None,)
        await connection.execute(
            "SELECT procrastinate_finish_job_v1(%s, 'succeeded', %s)", [*second, deleted]
        )
        assert [n async for n in connection.notifies(timeout=0.1)] == []
