"""One look at the whole installation; its cost grows with what is unfinished, not with what was."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.fleet import Fleet, Lag
from phoenix.storage.workers import ALIVE_SECONDS

MOST_GATES = 20
"""Gates that are told apart; those of users' own flows beyond are summed up as `other`."""

_LOOK = text(
    """
SELECT 'runs' AS what, status::text AS name, count(*) AS number, 0::float8 AS oldest
FROM runs WHERE status IN ('pending', 'running', 'waiting') GROUP BY 2
UNION ALL
SELECT 'due', queue, count(*), extract(epoch FROM clock_timestamp() - min(queued_at))
FROM runs WHERE status = 'pending' AND NOT paused AND NOT behind GROUP BY 2
UNION ALL
SELECT 'workers', state, count(*), 0
FROM workers WHERE heartbeat_at > clock_timestamp() - make_interval(secs => :alive) GROUP BY 2
UNION ALL
SELECT 'approvals', a.request ->> 'name', count(*), extract(epoch FROM clock_timestamp() - min(a.created_at))
FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.decided_at IS NULL AND r.status IN ('pending', 'running', 'waiting') GROUP BY 2
"""
)


async def look(connection: AsyncConnection) -> Fleet:
    """Return how the installation stands."""
    found: dict[str, dict[str, Lag]] = {"runs": {}, "due": {}, "workers": {}, "approvals": {}}
    for row in await connection.execute(_LOOK, {"alive": ALIVE_SECONDS}):
        found[row.what][row.name] = Lag(count=row.number, oldest_seconds=max(0.0, float(row.oldest or 0)))
    return Fleet(
        runs={name: lag.count for name, lag in found["runs"].items()},
        due=found["due"],
        workers={name: lag.count for name, lag in found["workers"].items()},
        approvals=_bounded(found["approvals"]),
    )


def _bounded(gates: dict[str, Lag]) -> dict[str, Lag]:
    kept = sorted(gates, key=lambda name: -gates[name].count)
    named = {name: gates[name] for name in kept[:MOST_GATES]}
    rest = [gates[name] for name in kept[MOST_GATES:]]
    if rest:
        oldest = max(lag.oldest_seconds for lag in rest)
        named["other"] = Lag(count=sum(lag.count for lag in rest), oldest_seconds=oldest)
    return named
