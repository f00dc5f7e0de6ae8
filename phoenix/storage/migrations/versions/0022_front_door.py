"""Quotas of organisations, templates of projects, and sign-ins that have begun at an identity provider."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"

JSON = postgresql.JSONB(none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
ONE = sa.text("1")
CHECKS = {"max_projects": "max_projects >= 0", "max_usd_day": "max_usd_day >= 0"}


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column("organisations", sa.Column("max_projects", sa.Integer(), nullable=True))
    op.add_column("organisations", sa.Column("max_usd_day", sa.Numeric(), nullable=True))
    op.add_column("organisations", sa.Column("version", sa.Integer(), server_default=ONE, nullable=False))
    for name, check in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_organisations_{name}"), "organisations", check)
    op.create_index(op.f("ix_model_calls_at"), "model_calls", ["at"], unique=False)
    _templates()
    op.create_table(
        "sign_ins",
        sa.Column("state_hash", postgresql.BYTEA(), nullable=False),
        sa.Column("browser_hash", postgresql.BYTEA(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_sign_ins")),
    )
    op.create_index(op.f("ix_sign_ins_created_at"), "sign_ins", ["created_at"], unique=False)


def downgrade() -> None:
    """Take them away."""
    op.drop_table("sign_ins")
    op.drop_table("templates")
    op.drop_index(op.f("ix_model_calls_at"), table_name="model_calls")
    for name in CHECKS:
        op.drop_constraint(op.f(f"ck_organisations_{name}"), "organisations")
    for name in ("version", "max_usd_day", "max_projects"):
        op.drop_column("organisations", name)


def _templates() -> None:
    op.create_table(
        "templates",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("launch", JSON, nullable=False),
        sa.Column("parameters", JSON, server_default=sa.text("'[]'"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=ONE, nullable=False),
        sa.Column("created_by", sa.UUID(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name=op.f("fk_templates_organisation_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_templates")),
        sa.UniqueConstraint("organisation_id", "name", name=op.f("uq_templates_organisation_id_name")),
    )
