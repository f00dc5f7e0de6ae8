"""Copies of a project's rows for a fork. All of them are made in the transaction that makes the fork."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Text, delete, func, insert, literal, not_, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import Frozen
from phoenix.storage.tables import CLOCK, approvals, artifacts, begun_forks, projects, runs, threads
from phoenix.telemetry.redaction import mask_known

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
OUTPUTS = "ToolOutput"
"""Documents that conversations name in a form of their own, so that all are copied."""

ABANDONED_SECONDS = 86_400.0
"""A fork that was begun so long ago is not being made any more: it must be ready in half of that."""

Row = dict[str, Any]


async def run_rows(connection: AsyncConnection, project_id: UUID) -> list[Row]:
    """Return all run rows of a project as they are, in order of opening."""
    rows = await connection.execute(
        select(runs).where(runs.c.project_id == project_id).order_by(runs.c.ordinal)
    )
    return [dict(row._mapping) for row in rows]


def ended(row: Row) -> Row:
    """Return what a run that had ended keeps in its copy."""
    kept = ("status", "output", "error", "input", "started_at", "finished_at", "created_at")
    return {name: row[name] for name in kept}


def reopened(row: Row) -> Row:
    """Return what a run that had not ended keeps in its copy: it is due again."""
    return {"status": "pending", "input": row["input"], "created_at": row["created_at"]}


def about(row: Row) -> Row:
    """Return what every copy keeps."""
    return {name: row[name] for name in ("key", "flow", "priority", "organisation_id", "queue")}


async def add_runs(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert runs with their threads, parents before their children."""
    for row in rows:
        thread = {"id": row["thread_id"], "project_id": row["project_id"]}
        await connection.execute(insert(threads).values(**thread))
        await connection.execute(insert(runs).values(**row))


async def begin(connection: AsyncConnection, fork_id: UUID, thread_ids: Sequence[UUID]) -> None:
    """Note, before anything is copied, for which project and threads it will be."""
    await connection.execute(insert(begun_forks).values(id=fork_id, threads=list(thread_ids)))


async def end(connection: AsyncConnection, fork_id: UUID, *, in_time: bool = False) -> bool:
    """Take the note away; tell whether it was there and, where `in_time` is asked for, young enough."""
    gone = delete(begun_forks).where(begun_forks.c.id == fork_id)
    if in_time:
        gone = gone.where(begun_forks.c.begun_at > CLOCK - seconds_of(ABANDONED_SECONDS / 2))
    return (await connection.execute(gone)).rowcount > 0


async def abandoned(connection: AsyncConnection, *, seconds: float) -> dict[UUID, list[UUID]]:
    """Return forks that began so long ago and never came to an end, with their threads."""
    old = begun_forks.c.begun_at < CLOCK - seconds_of(seconds)
    rows = await connection.execute(select(begun_forks.c.id, begun_forks.c.threads).where(old))
    return {row.id: row.threads for row in rows}


def seconds_of(seconds: float) -> ColumnElement[Any]:
    """Return an interval."""
    return func.make_interval(0, 0, 0, 0, 0, 0, seconds)


async def project_row(connection: AsyncConnection, project_id: UUID) -> Row:
    """Return a project's row as it is."""
    row = (await connection.execute(select(projects).where(projects.c.id == project_id))).one()
    return dict(row._mapping)


async def add_project(connection: AsyncConnection, row: Row) -> None:
    """Insert a project; what it does not say is as in every new one."""
    await connection.execute(insert(projects).values(**row))


async def add_decided(connection: AsyncConnection, row: Row) -> None:
    """Insert an approval that is decided already, of a run that will ask for it."""
    await connection.execute(insert(approvals).values(**row))


async def reachable(connection: AsyncConnection, project_id: UUID, seeds: Iterable[str]) -> set[str]:
    """Return the digests of stored documents that some digests lead to, through as many as it takes."""
    query = select(artifacts.c.digest, artifacts.c.body).where(
        artifacts.c.project_id == project_id, artifacts.c.kind != OUTPUTS
    )
    bodies = {row.digest: row.body for row in await connection.execute(query)}
    found: set[str] = set()
    queue = list(seeds)
    while queue:
        digest = queue.pop()
        if digest in bodies and digest not in found:
            found.add(digest)
            queue += DIGEST.findall(str(bodies[digest]))
    return found


async def copy_artifacts(
    connection: AsyncConnection, source: UUID, target: UUID, *, current: set[str], inherit: bool
) -> None:
    """Copy documents to a fork.

    Args:
        connection: The transaction.
        source: The project they are of.
        target: The fork.
        current: Digests of those that belong to the moment of the fork.
        inherit: Copy the rest as well, as inherited: found for reuse, and nowhere shown.
    """
    is_current = artifacts.c.digest == literal(sorted(current), ARRAY(Text)).any_()
    wanted = or_(is_current, artifacts.c.kind == OUTPUTS, literal(inherit))
    columns = ("digest", "kind", "body", "stored_at")
    chosen = select(
        literal(target).label("project_id"), *(artifacts.c[name] for name in columns), not_(is_current)
    ).where(artifacts.c.project_id == source, wanted)
    await connection.execute(insert(artifacts).from_select(["project_id", *columns, "inherited"], chosen))


async def add_artifact(connection: AsyncConnection, project_id: UUID, value: Frozen) -> None:
    """Store a document of a fork, which is then the latest of its kind."""
    body = mask_known(clean_json(value.model_dump(mode="json")))
    digest = type(value).model_validate(body).digest()
    row = {"project_id": project_id, "digest": digest, "kind": type(value).__name__, "body": body}
    await connection.execute(
        upsert(artifacts)
        .values(row)
        .on_conflict_do_update(
            index_elements=["project_id", "digest"], set_={"stored_at": CLOCK, "inherited": False}
        )
    )
