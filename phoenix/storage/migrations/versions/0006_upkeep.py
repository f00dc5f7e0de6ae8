"""When a project's inner state was given up, and when all of it was gone; and forks that are being made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the times, an index of what may be due, and the table of forks."""
    op.add_column("projects", sa.Column("retired_at", TIME, nullable=True))
    op.add_column("projects", sa.Column("pruned_at", TIME, nullable=True))
    op.create_index(
        "ix_runs_ended",
        "runs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("parent_id IS NULL AND finished_at IS NOT NULL"),
    )
    op.create_table(
        "begun_forks",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("threads", postgresql.ARRAY(sa.UUID()), nullable=False),
        sa.Column("begun_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_begun_forks")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("begun_forks")
    op.drop_index("ix_runs_ended", table_name="runs")
    op.drop_column("projects", "pruned_at")
    op.drop_column("projects", "retired_at")
