"""The tables of traces: spans of projects, and how many there are and were left out."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from phoenix.storage.tables import JSON, TIME, ZERO, metadata

spans = Table(
    "spans",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("organisation_id", ForeignKey("organisations.id"), nullable=False),
    # Hexadecimal, as OpenTelemetry writes them: 16 digits, 32, and 16.
    Column("id", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("parent_id", Text),
    # No foreign key: it is written beside what it tells of.
    Column("run_id", UUID()),
    Column("attempt", Integer, nullable=False, server_default=ZERO),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("began_at", TIME, nullable=False),
    # Null while it goes on.
    Column("ended_at", TIME),
    Column("status", Text, nullable=False),
    Column("attributes", JSON, nullable=False, server_default=text("'{}'")),
    CheckConstraint("status IN ('open', 'ok', 'failed', 'interrupted')", name="status"),
    PrimaryKeyConstraint("project_id", "id"),
    Index(None, "project_id", "began_at", "id"),
    # What dead processes may have left.
    Index("ix_spans_open", "began_at", postgresql_where=text("ended_at IS NULL")),
)

span_counts = Table(
    "span_counts",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("kept", Integer, nullable=False, server_default=ZERO),
    # Under load, and beyond what a project may have.
    Column("left_out", Integer, nullable=False, server_default=ZERO),
    Column("beyond_limit", Integer, nullable=False, server_default=ZERO),
)
