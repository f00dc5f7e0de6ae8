"""Queries on what webhooks are told: the outbox between an event and its receiver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, bindparam, case, delete, exists, insert, null, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.domain.webhook import DeliveryAttempt, Received, WebhookDelivery
from phoenix.errors import NotFound
from phoenix.storage.direct import Direct
from phoenix.storage.search import place_of, read_cursor
from phoenix.storage.tables import CLOCK
from phoenix.storage.tables_webhooks import webhook_deliveries as rows
from phoenix.storage.tables_webhooks import webhooks

COLUMNS = [
    *(rows.c[name] for name in WebhookDelivery.model_fields if name != "next_attempt_at"),
    case((rows.c.status == "pending", rows.c.next_attempt_at)).label("next_attempt_at"),
]
KEPT_FOR = timedelta(days=30)
BATCH = 1000

# Row by row of each webhook, so that the backlog of one neither slows nor delays the others.
_CLAIM = text(
    "WITH due AS (SELECT d.id FROM webhooks w CROSS JOIN LATERAL ("
    " SELECT id, next_attempt_at FROM webhook_deliveries WHERE webhook_id = w.id AND status = 'pending'"
    " AND next_attempt_at <= statement_timestamp() ORDER BY next_attempt_at LIMIT :each"
    " FOR UPDATE SKIP LOCKED) d"
    " WHERE w.active AND NOT w.id = ANY(:busy) ORDER BY d.next_attempt_at LIMIT :limit)"
    " UPDATE webhook_deliveries d SET attempts = d.attempts + 1,"
    " next_attempt_at = clock_timestamp() + make_interval(secs => :lease)"
    " FROM due, webhooks w WHERE d.id = due.id AND w.id = d.webhook_id"
    " RETURNING d.id, d.webhook_id, d.payload, d.attempts, w.url, d.created_at"
).bindparams(bindparam("busy", type_=ARRAY(UUID_TYPE)))


_IS_DUE = (
    "SELECT EXISTS (SELECT FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id"
    " WHERE d.status = 'pending' AND d.next_attempt_at <= clock_timestamp() AND w.active)"
)


class DueDeliveries:
    """Tells whether any delivery is due, in one message to the server: cheap enough for an idle worker."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct

    async def __call__(self) -> bool:
        """Tell whether `claim` may find anything.

        Raises:
            DatabaseUnavailable, DiskFull: the database cannot be asked.
        """
        return bool((await self._direct.fetch(_IS_DUE, ()))[0][0])


@dataclass(frozen=True)
class Claimed:
    """A delivery that this process attempts; `attempt` counts from 1."""

    id: UUID
    webhook_id: UUID
    url: str
    payload: dict[str, Any]
    attempt: int


def _delivery(row: Row[tuple[Any, ...]]) -> WebhookDelivery:
    return WebhookDelivery(**row._mapping)


async def add(
    connection: AsyncConnection,
    organisation_id: UUID,
    webhook_id: UUID,
    kind: str,
    payload: dict[str, Any],
) -> WebhookDelivery:
    """Let a webhook be told something that is no event of a project."""
    row = {
        "id": uuid4(),
        "organisation_id": organisation_id,
        "webhook_id": webhook_id,
        "type": kind,
        "payload": clean_json(payload),
    }
    return _delivery((await connection.execute(insert(rows).values(row).returning(*COLUMNS))).one())


async def page(
    connection: AsyncConnection, webhook_id: UUID, *, cursor: str = "", limit: int = 50
) -> tuple[list[WebhookDelivery], str | None]:
    """Return what a webhook was, or is to be, told, newest first, and where the next page begins.

    Raises:
        PayloadInvalid: the cursor is none.
    """
    query = select(*COLUMNS).where(rows.c.webhook_id == webhook_id)
    if cursor:
        query = query.where(tuple_(rows.c.created_at, rows.c.id) < read_cursor(cursor))
    query = query.order_by(rows.c.created_at.desc(), rows.c.id.desc()).limit(limit + 1)
    found = [_delivery(row) for row in await connection.execute(query)]
    more = len(found) > limit
    found = found[:limit]
    return found, place_of(found[-1].created_at, found[-1].id) if more else None


async def retry(connection: AsyncConnection, webhook_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    """Let something be told again, from the first attempt on; one that waits is due now. Idempotent.

    Raises:
        NotFound: the webhook has none of that id.
    """
    again = update(rows).where(rows.c.id == delivery_id, rows.c.webhook_id == webhook_id)
    # An attempt that is being made is left alone: its number goes on, so that its result still counts.
    attempts = case((rows.c.status == "pending", rows.c.attempts), else_=0)
    again = again.values(status="pending", attempts=attempts, next_attempt_at=CLOCK, ended_at=null())
    row = (await connection.execute(again.returning(*COLUMNS))).one_or_none()
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id}.")
    return _delivery(row)


async def claim(
    connection: AsyncConnection,
    *,
    limit: int,
    each: int,
    busy: Sequence[UUID],
    lease_seconds: float,
) -> list[Claimed]:
    """Take deliveries that are due, those that were due first. Of many processes one gets each.

    Args:
        connection: The transaction.
        limit: The most that are taken.
        each: The most of one webhook.
        busy: Webhooks of which none is taken.
        lease_seconds: After so long without a result an attempt counts as lost, and the next one is due.
    """
    values = {"limit": limit, "each": each, "busy": list(busy), "lease": lease_seconds}
    found = sorted(await connection.execute(_CLAIM, values), key=lambda row: row.created_at)
    return [Claimed(row.id, row.webhook_id, row.url, row.payload, row.attempts) for row in found]


async def succeeded(
    connection: AsyncConnection, claimed: Claimed, received: Received, attempt: DeliveryAttempt
) -> None:
    """Note that the receiver has it, whichever attempt that was."""
    await connection.execute(
        update(rows)
        .where(rows.c.id == claimed.id, rows.c.status == "pending")
        .values(status="delivered", ended_at=CLOCK, **_result(received, attempt))
    )


async def failed(
    connection: AsyncConnection,
    claimed: Claimed,
    received: Received,
    attempt: DeliveryAttempt,
    *,
    wait_seconds: float | None,
) -> bool:
    """Note that an attempt failed, and when the next is due; None for never.

    Returns:
        False when a later attempt has begun, or it is over: then nothing is changed.
    """
    over = {"status": "failed", "ended_at": CLOCK}
    wait = timedelta(seconds=wait_seconds or 0)
    following = over if wait_seconds is None else {"next_attempt_at": CLOCK + wait}
    done = await connection.execute(
        update(rows)
        .where(rows.c.id == claimed.id, rows.c.status == "pending", rows.c.attempts == claimed.attempt)
        .values(**_result(received, attempt), **following)
    )
    return done.rowcount == 1


def _result(received: Received, attempt: DeliveryAttempt) -> dict[str, Any]:
    return {
        "response_status": received.status,
        "response_body": clean_text(received.body),
        "error": attempt.error,
        "log": rows.c.log.concat([clean_json(attempt.model_dump(mode="json"))]),
    }


async def forget(connection: AsyncConnection, *, older_than: timedelta = KEPT_FOR) -> int:
    """Delete some of what ended so long ago, or was to be told to who is gone; return how many, 0 at last."""
    orphaned = ~exists().where(webhooks.c.id == rows.c.webhook_id)
    old = select(rows.c.id).where(rows.c.ended_at < CLOCK - older_than).limit(BATCH)
    lost = select(rows.c.id).where(rows.c.status == "pending", orphaned).limit(BATCH)
    count = 0
    for gone in (old, lost):
        count += (await connection.execute(delete(rows).where(rows.c.id.in_(gone)))).rowcount
    return count
