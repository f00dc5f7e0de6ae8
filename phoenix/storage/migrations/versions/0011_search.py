"""What lists of projects are searched by, and what users change of a project."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

WORDS = "to_tsvector('simple', title || ' ' || left(requirement, 50000))"
COLUMNS = ("archived_at", "created_by", "version", "words")
INDEXES = ("ix_projects_organisation_id_created_at_id", "ix_projects_words")


def upgrade() -> None:
    """Add columns and indexes."""
    op.add_column("projects", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("projects", sa.Column("created_by", sa.UUID(), nullable=True))
    op.add_column("projects", sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column(
        "projects",
        sa.Column("words", postgresql.TSVECTOR(), sa.Computed(WORDS, persisted=True), nullable=True),
    )
    op.create_index(INDEXES[0], "projects", ["organisation_id", "created_at", "id"], unique=False)
    op.create_index(INDEXES[1], "projects", ["words"], unique=False, postgresql_using="gin")


def downgrade() -> None:
    """Take them away."""
    for name in INDEXES:
        op.drop_index(name, table_name="projects")
    for name in COLUMNS:
        op.drop_column("projects", name)
