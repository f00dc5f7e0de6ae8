"""The response cache, and what model calls took from caches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"

COLUMNS = ("cached_tokens", "cached")


def upgrade() -> None:
    """Add the table and the columns."""
    op.create_table(
        "model_answers_cache",
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("answer", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name="fk_model_answers_cache_organisation_id_organisations",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("organisation_id", "request", name="pk_model_answers_cache"),
    )
    op.create_index("ix_model_answers_cache_expires_at", "model_answers_cache", ["expires_at"], unique=False)
    op.add_column(
        "model_calls",
        sa.Column("cached_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "model_calls", sa.Column("cached", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )


def downgrade() -> None:
    """Take them away."""
    for name in COLUMNS:
        op.drop_column("model_calls", name)
    op.drop_table("model_answers_cache")
