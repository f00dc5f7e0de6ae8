"""The tables of webhooks and of what they are told."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, UUID

from phoenix.storage.tables import CLOCK, JSON, TIME, ZERO, metadata

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    # Types of messages, or `*`.
    Column("kinds", ARRAY(Text), nullable=False),
    Column("digest_every", Text, nullable=False, server_default=""),
    # When the next digest is due; null without one.
    Column("digest_at", TIME),
    # Signs, so it is kept as it is, as `signing_keys.secret` is; and the one before, while both sign.
    Column("secret", BYTEA, nullable=False),
    Column("old_secret", BYTEA),
    Column("old_secret_until", TIME),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("inactive_reason", Text, nullable=False, server_default=""),
    # Attempts in a row that failed, and when the first of them did.
    Column("failures", Integer, nullable=False, server_default=ZERO),
    Column("failing_since", TIME),
    # No foreign key: it goes on when whoever made it is gone.
    Column("created_by", UUID()),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    CheckConstraint("digest_every IN ('', 'hourly', 'daily')", name="digest_every"),
    Index(None, "organisation_id"),
)

# The outbox of webhooks: a row is made by the statement that appends the event.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    # The `webhook-id` of the message.
    Column("id", UUID(), primary_key=True),
    Column("organisation_id", UUID(), nullable=False),
    # No foreign key: a webhook that is deleted must not fail, or hold up, the event that is being told.
    Column("webhook_id", UUID(), nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("status", Text, nullable=False, server_default="pending"),
    # Raised when an attempt begins; a later attempt's result counts, an earlier one's failure does not.
    Column("attempts", Integer, nullable=False, server_default=ZERO),
    Column("response_status", Integer),
    Column("response_body", Text, nullable=False, server_default=""),
    Column("error", Text, nullable=False, server_default=""),
    Column("log", JSON, nullable=False, server_default=text("'[]'")),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    # While an attempt is made: when it counts as lost.
    Column("next_attempt_at", TIME, nullable=False, server_default=CLOCK),
    Column("ended_at", TIME),
    CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="status"),
    Index(None, "webhook_id", "created_at", "id"),
    Index(
        "ix_webhook_deliveries_open",
        "webhook_id",
        "next_attempt_at",
        postgresql_where=text("status = 'pending'"),
    ),
    Index("ix_webhook_deliveries_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)
