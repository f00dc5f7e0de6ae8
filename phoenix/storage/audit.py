"""The audit log: rows in the transaction of what they tell of, chained afterwards, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.cleaning import clean_json
from phoenix.domain.identity import AuditEntry, Principal
from phoenix.storage.jobs import try_lock
from phoenix.storage.tables_identity import audit

CHAIN = 0x70686F656E697803
"""Advisory lock of the one that chains."""
OWN = "phoenix"
"""The actor of what nobody asked for."""
START = bytes(32)
"""What the first row of an organisation's chain follows."""

COLUMNS = [audit.c[n] for n in ("id", "organisation_id", "at", "actor_id", "actor", "action", "object_id")]
COLUMNS += [audit.c.data, audit.c.request_id]


async def note(
    connection: AsyncConnection,
    who: Principal,
    action: str,
    object_id: object = "",
    *,
    request_id: str = "",
    **data: Any,
) -> None:
    """Write what somebody does, in the transaction in which it is done."""
    await note_all(connection, [entry(who, action, object_id, request_id=request_id, **data)])


def entry(
    who: Principal, action: str, object_id: object = "", *, request_id: str = "", **data: Any
) -> dict[str, Any]:
    """Return the row of what somebody does."""
    return {
        "organisation_id": who.organisation_id,
        "actor_id": who.user_id,
        "actor": who.email,
        "action": action,
        "object_id": str(object_id),
        "data": clean_json({"via": who.via, "credential_id": str(who.credential_id), **data}),
        "request_id": request_id,
    }


async def note_all(connection: AsyncConnection, entries: Sequence[dict[str, Any]]) -> None:
    """Write what several do, in the transaction in which it is done."""
    await connection.execute(insert(audit), list(entries))


async def note_own(
    connection: AsyncConnection, organisation_id: UUID, action: str, object_id: object = "", **data: Any
) -> None:
    """Write what Phoenix does by itself, in the transaction in which it is done."""
    row = {
        "organisation_id": organisation_id,
        "actor": OWN,
        "action": action,
        "object_id": str(object_id),
        "data": clean_json(data),
    }
    await connection.execute(insert(audit).values(row))


async def chain(connection: AsyncConnection, *, limit: int = 1000) -> int:
    """Chain rows that are not yet, oldest first, and return how many. One process at a time does.

    A row whose transaction is still open when a later id is chained comes after it: the order of the
    chain is that of chaining, which nothing can change afterwards.
    """
    if not await try_lock(connection, CHAIN):
        return 0
    query = select(*COLUMNS).where(audit.c.hash.is_(None)).order_by(audit.c.id).limit(limit)
    rows = [AuditEntry(**row._mapping) for row in await connection.execute(query)]
    ends: dict[UUID, tuple[int, bytes]] = {}
    for row in rows:
        place, before = ends.get(row.organisation_id) or await _end(connection, row.organisation_id)
        ends[row.organisation_id] = place + 1, row.chained(before)
        place, digest = ends[row.organisation_id]
        await connection.execute(
            update(audit).where(audit.c.id == row.id).values(position=place, hash=digest)
        )
    return len(rows)


async def _end(connection: AsyncConnection, organisation_id: UUID) -> tuple[int, bytes]:
    query = (
        select(audit.c.position, audit.c.hash)
        .where(audit.c.organisation_id == organisation_id, audit.c.position.is_not(None))
        .order_by(audit.c.position.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return (0, START) if row is None else (row.position, bytes(row.hash))


@dataclass(frozen=True)
class Verdict:
    """What a check of a chain found. `broken_at` is the place of the first row that does not fit."""

    checked: int
    unchained: int
    broken_at: int | None = None
    why: str = ""
    last_hash: str = ""
    """Of the last row: kept elsewhere, it also shows that the chain's end was cut off."""


async def verify(connection: AsyncConnection, organisation_id: UUID) -> Verdict:
    """Check an organisation's chain from its beginning."""
    mine = audit.c.organisation_id == organisation_id
    query = select(func.count()).where(mine, audit.c.hash.is_(None))
    unchained = int((await connection.execute(query)).scalar_one())
    chained = (
        select(*COLUMNS, audit.c.position, audit.c.hash)
        .where(mine, audit.c.hash.is_not(None))
        .order_by(audit.c.position)
    )
    before, checked = START, 0
    async with connection.stream(chained) as rows:
        async for row in rows:
            checked += 1
            if row.position != checked:
                return Verdict(checked - 1, unchained, checked, "a row is missing")
            entry = AuditEntry(**{c.name: row._mapping[c.name] for c in COLUMNS})
            before, expected = bytes(row.hash), entry.chained(before)
            if before != expected:
                return Verdict(checked - 1, unchained, checked, "a row was changed")
    return Verdict(checked, unchained, last_hash=before.hex() if checked else "")


async def entries(
    connection: AsyncConnection,
    organisation_id: UUID,
    *,
    before: int | None = None,
    action: str = "",
    object_id: str = "",
    limit: int = 100,
) -> list[AuditEntry]:
    """Return entries of an organisation, newest first."""
    query = select(*COLUMNS).where(audit.c.organisation_id == organisation_id)
    if before is not None:
        query = query.where(audit.c.id < before)
    if action:
        query = query.where(audit.c.action == action)
    if object_id:
        query = query.where(audit.c.object_id == object_id)
    rows = await connection.execute(query.order_by(audit.c.id.desc()).limit(limit))
    return [AuditEntry(**row._mapping) for row in rows]
