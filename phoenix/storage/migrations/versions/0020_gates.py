"""Rules of gates, votes on approvals, and when somebody is reminded of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0024"

JSON = postgresql.JSONB(none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
EMPTY = sa.text("'{}'")


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("decided_how", sa.Text(), server_default="", nullable=False),
        sa.Column("rule", JSON, server_default=EMPTY, nullable=False),
        sa.Column("deadline_at", TIME, nullable=True),
        sa.Column("next_at", TIME, nullable=True),
        sa.Column("reminders", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("escalated_at", TIME, nullable=True),
    ]


def upgrade() -> None:
    """Add columns and a table."""
    for table in ("organisations", "projects"):
        op.add_column(table, sa.Column("gate_rules", JSON, server_default=EMPTY, nullable=False))
    for column in _columns():
        op.add_column("approvals", column)
    op.create_check_constraint(
        op.f("ck_approvals_decided_how"), "approvals", "decided_how IN ('', 'person', 'policy', 'deadline')"
    )
    op.create_index(
        "ix_approvals_next",
        "approvals",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("next_at IS NOT NULL AND decided_at IS NULL"),
    )
    op.create_index(op.f("ix_audit_object_id"), "audit", ["object_id"], unique=False)
    _votes()


def _votes() -> None:
    op.create_table(
        "approval_votes",
        sa.Column("approval_id", sa.UUID(), nullable=False),
        sa.Column("voter", sa.Text(), nullable=False),
        sa.Column("voter_id", sa.UUID(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("value_digest", sa.Text(), nullable=False),
        sa.Column("escalated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "verdict IN ('approve', 'edit', 'reject', 'respond')", name=op.f("ck_approval_votes_verdict")
        ),
        sa.ForeignKeyConstraint(
            ["approval_id"],
            ["approvals.id"],
            name=op.f("fk_approval_votes_approval_id_approvals"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("approval_id", "voter", "escalated", name=op.f("pk_approval_votes")),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("approval_votes")
    op.drop_index(op.f("ix_audit_object_id"), table_name="audit")
    op.drop_index("ix_approvals_next", table_name="approvals")
    op.drop_constraint(op.f("ck_approvals_decided_how"), "approvals", type_="check")
    for column in _columns():
        op.drop_column("approvals", column.name)
    for table in ("organisations", "projects"):
        op.drop_column(table, "gate_rules")
