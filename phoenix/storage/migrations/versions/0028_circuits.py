"""Circuit breakers of models, shared by workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

ZERO = sa.text("0")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "circuits",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("failed_at", sa.Double(), server_default=ZERO, nullable=False),
        sa.Column("open_until", sa.Double(), nullable=True),
        sa.Column("open_seconds", sa.Double(), server_default=ZERO, nullable=False),
        sa.Column("probe_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_circuits")),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("circuits")
