"""How runs begin, are taken and end: each is one statement and one commit (docs/decisions/0021).

The rules are in functions of the database (migrations 0024, 0031): what a transition reads, locks and writes
depends on what it finds, and between two of its statements there is no message to anybody. Locks are taken
in one order everywhere: children before parents, runs before the project's event counter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.cleaning import clean_dump
from phoenix.domain.run import Project, Run, RunError
from phoenix.errors import NotFound, RunSuperseded
from phoenix.storage.direct import Direct, Row, Together
from phoenix.storage.events import CHANNEL
from phoenix.storage.places import HELD, WINDOW
from phoenix.telemetry.redaction import mask_json, mask_known_json

_PROJECT = tuple(Project.model_fields)
_RUN = tuple(Run.model_fields)
_LEFT = {"error", "output", "queued_at", "taken_at", "started_at", "finished_at"}
_NEW_RUN = (*(name for name in _RUN if name not in _LEFT), "input", "priority")


def _columns(names: Iterable[str], of: str = "") -> str:
    return ", ".join(f'{of}"{name}"' for name in names)


_LAUNCH = f"""
WITH launched AS MATERIALIZED (
    SELECT g.n, p AS project, r AS run, g.item -> 'event' AS event
    FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS g (item, n),
        jsonb_populate_record(NULL::projects, g.item -> 'project') AS p,
        jsonb_populate_record(NULL::runs, g.item -> 'run') AS r
    WHERE $2::boolean OR NOT EXISTS (
        SELECT FROM organisations o
        WHERE o.id = r.organisation_id AND (o.max_projects IS NOT NULL OR o.max_usd_day IS NOT NULL)
    )
), lanes AS (
    SELECT l.organisation_id, l.queue,
        (SELECT count(*) FROM runs w WHERE w.admitted AND w.status <> 'running'
            AND w.organisation_id = l.organisation_id AND w.queue = l.queue) AS jobs,
        greatest(
            coalesce((
                SELECT -j.priority FROM procrastinate_jobs j
                WHERE j.status = 'todo' AND j.queue_name = l.queue AND NOT EXISTS (
                        SELECT FROM procrastinate_jobs d WHERE d.lock = j.lock AND d.status = 'doing'
                    )
                ORDER BY j.priority DESC, j.id LIMIT 1
            ), 0),
            coalesce((
                SELECT max(w.tag) FROM runs w WHERE w.admitted AND w.status <> 'running'
                    AND w.organisation_id = l.organisation_id AND w.queue = l.queue
            ), -1) + 1
        ) AS tag,
        o.max_runs IS NULL AND NOT EXISTS (
            SELECT FROM runs r WHERE {HELD} AND r.organisation_id = l.organisation_id AND r.queue = l.queue
        ) AS is_open
    FROM (SELECT DISTINCT (run).organisation_id, (run).queue FROM launched) AS l
    LEFT JOIN organisations o ON o.id = l.organisation_id
), counted AS (
    SELECT g.*, l.tag, l.jobs, l.is_open AND (g.project).max_runs IS NULL AS may,
        row_number() OVER (PARTITION BY l.organisation_id, l.queue ORDER BY g.n) - 1 AS before
    FROM launched g JOIN lanes l ON l.organisation_id = (g.run).organisation_id AND l.queue = (g.run).queue
), placed AS MATERIALIZED (
    SELECT n, project, run, event, tag + before AS tag,
        bool_and(may AND jobs + before < $3::int4)
            OVER (PARTITION BY (run).organisation_id, (run).queue ORDER BY n) AS enters
    FROM counted
){{projects}}, threaded AS (
    INSERT INTO threads (id, project_id) SELECT (run).thread_id, (run).project_id FROM placed
), begun AS (
    INSERT INTO runs ({_columns(_NEW_RUN)}, admitted, tag)
    SELECT {_columns(_NEW_RUN, "(run).")}, enters, CASE WHEN enters THEN tag ELSE 0 END
    FROM placed ORDER BY n
), noted AS (
    INSERT INTO events (project_id, seq, run_id, kind, data)
    SELECT (run).project_id, 1, (run).id, 'project_created', event FROM placed
), queued AS (
    SELECT procrastinate_defer_jobs_v1(array_agg(ROW(
        (run).queue, 'advance', -tag, (run).thread_id::text, NULL,
        jsonb_build_object('run_id', (run).id), NULL
    )::procrastinate_job_to_defer_v1 ORDER BY n)) AS ids
    FROM placed WHERE enters HAVING count(*) > 0
)
SELECT (run).id, enters, pg_notify($4::text, (run).project_id || ' project_created'),
    (SELECT count(*) FROM queued WHERE ids IS NOT NULL)
FROM placed ORDER BY n
"""  # noqa: S608 only names of our own are put in  # nosec B608
_PROJECTS = f""", projected AS (
    INSERT INTO projects ({_columns(_PROJECT)}, last_event)
    SELECT {_columns(_PROJECT, "(project).")}, 1 FROM placed
)"""  # noqa: S608 only names of our own are put in  # nosec B608

LAUNCH = _LAUNCH.replace("{projects}", _PROJECTS)
"""Stores projects with their runs; those that may have a place at once get it and their jobs.

Without `$2` projects of an organisation that has quotas are left out, since those are counted under its lock.
The rule is that of `phoenix_enter_v1`, for as many as come together: each counts those before it in its
lane, and where one is held, those after it are.
"""

LAUNCH_PROJECTS = f"""
INSERT INTO projects ({_columns(_PROJECT)}, last_event)
SELECT {_columns(_PROJECT, "p.")}, 1
FROM jsonb_array_elements($1::jsonb) AS g, jsonb_populate_record(NULL::projects, g -> 'project') AS p
"""  # noqa: S608 only names of our own are put in  # nosec B608
LAUNCH_RUNS = _LAUNCH.replace("{projects}", "")
"""A launch in two statements: row-level security looks for the project's row before it takes others of it."""

TAKE = f"""
WITH t AS (SELECT * FROM phoenix_take_v2($1::uuid, $2::int8))
SELECT t.was, t.held, t.organisation, {_columns(_RUN, "(t.taken).")}, (t.taken).input,
    {_columns(_PROJECT, "(t.its).")}, jsonb_path_query_array((t.taken).interrupts, '$[*].id')
FROM t
"""  # noqa: S608 only names of our own are put in  # nosec B608

END = """
WITH ends AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS g (
    n integer, run uuid, attempt integer, job bigint, outcome text, output jsonb, error jsonb
))
SELECT g.n, e.attempt, e.status, e.ended, e.held
FROM ends g, LATERAL phoenix_end_v1(g.run, g.attempt, g.job, g.outcome, g.output, g.error, $2::int4) AS e
"""

ENTER = "SELECT phoenix_enter_v1($1::uuid, $2::int4)"
WAKE = "SELECT phoenix_wake_v1($1::uuid, $2::int4)"


@dataclass(frozen=True)
class Launched:
    """A project to store, with its first run."""

    project: Project
    run: Run
    input: dict[str, Any]
    priority: int
    event: dict[str, Any]
    """What `project_created` says."""

    def row(self) -> bytes:
        """Return it as the statement reads it."""
        run = self.run.model_dump(mode="json", exclude={*_LEFT, "metadata"})
        run |= {"priority": self.priority, "input": _json(self.input), "metadata": _json(self.run.metadata)}
        project = _json(self.project.model_dump(mode="json"))
        return orjson.dumps(
            {"project": project, "run": run, "event": orjson.Fragment(mask_json(clean_dump(self.event)))}
        )


@dataclass(frozen=True)
class End:
    """How a run ends. Without `attempt` whoever ends it holds its row and has looked."""

    run: Run
    status: str
    attempt: int | None = None
    job: int | None = None
    """The job that advances it, which goes with it."""
    output: dict[str, Any] | None = None
    error: RunError | None = None

    def row(self, n: int) -> bytes:
        """Return it as the statement reads it."""
        return orjson.dumps(
            {
                "n": n,
                "run": self.run.id,
                "attempt": self.attempt,
                "job": self.job,
                "outcome": self.status,
                "output": orjson.Fragment(mask_known_json(clean_dump(self.output))),
                "error": _json(None if self.error is None else self.error.model_dump(mode="json")),
            }
        )


@dataclass(frozen=True)
class TakenRow:
    """What a worker gets that takes a run. `held`: other runs of its organisation may come now."""

    run: Run | None
    """None: there is nothing to do on it, or somebody works on it."""
    project: Project | None
    input: dict[str, Any]
    was: str
    organisation_id: UUID
    held: bool
    interrupts: tuple[str, ...] = ()
    """Ids of what it waited for."""


class Transitions:
    """Transitions in transactions of their own; what comes together goes together."""

    def __init__(self, direct: Direct, *, window: int = WINDOW) -> None:
        self._direct = direct
        self._window = window
        self._launches: Together[Launched, bool | None] = Together(self._launch)
        self._ends: Together[End, set[UUID]] = Together(self._end)

    async def launch(self, launched: Launched) -> bool | None:
        """Store a project and its run; return whether the run has a place, and so a job.

        Returns:
            None where nothing was stored: the organisation has quotas, which are counted in a transaction.
        """
        return await self._launches(launched)

    async def _launch(self, some: list[Launched]) -> list[bool | None]:
        rows = await self._direct.fetch(LAUNCH, _launch_values(some, self._window, counted=False))
        placed = {row[0]: row[1] for row in rows}
        return [placed.get(launched.run.id) for launched in some]

    async def take(self, run_id: UUID, worker: int) -> TakenRow:
        """Take a run for a worker, whose advisory lock is given.

        Raises:
            NotFound: there is no such run.
        """
        rows = await self._direct.fetch(TAKE, (run_id, worker))
        if not rows:
            raise NotFound(f"There is no run {run_id}.")
        return _taken(rows[0])

    async def end(self, end: End) -> set[UUID]:
        """End a run; return the organisations of which runs are held that may come now.

        Raises:
            NotFound: there is no such run.
            RunSuperseded: another attempt has taken over.
        """
        if end.run.parent_id is None:
            return await self._ends(end)
        # Those that lock a parent go alone: two batches could wait for each other's.
        return _ended(end, await self._direct.fetch(END, _end_values([end], self._window)))

    async def _end(self, some: list[End]) -> Sequence[set[UUID] | Exception]:
        rows = {row[0]: row for row in await self._direct.fetch(END, _end_values(some, self._window))}
        found: list[set[UUID] | Exception] = []
        for n, end in enumerate(some):
            try:
                found.append(_ended(end, [rows[n]] if n in rows else []))
            except (NotFound, RunSuperseded) as error:
                found.append(error)
        return found


async def launch(connection: AsyncConnection, launched: Launched, *, window: int = WINDOW) -> bool:
    """Store a project and its run within a transaction; return whether the run has a place, and so a job.

    Quotas are the caller's to check.
    """
    return (await launch_all(connection, [launched], window=window))[launched.run.id]


async def launch_all(
    connection: AsyncConnection, some: Sequence[Launched], *, window: int = WINDOW
) -> dict[UUID, bool]:
    """Store projects of one organisation and their runs; return by run whether it has a place, and so a job.

    Quotas are the caller's to check.
    """
    values = _launch_values(some, window, counted=True)
    await connection.exec_driver_sql(_formatted(LAUNCH_PROJECTS), values[:1])
    return {row[0]: bool(row[1]) for row in await _fetch(connection, LAUNCH_RUNS, values)}


async def end(connection: AsyncConnection, how: End, *, window: int = WINDOW) -> set[UUID]:
    """End a run within a transaction; return the organisations of which runs are held that may come now."""
    return _ended(how, await _fetch(connection, END, _end_values([how], window)))


async def enter(connection: AsyncConnection, run_id: UUID, *, window: int = WINDOW) -> bool:
    """Give a run that has become due a place and a job at once; return whether it got them.

    It is held where limits are counted, which takes `places.admit` and its lock, and behind others that
    are. The caller holds the run's row.
    """
    rows = await _fetch(connection, ENTER, (run_id, window))
    return bool(rows[0][0])


async def wake(connection: AsyncConnection, run_id: UUID, *, window: int = WINDOW) -> bool:
    """Tell a parent that a child ended: it is enqueued once, or sees the flag when it stops.

    Returns:
        False where the parent is held now.
    """
    rows = await _fetch(connection, WAKE, (run_id, window))
    return bool(rows[0][0])


async def _fetch(connection: AsyncConnection, statement: str, values: tuple[Any, ...]) -> list[Row]:
    return [tuple(row) for row in await connection.exec_driver_sql(_formatted(statement), values)]


@lru_cache
def _formatted(statement: str) -> str:
    """Return a statement with the driver's other kind of parameters; each of ours is used once, in order."""
    return re.sub(r"\$\d", "%s", statement)


def _launch_values(some: Sequence[Launched], window: int, *, counted: bool) -> tuple[Any, ...]:
    rows = b",".join(launched.row() for launched in some)
    return f"[{rows.decode()}]", counted, window, CHANNEL


def _end_values(some: Sequence[End], window: int) -> tuple[Any, ...]:
    rows = b",".join(end.row(n) for n, end in enumerate(some))
    return f"[{rows.decode()}]", window


def _json(value: Any) -> orjson.Fragment:
    return orjson.Fragment(clean_dump(value))


def _taken(row: Row) -> TakenRow:
    was, held, organisation_id, *rest = row
    split = len(_RUN)
    if rest[0] is None:
        return TakenRow(None, None, {}, was, organisation_id, held)
    run = Run(**dict(zip(_RUN, rest[:split], strict=True)))
    *its, interrupts = rest[split + 1 :]
    project = Project(**dict(zip(_PROJECT, its, strict=True)))
    return TakenRow(run, project, rest[split], was, organisation_id, held, tuple(interrupts or ()))


def _ended(end: End, rows: Sequence[Row]) -> set[UUID]:
    if not rows:
        raise NotFound(f"There is no run {end.run.id}.")
    _, attempt, status, ended, held = rows[0]
    if not ended:
        raise RunSuperseded(f"Run {end.run.id} is at attempt {attempt} ({status}), this was {end.attempt}.")
    return set(held)
