"""The tables of users, their credentials, and what they did."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, UUID

from phoenix.storage.tables import CLOCK, JSON, TIME, metadata

ROLES = "role IN ('viewer', 'developer', 'approver', 'admin')"

users = Table(
    "users",
    metadata,
    Column("id", UUID(), primary_key=True),
    # In lower case.
    Column("email", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, server_default=""),
    # Argon2id; null for those who sign in elsewhere.
    Column("password_hash", Text),
    # `issuer subject` of the identity provider that knows the user.
    Column("external_id", Text, unique=True),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
)

memberships = Table(
    "memberships",
    metadata,
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("organisation_id", "user_id"),
    CheckConstraint(ROLES, name="role"),
    Index(None, "user_id"),
)

grants = Table(
    "grants",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("role", Text, nullable=False),
    PrimaryKeyConstraint("project_id", "user_id"),
    CheckConstraint(ROLES, name="role"),
    Index(None, "user_id"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("expires_at", TIME, nullable=False),
    Column("revoked_at", TIME),
    # Why: signed_out, reused, removed.
    Column("revoked_for", Text, nullable=False, server_default=""),
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    # SHA-256 of a random secret, which needs no slow hash.
    Column("secret_hash", BYTEA, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    # Set when it was exchanged: once more, and the whole session ends.
    Column("used_at", TIME),
    Index(None, "session_id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", BYTEA, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    # To the minute: it is written at most once a minute.
    Column("last_used_at", TIME),
    Index(None, "organisation_id"),
    Index(None, "user_id"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", BYTEA, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    # From then on it signs nothing, and what it has signed runs out.
    Column("retired_at", TIME),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    # No foreign keys: what was done is kept when those who did it, or what they did it to, are gone.
    Column("organisation_id", UUID(), nullable=False),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    Column("actor_id", UUID()),
    # The e-mail address, or `phoenix` for what it does by itself.
    Column("actor", Text, nullable=False),
    # `<noun>.<verb>`, such as `approval.decide`.
    Column("action", Text, nullable=False),
    Column("object_id", Text, nullable=False, server_default=""),
    Column("data", JSON, nullable=False, server_default=text("'{}'")),
    Column("request_id", Text, nullable=False, server_default=""),
    # Place in the organisation's chain, and the hash over this row and the one before; both null until
    # the row is chained.
    Column("position", BigInteger),
    Column("hash", BYTEA),
    Index(None, "organisation_id", "id"),
    Index(None, "object_id"),
    Index("ix_audit_unchained", "id", postgresql_where=text("hash IS NULL")),
    Index(
        "uq_audit_position",
        "organisation_id",
        "position",
        unique=True,
        postgresql_where=text("position IS NOT NULL"),
    ),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("organisation_id", UUID(), nullable=False),
    Column("user_id", UUID(), nullable=False),
    Column("key", Text, nullable=False),
    # SHA-256 over method, path and body.
    Column("request_hash", BYTEA, nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", BYTEA, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("organisation_id", "user_id", "key"),
    Index(None, "created_at"),
)
