"""Whether a sweep may find anything to do: one statement, in place of the many that a sweep needs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from phoenix.storage.direct import Direct
from phoenix.storage.places import LANES, WINDOW

IDLE = (
    "r.admitted AND NOT r.paused AND (r.status = 'pending' OR (r.status = 'running' AND r.worker IS NULL)"
    " OR (r.status = 'waiting' AND r.wake))"
    " AND NOT EXISTS (SELECT FROM procrastinate_jobs j"
    " WHERE j.lock = r.thread_id::text AND j.status IN ('todo', 'doing'))"
)
"""Runs that have a place but no live job, though one should be: their job was lost."""

IDLE_EFFECTS = (
    "o.posted AND o.status IN ('pending', 'begun') AND o.next_attempt_at <= clock_timestamp()"
    " AND NOT EXISTS (SELECT FROM procrastinate_jobs j"
    " WHERE j.lock = o.id::text AND j.status IN ('todo', 'doing'))"
)

UNTIDY = f"""
{LANES}
SELECT
    EXISTS (
        SELECT FROM workers w
        WHERE w.key <> $1::bigint AND w.heartbeat_at < clock_timestamp() - make_interval(secs => $2::float8)
    )
    OR EXISTS (
        SELECT FROM runs r WHERE r.worker IS NOT NULL AND r.worker <> $1
            AND NOT EXISTS (SELECT FROM workers w WHERE w.key = r.worker)
    )
    OR EXISTS (
        SELECT FROM runs r WHERE r.worker = $1 AND r.status = 'running' AND r.id <> ALL ($3::uuid[])
    )
    OR EXISTS (
        SELECT FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
        WHERE j.status = 'doing' AND j.lock IS NOT NULL
            AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => $2::float8))
    )
    OR EXISTS (SELECT FROM runs r WHERE {IDLE})
    OR EXISTS (
        SELECT FROM lanes l JOIN organisations o ON o.id = l.organisation_id
        WHERE (o.max_runs IS NULL OR o.max_runs > (
                SELECT count(*) FROM runs a WHERE a.admitted AND a.organisation_id = o.id
            ))
            AND $4::int4 > (
                SELECT count(*) FROM runs w WHERE w.admitted AND w.status <> 'running'
                    AND w.organisation_id = o.id AND w.queue = l.queue
            )
    )
    OR EXISTS (SELECT FROM outbox o WHERE {IDLE_EFFECTS})
    OR EXISTS (
        SELECT FROM approvals a WHERE a.next_at <= clock_timestamp() AND a.decided_at IS NULL
    )
    OR EXISTS (
        SELECT FROM runs r WHERE r.status = 'waiting' AND r.resume_at <= clock_timestamp() AND NOT r.wake
    )
"""  # noqa: S608 no value is put in  # nosec B608


class Tidiness:
    """Tells whether a sweep may find anything."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct

    async def is_untidy(self, key: int, dead_seconds: float, in_hand: Sequence[UUID]) -> bool:
        """Tell whether a sweep may find anything; too often yes, never no where there is something.

        Args:
            key: The worker that sweeps.
            dead_seconds: How old the last heartbeat of a worker is at least that may be lost.
            in_hand: The runs that it is advancing, or about to take.
        """
        return bool((await self._direct.fetch(UNTIDY, (key, dead_seconds, list(in_hand), WINDOW)))[0][0])
