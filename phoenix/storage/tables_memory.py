"""The tables of what organisations remember, and of what came of it."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR, UUID

from phoenix.storage.tables import CLOCK, TIME, ZERO, metadata

memories = Table(
    "memories",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    # Of kind and text: the same is kept once.
    Column("digest", Text, nullable=False),
    # Single words, with blanks between.
    Column("tags", Text, nullable=False, server_default=""),
    Column("language", Text, nullable=False, server_default=""),
    Column("licence", Text, nullable=False, server_default=""),
    Column("origin", Text, nullable=False, server_default="own"),
    # No foreign key: what a project taught is kept when the project is deleted.
    Column("project_id", UUID()),
    Column("commit", Text, nullable=False, server_default=""),
    Column("agent", Text, nullable=False, server_default=""),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    # Projects that saw it and went well at first try, and those that did not.
    Column("helped", Integer, nullable=False, server_default=ZERO),
    Column("failed", Integer, nullable=False, server_default=ZERO),
    # The id of where its vector is; of another place, or empty: it has none yet.
    Column("place", Text, nullable=False, server_default=""),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("recalled_at", TIME),
    Column("expires_at", TIME),
    Column(
        "words",
        TSVECTOR,
        Computed("to_tsvector('english', text || ' ' || tags || ' ' || language)", persisted=True),
    ),
    CheckConstraint("kind IN ('pattern', 'snippet', 'debugging', 'requirement')", name="kind"),
    CheckConstraint("origin IN ('own', 'foreign')", name="origin"),
    UniqueConstraint("organisation_id", "digest"),
    Index(None, "organisation_id", "created_at", "id"),
    Index(None, "words", postgresql_using="gin"),
)

memory_recalls = Table(
    "memory_recalls",
    metadata,
    Column("organisation_id", UUID(), nullable=False),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("memory_id", ForeignKey("memories.id", ondelete="CASCADE"), nullable=False),
    # Tasks whose agents saw it; empty for agents of the whole project.
    Column("tasks", ARRAY(Text), nullable=False),
    # Whether it helped; null until the project is delivered.
    Column("helped", Boolean),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("project_id", "memory_id"),
    Index(None, "memory_id"),
)

# How delivered projects went, with memory and without.
memory_outcomes = Table(
    "memory_outcomes",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("organisation_id", UUID(), nullable=False),
    Column("held_out", Boolean, nullable=False),
    Column("recalled", Integer, nullable=False, server_default=ZERO),
    Column("tasks", Integer, nullable=False),
    Column("first_try", Integer, nullable=False),
    Column("calls", Integer, nullable=False),
    # USD; null when the price of a call is unknown.
    Column("cost_usd", Numeric),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    Index(None, "organisation_id", "at"),
)
