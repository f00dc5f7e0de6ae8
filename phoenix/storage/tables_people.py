"""The tables of what people say to agents, and of what agents' tools were allowed."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from phoenix.storage.tables import CLOCK, JSON, TIME, metadata

tool_decisions = Table(
    "tool_decisions",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    # Names the call in its run: what is done again after a crash finds its row.
    Column("call", Text, nullable=False),
    Column("agent", Text, nullable=False, server_default=""),
    Column("task", Text, nullable=False, server_default=""),
    Column("tool", Text, nullable=False),
    # Without secrets, long texts cut; the names of those that were cut.
    Column("arguments", JSON, nullable=False),
    Column("arguments_digest", Text, nullable=False),
    Column("cut", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # What the rules said, and which.
    Column("effect", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    # What came of it: `asked` while it waits for a person.
    Column("outcome", Text, nullable=False),
    Column("by", Text, nullable=False, server_default=""),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    Column("decided_at", TIME),
    CheckConstraint("effect IN ('allow', 'ask', 'deny')", name="effect"),
    CheckConstraint(
        "outcome IN ('allowed', 'denied', 'asked', 'approved', 'edited', 'rejected')", name="outcome"
    ),
    UniqueConstraint("run_id", "call"),
    Index(None, "project_id", "at", "id"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", UUID(), nullable=False, unique=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    # The number of its event: a reader that has read one has read all before it.
    Column("seq", BigInteger, nullable=False),
    # Empty for all agents of the project.
    Column("task", Text, nullable=False, server_default=""),
    Column("text", Text, nullable=False),
    Column("sent_by", Text, nullable=False),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("project_id", "seq"),
)

message_reads = Table(
    "message_reads",
    metadata,
    Column("project_id", UUID(), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    # Names a conversation in its run; one that goes on after a crash is the same.
    Column("conversation", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("task", Text, nullable=False, server_default=""),
    Column("turn", Integer, nullable=False),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("project_id", "seq", "run_id", "conversation"),
    ForeignKeyConstraint(["project_id", "seq"], ["messages.project_id", "messages.seq"], ondelete="CASCADE"),
    Index(None, "run_id"),
)
