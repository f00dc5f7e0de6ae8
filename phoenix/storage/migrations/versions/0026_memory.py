"""What organisations remember of their projects, what was recalled, and what came of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
ZERO = sa.text("0")
WORDS = "to_tsvector('english', text || ' ' || tags || ' ' || language)"


def upgrade() -> None:
    """Make the tables."""
    _memories()
    _recalls()
    _outcomes()


def downgrade() -> None:
    """Drop them."""
    op.drop_table("memory_outcomes")
    op.drop_table("memory_recalls")
    op.drop_table("memories")


def _memories() -> None:
    op.create_table(
        "memories",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Text(), server_default=default, nullable=False)
            for name, default in (("tags", ""), ("language", ""), ("licence", ""), ("origin", "own"))
        ),
        sa.Column("project_id", sa.UUID(), nullable=True),
        sa.Column("commit", sa.Text(), server_default="", nullable=False),
        sa.Column("agent", sa.Text(), server_default="", nullable=False),
        sa.Column("pinned", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("helped", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("failed", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("place", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("recalled_at", TIME, nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("words", postgresql.TSVECTOR(), sa.Computed(WORDS, persisted=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('pattern', 'snippet', 'debugging', 'requirement')", name=op.f("ck_memories_kind")
        ),
        sa.CheckConstraint("origin IN ('own', 'foreign')", name=op.f("ck_memories_origin")),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name=op.f("fk_memories_organisation_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memories")),
        sa.UniqueConstraint("organisation_id", "digest", name=op.f("uq_memories_organisation_id_digest")),
    )
    columns = ["organisation_id", "created_at", "id"]
    op.create_index(op.f("ix_memories_organisation_id_created_at_id"), "memories", columns, unique=False)
    op.create_index(op.f("ix_memories_words"), "memories", ["words"], unique=False, postgresql_using="gin")


def _recalls() -> None:
    op.create_table(
        "memory_recalls",
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("memory_id", sa.UUID(), nullable=False),
        sa.Column("tasks", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("helped", sa.Boolean(), nullable=True),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["memory_id"],
            ["memories.id"],
            name=op.f("fk_memory_recalls_memory_id_memories"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_memory_recalls_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", "memory_id", name=op.f("pk_memory_recalls")),
    )
    op.create_index(op.f("ix_memory_recalls_memory_id"), "memory_recalls", ["memory_id"], unique=False)


def _outcomes() -> None:
    op.create_table(
        "memory_outcomes",
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.Column("recalled", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("first_try", sa.Integer(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(), nullable=True),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_memory_outcomes_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_memory_outcomes")),
    )
    columns = ["organisation_id", "at"]
    op.create_index(op.f("ix_memory_outcomes_organisation_id_at"), "memory_outcomes", columns, unique=False)
