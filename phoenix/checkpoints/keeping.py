"""Deletes, copies and thins out threads, each in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from phoenix.checkpoints.lines import Lines

DELETE = (
    "DELETE FROM checkpoints WHERE thread_id = ANY(%s)",
    "DELETE FROM checkpoint_blobs WHERE thread_id = ANY(%s)",
    "DELETE FROM checkpoint_writes WHERE thread_id = ANY(%s)",
)

COPY = (
    """
    INSERT INTO checkpoints
        (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
    SELECT %s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
    FROM checkpoints WHERE thread_id = %s ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %s, checkpoint_ns, channel, version, type, blob
    FROM checkpoint_blobs WHERE thread_id = %s ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path)
    SELECT %s, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
    FROM checkpoint_writes WHERE thread_id = %s ON CONFLICT DO NOTHING
    """,
)

OF_RUNS = """
SELECT thread_id, checkpoint_ns, array_agg(checkpoint_id)
FROM checkpoints WHERE metadata ->> 'run_id' = ANY(%s) GROUP BY 1, 2
"""

HEADS = """
SELECT DISTINCT ON (checkpoint_ns) checkpoint_ns, checkpoint_id,
    ARRAY(SELECT jsonb_object_keys(metadata -> 'counters_since_delta_snapshot'))
FROM checkpoints WHERE thread_id = %s ORDER BY checkpoint_ns, checkpoint_id DESC
"""
"""Latest checkpoints, each with the channels whose value is not in it but in its ancestors' writes."""

ANCESTORS = """
WITH RECURSIVE chain AS (
    SELECT checkpoint_id AS id, parent_checkpoint_id AS parent, false AS seeded
    FROM checkpoints WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND checkpoint_id = %(id)s
    UNION ALL
    SELECT c.checkpoint_id, c.parent_checkpoint_id,
        c.checkpoint -> 'channel_values' -> %(channel)s IS NOT NULL OR EXISTS (
            SELECT FROM checkpoint_blobs b
            WHERE b.thread_id = %(thread)s AND b.checkpoint_ns = %(ns)s AND b.channel = %(channel)s
                AND b.type <> 'empty' AND b.version = c.checkpoint -> 'channel_versions' ->> %(channel)s
        )
    FROM chain JOIN checkpoints c
        ON c.thread_id = %(thread)s AND c.checkpoint_ns = %(ns)s AND c.checkpoint_id = chain.parent
    WHERE NOT chain.seeded
)
SELECT id FROM chain
"""

OTHERS = """
SELECT checkpoint_id FROM checkpoints
WHERE thread_id = %s AND checkpoint_ns = %s AND checkpoint_id <> ALL(%s)
"""

DROP = (
    # By the checkpoints that go: writes may be there before their checkpoint is.
    "DELETE FROM checkpoint_writes WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s"
    " AND checkpoint_id = ANY(%(ids)s)",
    "DELETE FROM checkpoints WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s"
    " AND checkpoint_id = ANY(%(ids)s)",
    "UPDATE checkpoints SET parent_checkpoint_id = NULL WHERE thread_id = %(thread)s"
    " AND checkpoint_ns = %(ns)s AND parent_checkpoint_id = ANY(%(ids)s)",
    """
    DELETE FROM checkpoint_blobs
    WHERE thread_id = %(thread)s AND checkpoint_ns = %(ns)s AND (channel, version) NOT IN (
        SELECT v.key, v.value FROM checkpoints c, jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
        WHERE c.thread_id = %(thread)s AND c.checkpoint_ns = %(ns)s
    )
    """,
)

SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
"""What a run stores meanwhile is neither seen nor deleted."""


class Keeper:
    """Deletes, copies and thins out threads."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def delete(self, threads: Sequence[str]) -> None:
        """Delete all of these threads. Idempotent."""
        async with self._lines.line() as connection, connection.transaction():
            for statement in DELETE:
                await connection.execute(statement, (list(threads),))

    async def copy(self, source: str, target: str) -> None:
        """Copy all checkpoints and writes of a thread to another one; what is there stays. Idempotent."""
        async with self._lines.line() as connection, connection.transaction():
            for statement in COPY:
                await connection.execute(statement, (target, source))

    async def delete_of_runs(self, run_ids: Sequence[str]) -> None:
        """Delete checkpoints whose metadata names one of these runs, with their writes. Idempotent."""
        async with self._lines.line() as connection, connection.transaction():
            await connection.execute(SNAPSHOT)
            found = await connection.execute(OF_RUNS, (list(run_ids),))
            for thread, namespace, ids in await found.fetchall():
                await _drop(connection, thread, namespace, ids)

    async def keep_latest(self, thread: str) -> None:
        """Keep the latest checkpoint of each namespace, and of its ancestors what it is rebuilt from."""
        async with self._lines.line() as connection, connection.transaction():
            await connection.execute(SNAPSHOT)
            heads = await (await connection.execute(HEADS, (thread,))).fetchall()
            for namespace, head, channels in heads:
                kept = {head}
                for channel in channels:
                    about = {"thread": thread, "ns": namespace, "id": head, "channel": channel}
                    kept |= {row[0] for row in await (await connection.execute(ANCESTORS, about)).fetchall()}
                others = await connection.execute(OTHERS, (thread, namespace, list(kept)))
                ids = [row[0] for row in await others.fetchall()]
                if ids:
                    await _drop(connection, thread, namespace, ids)


async def _drop(connection: AsyncConnection[Any], thread: str, namespace: str, ids: Sequence[str]) -> None:
    for statement in DROP:
        await connection.execute(statement, {"thread": thread, "ns": namespace, "ids": list(ids)})
