"""Forks: where a project comes from, and what it inherited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

FORKED_FROM = "fk_projects_forked_from_projects"


def upgrade() -> None:
    """Add the columns. Each has a default, so workers of the version before go on."""
    op.add_column("projects", sa.Column("forked_from", sa.UUID(), nullable=True))
    op.add_column("projects", sa.Column("forked_at", sa.Text(), server_default="", nullable=False))
    op.create_foreign_key(FORKED_FROM, "projects", "projects", ["forked_from"], ["id"], ondelete="SET NULL")
    op.create_index(
        "ix_projects_forked_from",
        "projects",
        ["forked_from"],
        unique=False,
        postgresql_where=sa.text("forked_from IS NOT NULL"),
    )
    op.add_column(
        "artifacts",
        sa.Column("inherited", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_column("artifacts", "inherited")
    op.drop_index("ix_projects_forked_from", table_name="projects")
    op.drop_constraint(FORKED_FROM, "projects", type_="foreignkey")
    op.drop_column("projects", "forked_at")
    op.drop_column("projects", "forked_from")
