"""Spans in PostgreSQL: written by one thread of a process on a connection of its own, read by requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg.rows import dict_row
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.recorded import RecordedSpan, SpanCounts
from phoenix.errors import DatabaseUnavailable
from phoenix.storage.tables_traces import span_counts, spans
from phoenix.telemetry.spans import LASTING, Span

CONNECT_SECONDS = 10
OPTIONS = "-c statement_timeout=10s -c idle_in_transaction_session_timeout=15s"
KNOWN = 2000
"""Projects whose number of spans is remembered."""
ROOM = 2
"""So many times its limit a project may have of spans that can be parents, so that none lacks its own."""
NS = 1_000_000_000

_WRITE = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS g (
        n integer, project_id uuid, id text, trace_id text, parent_id text, run_id uuid, attempt integer,
        kind text, name text, began double precision, ended double precision, status text, attributes jsonb
    )
), its AS MATERIALIZED (
    SELECT id, organisation_id FROM projects WHERE id IN (SELECT project_id FROM given)
    ORDER BY id FOR KEY SHARE
)
INSERT INTO spans AS s (project_id, organisation_id, id, trace_id, parent_id, run_id, attempt, kind, name,
    began_at, ended_at, status, attributes)
SELECT g.project_id, p.organisation_id, g.id, g.trace_id, g.parent_id, g.run_id, g.attempt, g.kind, g.name,
    to_timestamp(g.began), to_timestamp(g.ended), g.status, g.attributes
FROM given g JOIN its p ON p.id = g.project_id
ORDER BY g.project_id, g.id
ON CONFLICT (project_id, id) DO UPDATE SET name = excluded.name, parent_id = excluded.parent_id,
    began_at = excluded.began_at, ended_at = excluded.ended_at, status = excluded.status,
    attributes = excluded.attributes
WHERE excluded.ended_at IS NOT NULL AND (s.ended_at IS NULL OR s.status = 'interrupted')
RETURNING s.project_id, s.xmax = 0 AS is_new
"""
_COUNT = """
WITH given AS (
    SELECT g.* FROM jsonb_to_recordset(%s::jsonb) AS g (
        project_id uuid, kept integer, left_out integer, beyond_limit integer
    ) JOIN projects p ON p.id = g.project_id
)
INSERT INTO span_counts AS c (project_id, kept, left_out, beyond_limit)
SELECT project_id, kept, left_out, beyond_limit FROM given ORDER BY project_id
ON CONFLICT (project_id) DO UPDATE SET kept = c.kept + excluded.kept,
    left_out = c.left_out + excluded.left_out, beyond_limit = c.beyond_limit + excluded.beyond_limit
RETURNING c.project_id, c.kept
"""
_KEPT = "SELECT project_id, kept FROM span_counts WHERE project_id = ANY(%s)"
# What belongs to an attempt is over when the run is at a later one, or nobody has it in hand.
_ABANDONED = """
SELECT s.project_id, s.id FROM spans s
JOIN projects p ON p.id = s.project_id
LEFT JOIN runs r ON r.id = s.run_id
WHERE s.ended_at IS NULL AND CASE
    WHEN r.id IS NULL THEN true
    WHEN s.kind IN ('run', 'request') THEN r.status IN ('success', 'failed', 'cancelled')
    ELSE r.attempt <> s.attempt OR r.status <> 'running'
END
ORDER BY s.began_at LIMIT 1000
"""
_CLOSE = """
WITH given AS (SELECT * FROM jsonb_to_recordset(%s::jsonb) AS g (project_id uuid, id text)
), open AS (
    SELECT s.project_id, s.id, r.status AS run_status, r.finished_at, s.attempt = r.attempt AS is_last
    FROM spans s JOIN given g USING (project_id, id) LEFT JOIN runs r ON r.id = s.run_id
    WHERE s.ended_at IS NULL FOR UPDATE OF s SKIP LOCKED
)
UPDATE spans s SET
    ended_at = greatest(s.began_at, CASE WHEN s.kind <> 'request' THEN coalesce(
        CASE WHEN s.kind = 'run' OR o.is_last THEN o.finished_at END,
        (SELECT max(b.ended_at) FROM spans b
            WHERE b.project_id = s.project_id AND b.run_id = s.run_id AND b.attempt = s.attempt)) END),
    status = CASE WHEN s.kind <> 'run' THEN 'interrupted' WHEN o.run_status = 'success' THEN 'ok'
        ELSE 'failed' END
FROM open o WHERE s.project_id = o.project_id AND s.id = o.id
RETURNING s.*
"""


class SpanRows:
    """Port `SpanStore` of the recorder. Lost connections are made anew.

    Args:
        conninfo: The database as libpq reads it.
        limit: Spans of one project, about: each process counts what it has seen stored.
    """

    def __init__(self, conninfo: str, *, limit: int) -> None:
        self._conninfo = conninfo
        self._limit = limit
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        self._kept: OrderedDict[str, int] = OrderedDict()
        self._suspects: set[tuple[UUID, str]] = set()

    def write(self, given: Sequence[Span], left_out: Mapping[str, int]) -> int:
        """Keep spans of projects that exist, and count those left out; return how many are new.

        Raises:
            DatabaseUnavailable: it cannot be reached.
        """
        given = [span for span in given if span.project]
        if not given and not left_out:
            return 0
        try:
            return self._write(given, left_out)
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
            self.close()
            raise DatabaseUnavailable(f"Spans cannot be stored: {str(error).strip()}") from error

    def _write(self, given: Sequence[Span], left_out: Mapping[str, int]) -> int:
        connection = self._connected()
        with connection.transaction():
            self._learn(connection, {span.project for span in given})
            wanted = [span for span in given if self._has_room(span)]
            beyond = _by_project(span for span in given if not self._has_room(span))
            new: dict[str, int] = {}
            if wanted:
                rows = connection.execute(_WRITE, [orjson.dumps([*map(_row, wanted)]).decode()]).fetchall()
                new = _by_project_id(row for row in rows if row["is_new"])
            counts = [
                {
                    "project_id": project,
                    "kept": new.get(project, 0),
                    "left_out": left_out.get(project, 0),
                    "beyond_limit": beyond.get(project, 0),
                }
                for project in {*new, *beyond, *left_out}
            ]
            if counts:
                for row in connection.execute(_COUNT, [orjson.dumps(counts).decode()]).fetchall():
                    self._remember(str(row["project_id"]), row["kept"])
        return sum(new.values())

    def _has_room(self, span: Span) -> bool:
        room = ROOM * self._limit if span.kind in LASTING else self._limit
        return self._kept.get(span.project, 0) < room or bool(span.ended and span.kind in LASTING)

    def _learn(self, connection: psycopg.Connection[dict[str, Any]], projects: set[str]) -> None:
        """Look how many spans projects have that this process has not seen."""
        unknown = [UUID(project) for project in projects if project not in self._kept]
        if unknown:
            for row in connection.execute(_KEPT, [unknown]).fetchall():
                self._remember(str(row["project_id"]), row["kept"])

    def _remember(self, project: str, kept: int) -> None:
        self._kept[project] = kept
        self._kept.move_to_end(project)
        while len(self._kept) > KNOWN:
            self._kept.popitem(last=False)

    def abandoned(self) -> list[Span]:
        """End what dead processes left open, once it was seen so twice, and return it.

        Raises:
            DatabaseUnavailable: it cannot be reached.
        """
        try:
            connection = self._connected()
            found = {(row["project_id"], row["id"]) for row in connection.execute(_ABANDONED).fetchall()}
            # Its process may just be writing that it has ended.
            sure, self._suspects = found & self._suspects, found
            if not sure:
                return []
            keys = [{"project_id": project, "id": span} for project, span in sure]
            rows = connection.execute(_CLOSE, [orjson.dumps(keys).decode()]).fetchall()
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
            self.close()
            raise DatabaseUnavailable(f"Spans cannot be read: {str(error).strip()}") from error
        return [_span(row) for row in rows]

    def _connected(self) -> psycopg.Connection[dict[str, Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=CONNECT_SECONDS,
                options=OPTIONS,
                application_name="phoenix-spans",
            )
        return self._connection

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _row(span: Span) -> dict[str, Any]:
    return {
        "project_id": span.project,
        "id": span.id,
        "trace_id": span.trace,
        "parent_id": span.parent or None,
        "run_id": span.run or None,
        "attempt": span.attempt,
        "kind": span.kind,
        "name": span.name,
        "began": span.began / NS,
        "ended": span.ended / NS if span.ended else None,
        "status": span.status,
        "attributes": span.attributes,
    }


def _span(row: Mapping[str, Any]) -> Span:
    return Span(
        row["trace_id"],
        row["id"],
        row["parent_id"] or "",
        row["kind"],
        row["name"],
        _ns(row["began_at"]),
        _ns(row["ended_at"]),
        row["status"],
        str(row["project_id"]),
        str(row["run_id"] or ""),
        row["attempt"],
        attributes=row["attributes"],
    )


def _ns(at: datetime) -> int:
    since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * NS + since.microseconds * 1000


def _by_project(found: Iterable[Span]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for span in found:
        counts[span.project] = counts.get(span.project, 0) + 1
    return counts


def _by_project_id(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row["project_id"])] = counts.get(str(row["project_id"]), 0) + 1
    return counts


async def page(
    connection: AsyncConnection, project_id: UUID, *, after: tuple[datetime, str] | None, limit: int
) -> list[RecordedSpan]:
    """Return spans of a project in the order in which they began, after one of them."""
    names = list(RecordedSpan.model_fields)
    query = select(*(spans.c[name] for name in names)).where(spans.c.project_id == project_id)
    if after is not None:
        query = query.where(tuple_(spans.c.began_at, spans.c.id) > tuple_(*after))
    query = query.order_by(spans.c.began_at, spans.c.id).limit(limit)
    return [RecordedSpan(**row._mapping) for row in await connection.execute(query)]


async def counts(connection: AsyncConnection, project_id: UUID) -> SpanCounts:
    """Return how many spans of a project are kept and were left out."""
    names = list(SpanCounts.model_fields)
    query = select(*(span_counts.c[name] for name in names)).where(span_counts.c.project_id == project_id)
    row = (await connection.execute(query)).one_or_none()
    return SpanCounts() if row is None else SpanCounts(**row._mapping)
