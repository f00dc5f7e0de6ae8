"""Webhooks: addresses that are told of what happens, and what became of each message."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from phoenix.api.access import Admin
from phoenix.api.payloads import Answer, Page, Payload
from phoenix.api.versions import IfMatch, etag, expected
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.webhook import NOTABLE, Kind, Period, Webhook, WebhookDelivery
from phoenix.engine.webhooks import Webhooks

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=WorkRoute)

Url = Annotated[str, Field(min_length=1, max_length=2000, examples=["https://hooks.example.org/phoenix"])]
Kinds = Annotated[list[Kind], Field(max_length=50)]
Description = Annotated[str, Field(max_length=200)]


class NewWebhook(Payload):
    """An address to tell."""

    url: Url
    """https, and a public address."""
    kinds: Kinds = list(NOTABLE)
    """Kinds of events; `*` for all, each step and model call included."""
    digest_every: Period = ""
    """How often to tell which approvals wait."""
    description: Description = ""


class WebhookChange(Payload):
    """What can be changed of a webhook; what is left out stays."""

    url: Url | None = None
    kinds: Kinds | None = None
    digest_every: Period | None = None
    description: Description | None = None
    active: bool | None = None
    """Switched on again, it is told what waited."""


class Rotation(Payload):
    """How a secret is exchanged."""

    overlap_hours: Annotated[int, Field(ge=0, le=168)] = 24
    """How long messages are signed with the old secret too; 0 when it is known to others."""


class MadeWebhook(Answer):
    """A webhook, with the only copy of its secret."""

    webhook: Webhook
    secret: str
    """`whsec_` and base64: the key of HMAC-SHA256."""


def _webhooks(request: Request) -> Webhooks:
    webhooks: Webhooks = request.app.state.webhooks
    return webhooks


@router.get("")
async def list_webhooks(who: Admin, request: Request) -> list[Webhook]:
    """List the webhooks of the organisation."""
    return await _webhooks(request).all_of(who)


@router.post("", status_code=201)
async def make_webhook(
    given: NewWebhook, who: Admin, work: InWork, request: Request, response: Response
) -> MadeWebhook:
    """Make a webhook. Its secret is shown once."""
    made, secret = await _webhooks(request).add(who, **given.model_dump(), work=work)
    response.headers["Location"] = f"{request.url.path}/{made.id}"
    response.headers["ETag"] = etag(made.version)
    return MadeWebhook(webhook=made, secret=secret)


@router.get("/{webhook_id}")
async def read_webhook(webhook_id: UUID, who: Admin, request: Request, response: Response) -> Webhook:
    """Read a webhook."""
    found = await _webhooks(request).get(who, webhook_id)
    response.headers["ETag"] = etag(found.version)
    return found


@router.patch("/{webhook_id}")
async def change_webhook(
    webhook_id: UUID,
    given: WebhookChange,
    who: Admin,
    work: InWork,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> Webhook:
    """Change where or of what it is told, or switch it off or on."""
    values: dict[str, Any] = given.model_dump(exclude_none=True)
    changed = await _webhooks(request).change(
        who, webhook_id, version=expected(if_match), work=work, **values
    )
    response.headers["ETag"] = etag(changed.version)
    return changed


@router.delete("/{webhook_id}", status_code=204, response_class=Response)
async def remove_webhook(webhook_id: UUID, who: Admin, work: InWork, request: Request) -> None:
    """Delete a webhook with the log of its deliveries; what waits is not delivered."""
    await _webhooks(request).remove(who, webhook_id, work=work)


@router.post("/{webhook_id}/rotate")
async def rotate_secret(
    webhook_id: UUID, given: Rotation, who: Admin, work: InWork, request: Request, response: Response
) -> MadeWebhook:
    """Make a new secret, shown once. For a while messages carry a signature of each."""
    changed, secret = await _webhooks(request).rotate(
        who, webhook_id, overlap_hours=given.overlap_hours, work=work
    )
    response.headers["ETag"] = etag(changed.version)
    return MadeWebhook(webhook=changed, secret=secret)


@router.post("/{webhook_id}/test", status_code=202)
async def test_webhook(webhook_id: UUID, who: Admin, work: InWork, request: Request) -> WebhookDelivery:
    """Send a `webhook_test`; its delivery tells what became of it."""
    return await _webhooks(request).test(who, webhook_id, work=work)


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: UUID,
    who: Admin,
    request: Request,
    cursor: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[WebhookDelivery]:
    """List what it was, or is to be, told, newest first; what ended goes after 30 days."""
    items, following = await _webhooks(request).deliveries(who, webhook_id, cursor=cursor, limit=limit)
    return Page(items=items, next=following)


@router.post("/{webhook_id}/deliveries/{delivery_id}/retry", status_code=202)
async def retry_delivery(
    webhook_id: UUID, delivery_id: UUID, who: Admin, work: InWork, request: Request
) -> WebhookDelivery:
    """Send it again, under the id that it had."""
    return await _webhooks(request).retry(who, webhook_id, delivery_id, work=work)
