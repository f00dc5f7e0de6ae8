"""The tables of templates, and of sign-ins that have begun at an identity provider."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import BYTEA, UUID

from phoenix.storage.tables import CLOCK, JSON, TIME, metadata

templates = Table(
    "templates",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    # What is launched, as a client would send it; texts may hold `{{ parameter }}`.
    Column("launch", JSON, nullable=False),
    Column("parameters", JSON, nullable=False, server_default=text("'[]'")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_by", UUID()),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("updated_at", TIME, nullable=False, server_default=CLOCK),
    UniqueConstraint("organisation_id", "name"),
)

# One is used once: it is deleted when its browser comes back.
sign_ins = Table(
    "sign_ins",
    metadata,
    # SHA-256 of what comes back from the provider, and of what the browser keeps meanwhile.
    Column("state_hash", BYTEA, primary_key=True),
    Column("browser_hash", BYTEA, nullable=False),
    Column("nonce", Text, nullable=False),
    # The secret of PKCE.
    Column("verifier", Text, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Index(None, "created_at"),
)
