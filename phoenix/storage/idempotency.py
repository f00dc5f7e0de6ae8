"""Answers kept for requests that may come again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.identity import Principal
from phoenix.errors import KeyReused
from phoenix.storage.tables import CLOCK
from phoenix.storage.tables_identity import idempotency

KEPT_FOR = timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


async def begin(connection: AsyncConnection, who: Principal, key: str, request_hash: bytes) -> Kept | None:
    """Claim a key for a request, or return the answer that it got before.

    Waits while another transaction has claimed the key and is not over.

    Raises:
        KeyReused: the key was used for another request.
    """
    row = {"organisation_id": who.organisation_id, "user_id": who.user_id, "key": key}
    claim = {**row, "request_hash": request_hash, "status": 0, "headers": {}, "body": b""}
    stored = insert(idempotency).values(claim).on_conflict_do_nothing().returning(idempotency.c.key)
    if (await connection.execute(stored)).first() is not None:
        return None
    columns = idempotency.c
    query = select(columns.request_hash, columns.status, columns.headers, columns.body)
    found = (await connection.execute(query.filter_by(**row))).one()
    if bytes(found.request_hash) != request_hash:
        raise KeyReused(field="header.idempotency-key", hint="Take another key for another request.")
    return Kept(found.status, found.headers, bytes(found.body))


async def keep(connection: AsyncConnection, who: Principal, key: str, answer: Kept) -> None:
    """Keep the answer to the request that claimed a key."""
    mine = {"organisation_id": who.organisation_id, "user_id": who.user_id, "key": key}
    await connection.execute(
        update(idempotency)
        .filter_by(**mine)
        .values(status=answer.status, headers=answer.headers, body=answer.body)
    )


async def forget(connection: AsyncConnection, *, older_than: timedelta = KEPT_FOR) -> int:
    """Delete answers that are too old to come again, and return how many."""
    gone = idempotency.delete().where(idempotency.c.created_at < CLOCK - older_than)
    return (await connection.execute(gone)).rowcount
