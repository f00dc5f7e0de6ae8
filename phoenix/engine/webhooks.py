"""Use cases of webhooks, for administrators of an organisation."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.addresses import Allowed
from phoenix.domain.identity import Principal
from phoenix.domain.webhook import (
    DIGEST,
    SECRET_BYTES,
    TEST,
    ApprovalsDigest,
    Period,
    WaitingApproval,
    Webhook,
    WebhookDelivery,
    secret_text,
)
from phoenix.engine.work import Work
from phoenix.errors import AddressRefused, Conflict, PayloadInvalid
from phoenix.storage import approvals, deliveries, webhooks
from phoenix.storage.database import transaction

MAX_WAITING = 100
"""Approvals in one digest."""


class Webhooks:
    """Who is told of what. What belongs to another organisation answers as what does not exist.

    Args:
        database: Where rows live.
        allowed: Addresses that are let through although they are not public.
    """

    def __init__(self, database: AsyncEngine, allowed: Allowed) -> None:
        self._database = database
        self._allowed = allowed

    async def all_of(self, who: Principal) -> list[Webhook]:
        """Return the organisation's webhooks, oldest first."""
        async with transaction(self._database) as connection:
            return await webhooks.of_organisation(connection, who.organisation_id)

    async def get(self, who: Principal, webhook_id: UUID) -> Webhook:
        """Return a webhook.

        Raises:
            NotFound: the organisation has none of that id.
        """
        async with transaction(self._database) as connection:
            return await webhooks.get(connection, who.organisation_id, webhook_id)

    async def add(
        self,
        who: Principal,
        *,
        url: str,
        kinds: list[str],
        digest_every: Period,
        description: str,
        work: Work,
    ) -> tuple[Webhook, str]:
        """Make a webhook, and return it with the secret that its receiver needs.

        Raises:
            AddressRefused: nothing is sent to such a URL.
            PayloadInvalid: it would never be told anything.
            Conflict: the organisation has as many as it may.
        """
        secret = secrets.token_bytes(SECRET_BYTES)
        made = await webhooks.add(
            work.connection,
            who.organisation_id,
            url=self._checked(url),
            secret=secret,
            created_by=who.user_id,
            kinds=_told(kinds, digest_every),
            digest_every=digest_every,
            description=description,
        )
        # A URL may hold what only its receiver should know, so the log has the host alone.
        await work.note(
            "webhook.make", made.id, host=urlsplit(url).hostname, kinds=kinds, digest_every=digest_every
        )
        return made, secret_text(secret)

    def _checked(self, url: str) -> str:
        try:
            return self._allowed.check_url(url)
        except AddressRefused as error:
            raise AddressRefused(error.message, field="body.url", hint=error.hint) from error

    async def change(
        self, who: Principal, webhook_id: UUID, *, version: int | None, work: Work, **values: Any
    ) -> Webhook:
        """Change url, kinds, digest, description or active of a webhook.

        Raises:
            NotFound: the organisation has none of that id.
            VersionConflict: it is at another version than was expected.
            AddressRefused, PayloadInvalid: as `add`.
        """
        was = await webhooks.get(work.connection, who.organisation_id, webhook_id)
        noted = dict(values)
        if "url" in values:
            self._checked(values["url"])
            noted["url"] = urlsplit(values["url"]).hostname
        _told(values.get("kinds", was.kinds), values.get("digest_every", was.digest_every))
        changed = await webhooks.change(
            work.connection, who.organisation_id, webhook_id, version=version, **values
        )
        await work.note("webhook.change", webhook_id, **noted)
        return changed

    async def remove(self, who: Principal, webhook_id: UUID, *, work: Work) -> None:
        """Delete a webhook; what it was not told yet, it never is.

        Raises:
            NotFound: the organisation has none of that id.
        """
        await webhooks.remove(work.connection, who.organisation_id, webhook_id)
        await work.note("webhook.remove", webhook_id)

    async def rotate(
        self, who: Principal, webhook_id: UUID, *, overlap_hours: int, work: Work
    ) -> tuple[Webhook, str]:
        """Give a webhook a new secret and return both; for a while messages are signed with the old one too.

        Raises:
            NotFound: the organisation has none of that id.
        """
        secret = secrets.token_bytes(SECRET_BYTES)
        overlap = timedelta(hours=overlap_hours)
        changed = await webhooks.rotate(
            work.connection, who.organisation_id, webhook_id, secret=secret, overlap=overlap
        )
        await work.note("webhook.rotate", webhook_id, overlap_hours=overlap_hours)
        return changed, secret_text(secret)

    async def test(self, who: Principal, webhook_id: UUID, *, work: Work) -> WebhookDelivery:
        """Let a webhook be told that this is a test.

        Raises:
            NotFound: the organisation has none of that id.
            Conflict: it is switched off.
        """
        found = await self._active(who, webhook_id, work)
        data = {"webhook_id": str(found.id), "asked_by": who.email}
        made = await deliveries.add(
            work.connection, who.organisation_id, webhook_id, TEST, message(TEST, data)
        )
        await work.note("webhook.test", webhook_id, delivery_id=str(made.id))
        return made

    async def _active(self, who: Principal, webhook_id: UUID, work: Work) -> Webhook:
        found = await webhooks.get(work.connection, who.organisation_id, webhook_id)
        if not found.active:
            raise Conflict("This webhook is switched off.", hint="Set `active` to true first.")
        return found

    async def deliveries(
        self, who: Principal, webhook_id: UUID, *, cursor: str, limit: int
    ) -> tuple[list[WebhookDelivery], str | None]:
        """Return what a webhook was told, newest first, and where the next page begins.

        Raises:
            NotFound: the organisation has no such webhook.
            PayloadInvalid: the cursor is none.
        """
        async with transaction(self._database) as connection:
            await webhooks.get(connection, who.organisation_id, webhook_id)
            return await deliveries.page(connection, webhook_id, cursor=cursor, limit=limit)

    async def retry(
        self, who: Principal, webhook_id: UUID, delivery_id: UUID, *, work: Work
    ) -> WebhookDelivery:
        """Let something be told again under its id; one that waits for its next attempt is due now.

        Raises:
            NotFound: the organisation has no such webhook, or that no such delivery.
            Conflict: the webhook is switched off.
        """
        await self._active(who, webhook_id, work)
        found = await deliveries.retry(work.connection, webhook_id, delivery_id)
        await work.note("webhook.retry", webhook_id, delivery_id=str(delivery_id))
        return found


def _told(kinds: list[str], digest_every: str) -> list[str]:
    if not kinds and not digest_every:
        raise PayloadInvalid(
            "This webhook would never be told anything.",
            field="body.kinds",
            hint="Name kinds of events, or a digest.",
        )
    return kinds


def message(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return what is sent, in the form that events have: type, timestamp, data."""
    return {"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data}


async def digest_of_waiting(connection: AsyncConnection, organisation_id: UUID) -> ApprovalsDigest:
    """Return which approvals of an organisation wait, oldest first."""
    found = await approvals.open_in(connection, organisation_id, limit=MAX_WAITING + 1)
    waiting = [
        WaitingApproval(
            approval_id=one.id,
            project_id=one.project_id,
            gate=one.request.name,
            kind=one.request.kind,
            waiting_since=one.created_at,
        )
        for one in found[:MAX_WAITING]
    ]
    return ApprovalsDigest(waiting=waiting, more=len(found) > MAX_WAITING)


async def put_digests(connection: AsyncConnection) -> int:
    """Let webhooks be told which approvals wait, where that is due; nobody is told that none does.

    Returns:
        How many are told. Of many workers at once each digest is made by one.
    """
    count = 0
    for due in await webhooks.due_digests(connection):
        digest = await digest_of_waiting(connection, due.organisation_id)
        if digest.waiting:
            told = message(DIGEST, digest.model_dump(mode="json"))
            await deliveries.add(connection, due.organisation_id, due.id, DIGEST, told)
            count += 1
    return count
