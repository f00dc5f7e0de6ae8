"""Projects, runs, approvals, events, artifacts and model calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

JSON = postgresql.JSONB(none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")

NOTIFY = """
CREATE FUNCTION phoenix_notify_lock_freed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM procrastinate_jobs WHERE lock = OLD.lock AND status = 'todo') THEN
        PERFORM pg_notify('procrastinate_any_queue_v1',
            json_build_object('type', 'job_inserted', 'job_id', OLD.id)::text);
    END IF;
    RETURN NULL;
END $$
"""
"""Procrastinate does not notify workers when a lock frees: the next job of a run would start by polling."""

TRIGGERS = [
    "CREATE TRIGGER phoenix_jobs_lock_freed AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW"
    " WHEN (OLD.status = 'doing' AND NEW.status <> 'doing' AND OLD.lock IS NOT NULL)"
    " EXECUTE FUNCTION phoenix_notify_lock_freed()",
    "CREATE TRIGGER phoenix_jobs_lock_deleted AFTER DELETE ON procrastinate_jobs FOR EACH ROW"
    " WHEN (OLD.status = 'doing' AND OLD.lock IS NOT NULL)"
    " EXECUTE FUNCTION phoenix_notify_lock_freed()",
    "CREATE INDEX phoenix_jobs_live ON procrastinate_jobs (lock) WHERE status IN ('todo', 'doing')",
]


def upgrade() -> None:
    """Create the tables and the queue's trigger."""
    _projects()
    _artifacts()
    _events()
    _runs()
    _approvals()
    _model_calls()
    op.execute(NOTIFY)
    for statement in TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP INDEX phoenix_jobs_live")
    op.execute("DROP FUNCTION phoenix_notify_lock_freed CASCADE")
    for table in ("model_calls", "approvals", "runs", "events", "artifacts", "projects"):
        op.drop_table(table)


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("requirement", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("approvals", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("budget_usd", sa.Numeric(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("last_event", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
    )
    op.create_index("ix_projects_created_at", "projects", ["created_at"], unique=False)


def _artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("stored_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_artifacts_project_id_projects", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "digest", name="pk_artifacts"),
    )
    op.create_index(
        "ix_artifacts_project_id_kind_stored_at",
        "artifacts",
        ["project_id", "kind", "stored_at"],
        unique=False,
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_events_project_id_projects", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "seq", name="pk_events"),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("parent_id", sa.UUID(), nullable=True),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("ordinal", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("input", JSON, nullable=False),
        sa.Column("output", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("interrupts", JSON, server_default=sa.text("'[]'"), nullable=False),
        sa.Column("wake", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("worker", sa.BigInteger(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'waiting', 'success', 'failed', 'cancelled')",
            name="ck_runs_status",
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["runs.id"], name="fk_runs_parent_id_runs", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_runs_project_id_projects", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.UniqueConstraint("parent_id", "key", name="uq_runs_parent_id_key"),
    )
    op.create_index("ix_runs_project_id_ordinal", "runs", ["project_id", "ordinal"], unique=False)
    op.create_index(
        "ix_runs_unfinished",
        "runs",
        ["status"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'running', 'waiting')"),
    )
    op.create_index(
        "uq_runs_root", "runs", ["project_id"], unique=True, postgresql_where=sa.text("parent_id IS NULL")
    )


def _approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("interrupt_id", sa.Text(), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("value_digest", sa.Text(), nullable=False),
        sa.Column("decision", JSON, nullable=True),
        sa.Column("decided_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("decided_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_approvals_project_id_projects", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_approvals_run_id_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        sa.UniqueConstraint("run_id", "interrupt_id", name="uq_approvals_run_id_interrupt_id"),
    )
    op.create_index(
        "ix_approvals_project_id_created_at", "approvals", ["project_id", "created_at"], unique=False
    )


def _model_calls() -> None:
    op.create_table(
        "model_calls",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), server_default="", nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Numeric(), nullable=True),
        sa.Column("recorded", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("seconds", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_model_calls_project_id_projects", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_model_calls_run_id_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_model_calls"),
    )
    op.create_index("ix_model_calls_project_id", "model_calls", ["project_id"], unique=False)
