"""Spans of projects, and where a project's trace begins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"

ZERO = sa.text("0")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.add_column("projects", sa.Column("traceparent", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "spans",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("organisation_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attributes", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.CheckConstraint("status IN ('open', 'ok', 'failed', 'interrupted')", name=op.f("ck_spans_status")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_spans_project_id_projects"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisations.id"], name=op.f("fk_spans_organisation_id_organisations")
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_spans")),
    )
    op.create_index(op.f("ix_spans_project_id_began_at_id"), "spans", ["project_id", "began_at", "id"])
    op.create_index("ix_spans_open", "spans", ["began_at"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "span_counts",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("kept", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("left_out", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("beyond_limit", sa.Integer(), server_default=ZERO, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_span_counts_project_id_projects"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_span_counts")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("span_counts")
    op.drop_table("spans")
    op.drop_column("projects", "traceparent")
