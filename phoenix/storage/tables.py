"""The tables of Phoenix. Queue and checkpoint tables belong to their libraries and are not here."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

JSON = JSONB(none_as_null=True)
TIME = DateTime(timezone=True)
ZERO = text("0")
CLOCK = func.clock_timestamp()

projects = Table(
    "projects",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("title", Text, nullable=False),
    Column("requirement", Text, nullable=False),
    Column("repository", Text),
    Column("model", Text, nullable=False),
    Column("approvals", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("budget_usd", Numeric),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    # Numbers this project's events: raised in the transaction that writes them.
    Column("last_event", BigInteger, nullable=False, server_default=ZERO),
    Index(None, "created_at"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("parent_id", ForeignKey("runs.id", ondelete="CASCADE")),
    Column("key", Text, nullable=False, server_default=""),
    # The order of opening, also of children that one transaction opens.
    Column("ordinal", BigInteger, Identity(), nullable=False),
    Column("flow", Text, nullable=False),
    Column("status", Text, nullable=False),
    # Raised whenever a worker takes the run or somebody takes it away: every later write of an
    # earlier attempt is refused.
    Column("attempt", Integer, nullable=False, server_default=ZERO),
    Column("priority", Integer, nullable=False, server_default=ZERO),
    Column("input", JSON, nullable=False),
    Column("output", JSON),
    Column("error", JSON),
    # What the run waits for: a list of {id, request}; empty unless it is waiting.
    Column("interrupts", JSON, nullable=False, server_default=text("'[]'")),
    # Something happened that the run must look at before it may go on waiting.
    Column("wake", Boolean, nullable=False, server_default=text("false")),
    # Advisory lock that the worker's session holds while it lives; null when nobody works on the run.
    Column("worker", BigInteger),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("started_at", TIME),
    Column("finished_at", TIME),
    CheckConstraint(
        "status IN ('pending', 'running', 'waiting', 'success', 'failed', 'cancelled')", name="status"
    ),
    UniqueConstraint("parent_id", "key"),
    Index(None, "project_id", "ordinal"),
    Index(
        "ix_runs_unfinished",
        "status",
        postgresql_where=text("status IN ('pending', 'running', 'waiting')"),
    ),
    # One run of its own for each project.
    Index("uq_runs_root", "project_id", unique=True, postgresql_where=text("parent_id IS NULL")),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("interrupt_id", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("value_digest", Text, nullable=False),
    Column("decision", JSON),
    Column("decided_by", Text, nullable=False, server_default=""),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("decided_at", TIME),
    UniqueConstraint("run_id", "interrupt_id"),
    Index(None, "project_id", "created_at"),
)

events = Table(
    "events",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("run_id", UUID()),
    Column("kind", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("project_id", "seq"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("digest", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSON, nullable=False),
    # When it was last stored: the same document may come back after another one.
    Column("stored_at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("project_id", "digest"),
    Index(None, "project_id", "kind", "stored_at"),
)

model_calls = Table(
    "model_calls",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("agent", Text, nullable=False),
    Column("task", Text, nullable=False, server_default=""),
    Column("model", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    # USD; null when the price is unknown.
    Column("cost_usd", Numeric),
    Column("recorded", Boolean, nullable=False, server_default=text("false")),
    Column("seconds", Numeric, nullable=False, server_default=ZERO),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    Index(None, "project_id"),
)
