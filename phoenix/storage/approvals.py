"""Queries on approvals."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import RowMapping, Select, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import Approval, DecidedHow, Decision, HumanRequest
from phoenix.domain.cleaning import clean_json
from phoenix.domain.gates import GateRule
from phoenix.errors import NotFound
from phoenix.storage import votes
from phoenix.storage.forks import seconds_of
from phoenix.storage.runs import UNFINISHED
from phoenix.storage.tables import CLOCK, approvals, runs
from phoenix.telemetry.redaction import mask_known

COLUMNS = [approvals.c[name] for name in Approval.model_fields if name != "votes"]


@dataclass(frozen=True)
class Held:
    """An approval whose row this transaction holds, with what only the engine sees of it."""

    approval: Approval
    reminders: int
    """How many were sent."""
    now: datetime
    """The database's time."""
    is_due: bool
    """Whether something is to be done about it now."""


def _approval(row: RowMapping, **more: Any) -> Approval:
    return Approval(**{column.name: row[column.name] for column in COLUMNS}, **more)


async def _with_votes(connection: AsyncConnection, query: Select[Any]) -> list[Approval]:
    rows = (await connection.execute(query)).all()
    given = await votes.of(connection, [row.id for row in rows])
    return [_approval(row._mapping, votes=given.get(row.id, [])) for row in rows]


async def request(
    connection: AsyncConnection,
    project_id: UUID,
    run_id: UUID,
    interrupt_id: str,
    asked: HumanRequest,
    rule: GateRule | None = None,
) -> Approval | None:
    """Open an approval; return None when this interrupt has one already."""
    rule = rule or GateRule()
    times, deadline = rule.times(), rule.deadline_seconds
    row = {
        "id": uuid4(),
        "project_id": project_id,
        "run_id": run_id,
        "interrupt_id": interrupt_id,
        "request": mask_known(clean_json(asked.model_dump(mode="json"))),
        "value_digest": asked.value_digest,
        "rule": rule.model_dump(mode="json"),
        "deadline_at": None if deadline is None else CLOCK + seconds_of(deadline),
        "next_at": CLOCK + seconds_of(times[0]) if times else None,
    }
    stored = insert(approvals).values(row).on_conflict_do_nothing(index_elements=["run_id", "interrupt_id"])
    found = (await connection.execute(stored.returning(*COLUMNS))).one_or_none()
    return None if found is None else _approval(found._mapping)


async def get(connection: AsyncConnection, approval_id: UUID) -> Approval:
    """Return an approval.

    Raises:
        NotFound: there is none of that id.
    """
    found = await without_votes(connection, approval_id)
    given = await votes.of(connection, [approval_id])
    return found.model_copy(update={"votes": given.get(approval_id, [])})


async def without_votes(connection: AsyncConnection, approval_id: UUID) -> Approval:
    """Return an approval as its row alone says.

    Raises:
        NotFound: there is none of that id.
    """
    found = await all_without_votes(connection, [approval_id])
    if approval_id not in found:
        raise missing(approval_id)
    return found[approval_id]


def missing(approval_id: UUID) -> NotFound:
    """Return what is said of an approval that there is not."""
    return NotFound(f"There is no approval {approval_id}.")


async def all_without_votes(
    connection: AsyncConnection, approval_ids: Collection[UUID]
) -> dict[UUID, Approval]:
    """Return approvals as their rows alone say; those that there are not are left out."""
    rows = await connection.execute(select(*COLUMNS).where(approvals.c.id.in_(set(approval_ids))))
    return {row.id: _approval(row._mapping) for row in rows}


async def of_interrupt(connection: AsyncConnection, run_id: UUID, interrupt_id: str) -> Approval | None:
    """Return the approval of an interrupt of a run; None when there is none."""
    query = select(*COLUMNS).where(approvals.c.run_id == run_id, approvals.c.interrupt_id == interrupt_id)
    found = await _with_votes(connection, query)
    return found[0] if found else None


async def hold(connection: AsyncConnection, approval_id: UUID) -> Held:
    """Lock an approval's row until the transaction ends; its runs are locked before.

    Raises:
        NotFound: there is none of that id.
    """
    query = (
        select(*COLUMNS, approvals.c.reminders, approvals.c.next_at, CLOCK.label("now"))
        .where(approvals.c.id == approval_id)
        .with_for_update(of=approvals)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise missing(approval_id)
    found = _approval(row._mapping)
    if found.rule.quorum > 1:  # else no vote before this one counts
        given = await votes.of(connection, [approval_id])
        found = found.model_copy(update={"votes": given.get(approval_id, [])})
    is_due = row.next_at is not None and row.next_at <= row.now
    return Held(found, row.reminders, row.now, is_due)


async def due(connection: AsyncConnection, *, limit: int = 100) -> list[Approval]:
    """Return open approvals that somebody has to be told of now, the longest due first."""
    query = (
        select(*COLUMNS)
        .where(approvals.c.next_at <= CLOCK, approvals.c.decided_at.is_(None))
        .order_by(approvals.c.next_at)
        .limit(limit)
    )
    return await _with_votes(connection, query)


async def told(
    connection: AsyncConnection,
    approval_id: UUID,
    *,
    next_at: datetime | None,
    reminders: int,
    escalated_at: datetime | None,
) -> None:
    """Store what was done about an open approval, and when something is to be done next."""
    values = {"next_at": next_at, "reminders": reminders, "escalated_at": escalated_at}
    await connection.execute(update(approvals).where(approvals.c.id == approval_id).values(**values))


async def decide(
    connection: AsyncConnection,
    approval_id: UUID,
    decision: Decision,
    *,
    by: str,
    digest: str,
    how: DecidedHow = "person",
) -> Approval | None:
    """Write a decision, once; return None when there is one already or the digest is another."""
    query = (
        update(approvals)
        .where(
            approvals.c.id == approval_id,
            approvals.c.decided_at.is_(None),
            approvals.c.value_digest == digest,
        )
        .values(
            decision=clean_json(decision.model_dump(mode="json")),
            decided_by=by,
            decided_how=how,
            decided_at=CLOCK,
            next_at=None,
        )
        .returning(*COLUMNS)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _approval(row._mapping)


async def decided(
    connection: AsyncConnection, run_id: UUID, interrupt_ids: Sequence[str]
) -> dict[str, Decision]:
    """Return the decisions taken on these interrupts of a run."""
    query = select(approvals.c.interrupt_id, approvals.c.decision).where(
        approvals.c.run_id == run_id,
        approvals.c.interrupt_id.in_(interrupt_ids),
        approvals.c.decided_at.is_not(None),
    )
    rows = await connection.execute(query)
    return {row.interrupt_id: Decision.model_validate(row.decision) for row in rows}


async def decided_of(connection: AsyncConnection, project_id: UUID) -> list[tuple[Approval, str]]:
    """Return the decided approvals of a project in the order of their decisions, with their runs' keys."""
    query = (
        select(*COLUMNS, runs.c.key)
        .join(runs, runs.c.id == approvals.c.run_id)
        .where(approvals.c.project_id == project_id, approvals.c.decided_at.is_not(None))
        .order_by(approvals.c.decided_at, approvals.c.id)
    )
    rows = (await connection.execute(query)).all()
    given = await votes.of(connection, [row.id for row in rows])
    return [(_approval(row._mapping, votes=given.get(row.id, [])), row.key) for row in rows]


async def open_of(connection: AsyncConnection, project_ids: Sequence[UUID]) -> list[Approval]:
    """Return the open approvals of projects, oldest first, those of ended runs left out."""
    query = (
        select(*COLUMNS)
        .join(runs, runs.c.id == approvals.c.run_id)
        .where(
            approvals.c.project_id.in_(project_ids),
            approvals.c.decided_at.is_(None),
            runs.c.status.in_(UNFINISHED),
        )
        .order_by(approvals.c.created_at, approvals.c.id)
    )
    return await _with_votes(connection, query)


async def open_in(
    connection: AsyncConnection,
    organisation_id: UUID,
    *,
    only: Sequence[UUID] | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 200,
) -> list[Approval]:
    """Return the open approvals of an organisation, or of some of its projects, oldest first.

    Args:
        connection: The transaction.
        organisation_id: Whose.
        only: Of these projects and no others; None for all.
        after: Those after this time and id.
        limit: The most that are returned.
    """
    query = (
        select(*COLUMNS)
        .join(runs, runs.c.id == approvals.c.run_id)
        .where(
            runs.c.organisation_id == organisation_id,
            approvals.c.decided_at.is_(None),
            runs.c.status.in_(UNFINISHED),
        )
        .order_by(approvals.c.created_at, approvals.c.id)
        .limit(limit)
    )
    if only is not None:
        query = query.where(approvals.c.project_id.in_(only))
    if after is not None:
        query = query.where(tuple_(approvals.c.created_at, approvals.c.id) > after)
    return await _with_votes(connection, query)
