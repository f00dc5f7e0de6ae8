"""Queries of admission: which due runs get a job now, and at which place among organisations.

See docs/decisions/0016-fair-admission.md. A run that is due and has no place is *held*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, INTEGER
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.tables import DUE

WINDOW = 16
"""Jobs that an organisation may have waiting in one queue; its other due runs are held back."""

PLACES = 0x70686F65
"""First half of the advisory locks under which an organisation's places are given."""

HELD = f"NOT r.admitted AND NOT r.paused AND NOT r.behind AND ({DUE})"


class Lane(NamedTuple):
    """An organisation's runs of one queue."""

    organisation_id: UUID
    queue: str


@dataclass(frozen=True)
class Place:
    """A run that just got a place, as its job needs it."""

    run_id: UUID
    thread_id: UUID
    queue: str
    tag: int


# The tag of the job that is taken next, jobs whose thread is busy left out: the virtual time.
_NOW = """
SELECT -j.priority FROM procrastinate_jobs j WHERE j.status = 'todo' AND j.queue_name = {queue}
    AND NOT EXISTS (SELECT FROM procrastinate_jobs d WHERE d.lock = j.lock AND d.status = 'doing')
    ORDER BY j.priority DESC, j.id LIMIT 1
"""

_HELD = text(f"SELECT EXISTS (SELECT FROM runs r WHERE {HELD} AND r.organisation_id = :organisation)")  # noqa: S608  # nosec B608

LANES = f"""
WITH RECURSIVE lanes AS (
    (SELECT r.organisation_id, r.queue FROM runs r WHERE {HELD} ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT n.organisation_id, n.queue FROM lanes l CROSS JOIN LATERAL (
        SELECT r.organisation_id, r.queue FROM runs r
        WHERE {HELD} AND (r.organisation_id, r.queue) > (l.organisation_id, l.queue) ORDER BY 1, 2 LIMIT 1
    ) n
)
"""  # noqa: S608 no value is put in  # nosec B608
"""Where runs are held; the cost grows with the lanes, not with the runs."""

_LANES = text(f"{LANES} SELECT organisation_id, queue FROM lanes")  # noqa: S608 no value is put in  # nosec B608

_LOCK = text("SELECT pg_advisory_xact_lock(:places, hashtext(:organisation))")

_ROOM = text(
    f"""
SELECT o.max_runs,
    (SELECT count(*) FROM runs a WHERE a.admitted AND a.organisation_id = o.id) AS admitted,
    (SELECT count(*) FROM runs w WHERE w.admitted AND w.status <> 'running'
        AND w.organisation_id = o.id AND w.queue = :queue) AS jobs,
    (SELECT max(w.tag) FROM runs w WHERE w.admitted AND w.status <> 'running'
        AND w.organisation_id = o.id AND w.queue = :queue) AS last,
    ({_NOW.format(queue=":queue")}) AS now
FROM organisations o WHERE o.id = :organisation
"""  # noqa: S608 no value is put in  # nosec B608
)

_CHOOSE = text(
    f"""
SELECT r.id, r.thread_id, r.project_id, p.max_runs,
    (SELECT count(*) FROM runs a WHERE a.project_id = r.project_id AND a.admitted) AS admitted
FROM runs r JOIN projects p ON p.id = r.project_id
WHERE {HELD} AND r.organisation_id = :organisation AND r.queue = :queue
    AND (p.max_runs IS NULL
        OR (SELECT count(*) FROM runs a WHERE a.project_id = r.project_id AND a.admitted) < p.max_runs)
ORDER BY r.priority DESC, r.ordinal LIMIT :room FOR UPDATE OF r SKIP LOCKED
"""  # noqa: S608 no value is put in  # nosec B608
)

_ADMIT = text(
    "UPDATE runs SET admitted = true, tag = given.tag"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:tags AS integer[])) AS given (id, tag) WHERE runs.id = given.id"
).bindparams(bindparam("ids", type_=ARRAY(UUID_TYPE)), bindparam("tags", type_=ARRAY(INTEGER)))


async def holds_back(connection: AsyncConnection, organisation_id: UUID) -> bool:
    """Tell whether runs of an organisation are held."""
    return bool((await connection.execute(_HELD, {"organisation": organisation_id})).scalar_one())


async def lanes(connection: AsyncConnection) -> list[Lane]:
    """Return where runs are held; the cost grows with the lanes, not with the runs."""
    return [Lane(row.organisation_id, row.queue) for row in await connection.execute(_LANES)]


async def admit(connection: AsyncConnection, lane: Lane, *, window: int = WINDOW) -> list[Place]:
    """Give free places of a lane to held runs, by priority and then age, and return them.

    It takes the organisation's lock until the transaction ends and waits for no run's row, so take no
    other lock before.
    """
    values = {"organisation": lane.organisation_id, "queue": lane.queue}
    await connection.execute(_LOCK, {"places": PLACES, "organisation": str(lane.organisation_id)})
    room = (await connection.execute(_ROOM, values)).one()
    free = window - room.jobs
    if room.max_runs is not None:
        free = min(free, room.max_runs - room.admitted)
    if free <= 0:
        return []
    chosen = _within_projects((await connection.execute(_CHOOSE, values | {"room": free})).all())
    tag = max(room.now or 0, (-1 if room.last is None else room.last) + 1)
    places = [Place(row.id, row.thread_id, lane.queue, tag + n) for n, row in enumerate(chosen)]
    if places:
        given = {"ids": [p.run_id for p in places], "tags": [p.tag for p in places]}
        await connection.execute(_ADMIT, given)
    return places


def _within_projects(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Leave out runs that would be more than their project may have at once."""
    taken: dict[UUID, int] = {}
    chosen = []
    for row in rows:
        count = taken.get(row.project_id, row.admitted)
        if row.max_runs is None or count < row.max_runs:
            taken[row.project_id] = count + 1
            chosen.append(row)
    return chosen
