"""Webhooks: who is told of what, how it is signed, and what became of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from phoenix.domain.frozen import Frozen

MARK = "whsec_"
"""What the text of a secret begins with, as the scheme has it."""
SECRET_BYTES = 32

TEST, DIGEST = "webhook_test", "approvals_digest"
"""What is sent that is no event of a project."""

NOTABLE = (
    "approval_requested",
    "approval_decided",
    "project_waiting",
    "project_paused",
    "project_finished",
    "project_failed",
    "project_cancelled",
)
"""What a webhook is told that names no kinds."""

Kind = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z0-9_]{0,99})$")]
"""An event's kind, or `*` for all."""
Period = Literal["", "hourly", "daily"]
DeliveryStatus = Literal["pending", "delivered", "failed"]


class Webhook(Frozen):
    """An address that is told of events. Its secret is never a part of this."""

    id: UUID
    organisation_id: UUID
    url: str
    description: str = ""
    kinds: list[str]
    digest_every: Period = ""
    """How often it is told which approvals wait; empty for never."""
    active: bool = True
    inactive_reason: str = ""
    """Why Phoenix switched it off; empty when a user did."""
    failures: int = 0
    """Attempts in a row that failed."""
    created_by: UUID | None = None
    old_secret_until: datetime | None = None
    """Until then the secret before the last rotation signs as well."""
    version: int = 1
    created_at: datetime


class DeliveryAttempt(Frozen):
    """One try to deliver. `status` is the receiver's, None when none came; `error` says why."""

    at: datetime
    status: int | None = None
    error: str = ""
    seconds: float = 0.0


class WebhookDelivery(Frozen):
    """Something that a webhook is told. Its id is the `webhook-id`, the same with every attempt."""

    id: UUID
    webhook_id: UUID
    type: str
    status: DeliveryStatus
    attempts: int = 0
    response_status: int | None = None
    """Of the last attempt."""
    response_body: str = ""
    """Its beginning, with what looks like a secret masked."""
    error: str = ""
    log: list[DeliveryAttempt] = []
    """The attempts, oldest first."""
    payload: dict[str, Any]
    created_at: datetime
    next_attempt_at: datetime | None = None
    """None once it is over."""


@dataclass(frozen=True)
class Received:
    """What came of one try.

    Args:
        status: Of the receiver's answer; None when there was none.
        body: Its beginning.
        error: Why it is no success; empty when it is.
        after_seconds: How long the receiver asks to be left alone.
    """

    status: int | None = None
    body: str = ""
    error: str = ""
    after_seconds: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300 and not self.error


class WaitingApproval(Frozen):
    """An approval in a digest."""

    approval_id: UUID
    project_id: UUID
    gate: str
    kind: str
    waiting_since: datetime


class ApprovalsDigest(Frozen):
    """The approvals that wait, oldest first; `more` tells that there are others."""

    waiting: list[WaitingApproval]
    more: bool = Field(default=False)


def secret_text(secret: bytes) -> str:
    """Return a secret as its receiver keeps it."""
    return MARK + base64.b64encode(secret).decode()


def body_of(payload: Mapping[str, Any]) -> bytes:
    """Return what is sent: the same bytes for the same payload."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message as Standard Webhooks has it (https://www.standardwebhooks.com), scheme `v1`."""
    signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def signed_headers(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that show who sends a message, and when (Unix time, in seconds)."""
    signatures = [signature(secret, message_id, timestamp, body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
