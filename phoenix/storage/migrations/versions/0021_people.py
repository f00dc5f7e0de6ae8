"""Permission rules, decisions on tool calls, and messages to agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"

JSON = postgresql.JSONB(none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Add the columns and tables."""
    op.add_column("organisations", sa.Column("rules", JSON, nullable=True))
    op.add_column("projects", sa.Column("rules", JSON, nullable=True))
    _tool_decisions()
    _messages()
    _message_reads()


def downgrade() -> None:
    """Drop them."""
    op.drop_table("message_reads")
    op.drop_table("messages")
    op.drop_table("tool_decisions")
    op.drop_column("projects", "rules")
    op.drop_column("organisations", "rules")


def _tool_decisions() -> None:
    op.create_table(
        "tool_decisions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), server_default="", nullable=False),
        sa.Column("task", sa.Text(), server_default="", nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("arguments", JSON, nullable=False),
        sa.Column("arguments_digest", sa.Text(), nullable=False),
        sa.Column("cut", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), server_default="", nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.Column("decided_at", TIME, nullable=True),
        sa.CheckConstraint("effect IN ('allow', 'ask', 'deny')", name=op.f("ck_tool_decisions_effect")),
        sa.CheckConstraint(
            "outcome IN ('allowed', 'denied', 'asked', 'approved', 'edited', 'rejected')",
            name=op.f("ck_tool_decisions_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_tool_decisions_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_tool_decisions_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tool_decisions")),
        sa.UniqueConstraint("run_id", "call", name=op.f("uq_tool_decisions_run_id_call")),
    )
    op.create_index(
        op.f("ix_tool_decisions_project_id_at_id"), "tool_decisions", ["project_id", "at", "id"], unique=False
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sent_by", sa.Text(), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_messages_project_id_projects"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "seq", name=op.f("pk_messages")),
        sa.UniqueConstraint("id", name=op.f("uq_messages_id")),
    )


def _message_reads() -> None:
    op.create_table(
        "message_reads",
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("conversation", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), server_default="", nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "seq"],
            ["messages.project_id", "messages.seq"],
            name=op.f("fk_message_reads_project_id_seq_messages"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_message_reads_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "seq", "run_id", "conversation", name=op.f("pk_message_reads")),
    )
    op.create_index(op.f("ix_message_reads_run_id"), "message_reads", ["run_id"], unique=False)
