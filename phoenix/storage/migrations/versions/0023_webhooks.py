"""Webhooks, and what they are told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"

JSON = postgresql.JSONB(none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


TELL = """
CREATE OR REPLACE FUNCTION phoenix_tell_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (id, organisation_id, webhook_id, type, payload)
    SELECT gen_random_uuid(), w.organisation_id, w.id, t.type, jsonb_build_object(
        'type', t.type,
        'timestamp', s.at,
        'data', CASE WHEN octet_length(CAST(s.data AS text)) > 16384
            THEN jsonb_build_object('truncated', true) ELSE s.data END
            || jsonb_build_object('project_id', s.project_id, 'seq', s.seq, 'run_id', s.run_id)
    )
    FROM stored s
    JOIN projects p ON p.id = s.project_id
    JOIN webhooks w ON w.organisation_id = p.organisation_id AND w.active
    CROSS JOIN LATERAL (SELECT CASE
        WHEN s.kind = 'run_finished' AND s.data ->> 'key' = '' THEN 'project_'
            || CASE s.data ->> 'status' WHEN 'success' THEN 'finished' ELSE s.data ->> 'status' END
        WHEN s.kind = 'run_waiting' AND s.data ->> 'key' = '' AND EXISTS (
            SELECT FROM approvals a WHERE a.run_id = s.run_id AND a.decided_at IS NULL
        ) THEN 'project_waiting'
        ELSE s.kind END AS type) t
    WHERE w.kinds && ARRAY['*', t.type]
    ORDER BY s.project_id, s.seq;
    RETURN NULL;
END $$
"""
"""Makes deliveries of events, whoever appends them: neither is there alone.

Data of over 16 KiB is left out; the event log has it. The end of a project's own run, and its waiting for
people, are told as the project's. Without webhooks it is a look into an empty table.
"""

TELLS = """
CREATE TRIGGER phoenix_tell AFTER INSERT ON events REFERENCING NEW TABLE AS stored
    FOR EACH STATEMENT EXECUTE FUNCTION phoenix_tell_v1()
"""


def upgrade() -> None:
    """Create the tables, and what fills one of them."""
    _webhooks()
    _deliveries()
    op.execute(TELL)
    op.execute(TELLS)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP TRIGGER IF EXISTS phoenix_tell ON events")
    op.execute("DROP FUNCTION IF EXISTS phoenix_tell_v1()")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("digest_every", sa.Text(), server_default="", nullable=False),
        sa.Column("digest_at", TIME, nullable=True),
        sa.Column("secret", postgresql.BYTEA(), nullable=False),
        sa.Column("old_secret", postgresql.BYTEA(), nullable=True),
        sa.Column("old_secret_until", TIME, nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("inactive_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failing_since", TIME, nullable=True),
        sa.Column("created_by", sa.UUID(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("digest_every IN ('', 'hourly', 'daily')", name=op.f("ck_webhooks_digest_every")),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name=op.f("fk_webhooks_organisation_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_organisation_id"), "webhooks", ["organisation_id"], unique=False)


def _deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("webhook_id", sa.UUID(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("response_body", sa.Text(), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("log", JSON, server_default=sa.text("'[]'"), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("next_attempt_at", TIME, server_default=NOW, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        op.f("ix_webhook_deliveries_webhook_id_created_at_id"),
        "webhook_deliveries",
        ["webhook_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_webhook_deliveries_open",
        "webhook_deliveries",
        ["webhook_id", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_webhook_deliveries_ended",
        "webhook_deliveries",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
