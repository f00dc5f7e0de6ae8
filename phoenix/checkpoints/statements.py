"""The statements of the checkpointer. The tables have the shape that LangGraph's own saver gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WRITE = """
WITH claim AS MATERIALIZED (
    SELECT c.n::int4 AS n, c.run, c.attempt
    FROM unnest($1::uuid[], $2::int4[]) WITH ORDINALITY AS c (run, attempt, n)
), held AS MATERIALIZED (
    SELECT c.n FROM claim c JOIN runs r ON r.id = c.run
    WHERE r.attempt = c.attempt AND r.status = 'running'
    ORDER BY r.id
    FOR SHARE OF r SKIP LOCKED
), blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT b.thread, b.ns, b.channel, b.version, b.type, b.blob
    FROM unnest($3::int4[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[])
        AS b (claim, thread, ns, channel, version, type, blob)
    WHERE b.claim = 0 OR b.claim IN (SELECT n FROM held)
    ON CONFLICT DO NOTHING
), writes AS (
    INSERT INTO checkpoint_writes AS w
        (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, type, blob)
    SELECT i.thread, i.ns, i.id, i.task, i.idx, i.path, i.channel, i.type, i.blob
    FROM unnest(
        $10::int4[], $11::text[], $12::text[], $13::text[], $14::text[], $15::int4[], $16::text[],
        $17::text[], $18::text[], $19::bytea[]
    ) AS i (claim, thread, ns, id, task, idx, path, channel, type, blob)
    WHERE i.claim = 0 OR i.claim IN (SELECT n FROM held)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
        SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob
        WHERE EXCLUDED.idx < 0
), points AS (
    INSERT INTO checkpoints
        (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
    SELECT p.thread, p.ns, p.id, p.parent, p.checkpoint, p.metadata
    FROM unnest($20::int4[], $21::text[], $22::text[], $23::text[], $24::text[], $25::jsonb[], $26::jsonb[])
        AS p (claim, thread, ns, id, parent, checkpoint, metadata)
    WHERE p.claim = 0 OR p.claim IN (SELECT n FROM held)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
        SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata
)
SELECT c.n, EXISTS (
    SELECT FROM runs r WHERE r.id = c.run AND r.attempt = c.attempt AND r.status = 'running'
) FROM claim c WHERE c.n NOT IN (SELECT n FROM held)
"""
"""Stores a batch in one commit and returns the claims that were not accepted.

A claim is accepted by a share lock on its run's row, so whoever takes the run away waits for this commit, or
this write does not happen. A row that somebody holds is skipped, so that nobody's claim delays the others: it
comes back with true (it is still the run's, as far as committed rows say), one that lost its run with false.
Special writes (idx < 0) replace each other, the others stay as they are: the same write comes again after a
lost connection.
"""

_COLUMNS = """
    c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id,
    c.checkpoint::text, c.metadata::text,
    (
        SELECT array_agg(ARRAY[convert_to(b.channel, 'UTF8'), convert_to(b.type, 'UTF8'), b.blob])
        FROM jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
        JOIN checkpoint_blobs b ON b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns
            AND b.channel = v.key AND b.version = v.value
        WHERE b.type <> 'empty'
    ),
    (
        SELECT array_agg(ARRAY[
            convert_to(w.task_path, 'UTF8'), convert_to(w.task_id, 'UTF8'), int4send(w.idx),
            convert_to(w.channel, 'UTF8'), convert_to(w.type, 'UTF8'), w.blob
        ])
        FROM checkpoint_writes w
        WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns
            AND w.checkpoint_id = c.checkpoint_id
    )
"""

READ = "\n".join(
    (
        "SELECT q.n,",
        _COLUMNS,
        """
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS q (thread, ns, id, n)
CROSS JOIN LATERAL (
    SELECT * FROM checkpoints t
    WHERE q.id IS NOT NULL AND t.thread_id = q.thread AND t.checkpoint_ns = q.ns AND t.checkpoint_id = q.id
    UNION ALL
    (
        SELECT * FROM checkpoints t
        WHERE q.id IS NULL AND t.thread_id = q.thread AND t.checkpoint_ns = q.ns
        ORDER BY t.checkpoint_id DESC LIMIT 1
    )
) AS c
""",
    )
)
"""Reads one checkpoint a question: of an id, or the latest. Questions without an answer have no row."""

LIST = " ".join(("SELECT 1,", _COLUMNS, "FROM checkpoints AS c"))
CONDITIONS = (
    "c.thread_id = ${}",
    "c.checkpoint_ns = ${}",
    "c.checkpoint_id = ${}",
    "c.checkpoint_id < ${}",
    "c.metadata @> ${}::jsonb",
)


def listing(wanted: Sequence[Any], limit: int | None) -> tuple[str, list[Any]]:
    """Return the statement for a list, newest first, and its parameters.

    Conditions that are not wanted (None) are left out of its text: a plan that must serve them all reads
    the whole table.

    Args:
        wanted: Values for CONDITIONS, in their order.
        limit: The most checkpoints.
    """
    values = [value for value in wanted if value is not None]
    chosen = [text for text, value in zip(CONDITIONS, wanted, strict=True) if value is not None]
    where = " AND ".join(text.format(n) for n, text in enumerate(chosen, start=1))
    parts = [LIST, "WHERE", where or "true", "ORDER BY c.checkpoint_id DESC"]
    if limit is not None:
        values.append(limit)
        parts.append(f"LIMIT ${len(values)}")
    return " ".join(parts), values


HISTORY = """
WITH RECURSIVE chain AS (
    SELECT c.checkpoint_id AS id, c.parent_checkpoint_id AS parent, 0 AS n,
        false AS seeded, NULL::text AS version, NULL::jsonb AS inlined
    FROM checkpoints c
    WHERE c.thread_id = $1 AND c.checkpoint_ns = $2 AND c.checkpoint_id = $3
    UNION ALL
    SELECT c.checkpoint_id, c.parent_checkpoint_id, chain.n + 1,
        s.blob OR s.inlined IS NOT NULL, s.version, s.inlined
    FROM chain
    JOIN checkpoints c ON c.thread_id = $1 AND c.checkpoint_ns = $2 AND c.checkpoint_id = chain.parent
    CROSS JOIN LATERAL (
        SELECT c.checkpoint -> 'channel_versions' ->> $4 AS version,
            nullif(c.checkpoint -> 'channel_values' -> $4, 'null') AS inlined,
            EXISTS (
                SELECT FROM checkpoint_blobs b
                WHERE b.thread_id = $1 AND b.checkpoint_ns = $2 AND b.channel = $4 AND b.type <> 'empty'
                    AND b.version = c.checkpoint -> 'channel_versions' ->> $4
            ) AS blob
    ) AS s
    WHERE NOT chain.seeded
)
SELECT a.n, w.task_path, w.task_id, w.idx, w.type, w.blob, NULL::text
FROM chain a
JOIN checkpoint_writes w
    ON w.thread_id = $1 AND w.checkpoint_ns = $2 AND w.checkpoint_id = a.id AND w.channel = $4
WHERE a.n > 0
UNION ALL
SELECT 0, '', '', 0, b.type, b.blob, a.inlined::text
FROM chain a
LEFT JOIN checkpoint_blobs b
    ON b.thread_id = $1 AND b.checkpoint_ns = $2 AND b.channel = $4 AND b.type <> 'empty'
        AND b.version = a.version
WHERE a.seeded
"""
"""Reads what one channel was written from the nearest ancestor that holds its value to the parent.

Rows of n > 0 are writes, the farther from the target the larger n; the row of n = 0 is the ancestor's value:
its blob, else what is inlined in its checkpoint.
"""
