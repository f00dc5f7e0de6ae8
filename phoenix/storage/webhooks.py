"""Queries on webhooks, each within one organisation. Secrets are read only to sign with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, case, delete, func, insert, null, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.webhook import Webhook
from phoenix.errors import Conflict, NotFound, VersionConflict
from phoenix.storage.tables import CLOCK
from phoenix.storage.tables_webhooks import webhook_deliveries, webhooks

COLUMNS = [webhooks.c[name] for name in Webhook.model_fields]
MAX_WEBHOOKS = 50
"""Of one organisation: each event is compared with all of them."""

STEPS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1)}

# However long nobody looked, the next one comes at its time of day.
_DUE_DIGESTS = text(
    "UPDATE webhooks w SET digest_at = w.digest_at + s.step"
    " * (1 + floor(extract(epoch FROM clock_timestamp() - w.digest_at) / extract(epoch FROM s.step)))"
    " FROM (VALUES ('hourly', interval '1 hour'), ('daily', interval '1 day')) s (every, step)"
    " WHERE s.every = w.digest_every AND w.active AND w.digest_at <= clock_timestamp()"
    " RETURNING w.id, w.organisation_id"
)


@dataclass(frozen=True)
class Owned:
    """A webhook and whose it is."""

    id: UUID
    organisation_id: UUID


def _webhook(row: Row[tuple[Any, ...]]) -> Webhook:
    return Webhook(**row._mapping)


async def add(
    connection: AsyncConnection,
    organisation_id: UUID,
    *,
    url: str,
    secret: bytes,
    created_by: UUID,
    **values: Any,
) -> Webhook:
    """Add a webhook.

    Raises:
        Conflict: the organisation has as many as it may.
    """
    count = select(func.count()).where(webhooks.c.organisation_id == organisation_id)
    if (await connection.execute(count)).scalar_one() >= MAX_WEBHOOKS:
        raise Conflict(
            f"An organisation has at most {MAX_WEBHOOKS} webhooks.", hint="Delete one that is not needed."
        )
    row = {
        "id": uuid4(),
        "organisation_id": organisation_id,
        "url": url,
        "secret": secret,
        "created_by": created_by,
        **values,
        **_digest_at(values),
    }
    added = insert(webhooks).values(row).returning(*COLUMNS)
    return _webhook((await connection.execute(added)).one())


def _digest_at(values: dict[str, Any]) -> dict[str, Any]:
    if "digest_every" not in values:
        return {}
    step = STEPS.get(values["digest_every"])
    return {"digest_at": null() if step is None else CLOCK + step}


async def get(connection: AsyncConnection, organisation_id: UUID, webhook_id: UUID) -> Webhook:
    """Return a webhook of an organisation.

    Raises:
        NotFound: the organisation has none of that id.
    """
    query = select(*COLUMNS).where(webhooks.c.id == webhook_id, webhooks.c.organisation_id == organisation_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return _webhook(row)


async def of_organisation(connection: AsyncConnection, organisation_id: UUID) -> list[Webhook]:
    """Return the webhooks of an organisation, oldest first."""
    query = select(*COLUMNS).where(webhooks.c.organisation_id == organisation_id)
    rows = await connection.execute(query.order_by(webhooks.c.created_at, webhooks.c.id))
    return [_webhook(row) for row in rows]


async def change(
    connection: AsyncConnection,
    organisation_id: UUID,
    webhook_id: UUID,
    *,
    version: int | None = None,
    **values: Any,
) -> Webhook:
    """Change a webhook and raise its version; switched on again, it begins without failures.

    Raises:
        NotFound: the organisation has none of that id.
        VersionConflict: it is at another version than was expected.
    """
    was = await get(connection, organisation_id, webhook_id)
    values |= _digest_at(values) if values.get("digest_every") != was.digest_every else {}
    if values.get("active"):
        values |= {"failures": 0, "failing_since": null(), "inactive_reason": ""}
    where = [webhooks.c.id == webhook_id]
    where += [webhooks.c.version == version] if version is not None else []
    changed = update(webhooks).where(*where).values(version=webhooks.c.version + 1, **values)
    row = (await connection.execute(changed.returning(*COLUMNS))).one_or_none()
    if row is None:
        raise VersionConflict("The webhook has changed since it was read.", hint="Read it again.")
    return _webhook(row)


async def rotate(
    connection: AsyncConnection,
    organisation_id: UUID,
    webhook_id: UUID,
    *,
    secret: bytes,
    overlap: timedelta,
) -> Webhook:
    """Give a webhook a new secret; the one before signs as well for a while, an older one no more.

    Raises:
        NotFound: the organisation has none of that id.
    """
    is_kept = overlap > timedelta(0)
    old: dict[str, Any] = {"old_secret": webhooks.c.secret if is_kept else null()}
    old |= {"old_secret_until": CLOCK + overlap if is_kept else null()}
    query = (
        update(webhooks)
        .where(webhooks.c.id == webhook_id, webhooks.c.organisation_id == organisation_id)
        .values(secret=secret, version=webhooks.c.version + 1, **old)
        .returning(*COLUMNS)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return _webhook(row)


async def remove(connection: AsyncConnection, organisation_id: UUID, webhook_id: UUID) -> None:
    """Delete a webhook with all that it was, or was to be, told.

    Raises:
        NotFound: the organisation has none of that id.
    """
    gone = delete(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.organisation_id == organisation_id)
    if (await connection.execute(gone)).rowcount == 0:
        raise NotFound(f"There is no webhook {webhook_id}.")
    await connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook_id))


async def secrets_of(connection: AsyncConnection, webhook_ids: Sequence[UUID]) -> dict[UUID, list[bytes]]:
    """Return what each of some webhooks signs with now, the newest first."""
    both = case((webhooks.c.old_secret_until > CLOCK, webhooks.c.old_secret)).label("old")
    query = select(webhooks.c.id, webhooks.c.secret, both).where(webhooks.c.id.in_(webhook_ids))
    rows = await connection.execute(query)
    return {row.id: [bytes(s) for s in (row.secret, row.old) if s is not None] for row in rows}


async def succeeded(connection: AsyncConnection, webhook_id: UUID) -> None:
    """Note that a webhook answers."""
    query = update(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.failures > 0)
    await connection.execute(query.values(failures=0, failing_since=null()))


async def failed(
    connection: AsyncConnection, webhook_id: UUID, *, limit: int, over: timedelta, is_gone: bool, why: str
) -> Owned | None:
    """Note that an attempt failed, and switch the webhook off when too many in a row have, for too long.

    Args:
        connection: The transaction.
        webhook_id: Which.
        limit: How many in a row are too many.
        over: How long they must have gone on.
        is_gone: Switch it off at once.
        why: What is said when it is.

    Returns:
        The webhook, when it was switched off now.
    """
    mine = webhooks.c.id == webhook_id
    counted = (
        update(webhooks)
        .where(mine)
        .values(
            failures=webhooks.c.failures + 1, failing_since=func.coalesce(webhooks.c.failing_since, CLOCK)
        )
    )
    await connection.execute(counted)
    where = [mine, webhooks.c.active]
    if not is_gone:
        where += [webhooks.c.failures >= limit, webhooks.c.failing_since <= CLOCK - over]
    off = (
        update(webhooks)
        .where(*where)
        .values(active=False, inactive_reason=why, version=webhooks.c.version + 1)
    )
    row = (await connection.execute(off.returning(webhooks.c.id, webhooks.c.organisation_id))).one_or_none()
    return None if row is None else Owned(row.id, row.organisation_id)


async def due_digests(connection: AsyncConnection) -> list[Owned]:
    """Take the webhooks whose digest is due, and set when the next one is. Of many at once one gets each."""
    return [Owned(row.id, row.organisation_id) for row in await connection.execute(_DUE_DIGESTS)]
