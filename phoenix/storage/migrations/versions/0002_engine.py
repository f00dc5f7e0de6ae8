"""Organisations, threads, workers, and what admission needs to know of runs.

Workers of the earlier version may go on meanwhile: what they do not write has defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

JSON = postgresql.JSONB(none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
ZERO = sa.text("0")
FALSE = sa.text("false")
DEFAULT_ORGANISATION = "00000000-0000-0000-0000-000000000001"
UNFINISHED = "status IN ('pending', 'running', 'waiting')"
DUE = "status = 'pending' OR (status = 'waiting' AND wake)"

OLD_WORKERS = """
CREATE FUNCTION phoenix_run_has_thread() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO threads (id, project_id) VALUES (NEW.id, NEW.project_id) ON CONFLICT DO NOTHING;
    NEW.thread_id := NEW.id;
    RETURN NEW;
END $$
"""
"""A run that comes without a thread, from a worker of the earlier version, gets one of its own id."""

RUN_COLUMNS: tuple[Callable[[], sa.Column[Any]], ...] = (
    lambda: sa.Column("queue", sa.Text(), server_default="default", nullable=False),
    lambda: sa.Column("multitask", sa.Text(), server_default="enqueue", nullable=False),
    lambda: sa.Column("metadata", JSON, server_default=sa.text("'{}'"), nullable=False),
    lambda: sa.Column("base_checkpoint", sa.Text(), nullable=True),
    lambda: sa.Column("crashes", sa.Integer(), server_default=ZERO, nullable=False),
    lambda: sa.Column("crash_mark", sa.Text(), nullable=True),
    lambda: sa.Column("admitted", sa.Boolean(), server_default=FALSE, nullable=False),
    lambda: sa.Column("tag", sa.Integer(), server_default=ZERO, nullable=False),
    lambda: sa.Column("paused", sa.Boolean(), server_default=FALSE, nullable=False),
    lambda: sa.Column("behind", sa.Boolean(), server_default=FALSE, nullable=False),
    lambda: sa.Column("queued_at", TIME, server_default=NOW, nullable=False),
    lambda: sa.Column("taken_at", TIME, nullable=True),
)
RUN_INDEXES = (
    "ix_runs_thread_id_ordinal",
    "uq_runs_thread_present",
    "ix_runs_root",
    "ix_runs_held",
    "ix_runs_admitted",
    "ix_runs_admitted_project",
    "ix_runs_worker",
)


def upgrade() -> None:
    """Add what is missing; today's runs get threads of their own ids and keep their jobs."""
    _organisations()
    _projects()
    _threads()
    _runs()
    _run_indexes()
    _workers()


def downgrade() -> None:
    """Take it away again; of a thread's runs only those remain that the earlier schema can hold."""
    op.drop_table("workers")
    op.execute("DROP TRIGGER phoenix_runs_thread ON runs")
    op.execute("DROP FUNCTION phoenix_run_has_thread")
    for name in RUN_INDEXES:
        op.drop_index(name, table_name="runs")
    op.execute("DELETE FROM runs WHERE thread_id <> id")
    op.drop_constraint(op.f("ck_runs_multitask"), "runs")
    for column in (*(make().name for make in RUN_COLUMNS), "thread_id", "organisation_id"):
        op.drop_column("runs", column)
    op.create_index(
        "uq_runs_root", "runs", ["project_id"], unique=True, postgresql_where=sa.text("parent_id IS NULL")
    )
    op.drop_table("threads")
    op.drop_constraint(op.f("ck_projects_max_runs"), "projects")
    for column in ("organisation_id", "priority", "max_runs", "paused_at", "pause_reason"):
        op.drop_column("projects", column)
    op.drop_table("organisations")


def _organisations() -> None:
    op.create_table(
        "organisations",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_runs", sa.Integer(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("max_runs > 0", name="ck_organisations_max_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_organisations"),
        sa.UniqueConstraint("name", name="uq_organisations_name"),
    )
    op.execute(f"INSERT INTO organisations (id, name) VALUES ('{DEFAULT_ORGANISATION}', 'default')")  # noqa: S608  # nosec B608


def _organisation_of(table: str) -> None:
    op.add_column(
        table,
        sa.Column(
            "organisation_id",
            sa.UUID(),
            sa.ForeignKey("organisations.id", name=f"fk_{table}_organisation_id_organisations"),
            server_default=sa.text(f"'{DEFAULT_ORGANISATION}'"),
            nullable=False,
        ),
    )


def _projects() -> None:
    _organisation_of("projects")
    op.add_column("projects", sa.Column("priority", sa.Integer(), server_default=ZERO, nullable=False))
    op.add_column("projects", sa.Column("max_runs", sa.Integer(), nullable=True))
    op.add_column("projects", sa.Column("paused_at", TIME, nullable=True))
    op.add_column("projects", sa.Column("pause_reason", sa.Text(), server_default="", nullable=False))
    op.create_check_constraint(op.f("ck_projects_max_runs"), "projects", "max_runs > 0")


def _threads() -> None:
    op.create_table(
        "threads",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("metadata", JSON, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_threads_project_id_projects", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_threads"),
    )
    op.create_index("ix_threads_project_id", "threads", ["project_id"], unique=False)


def _runs() -> None:
    _organisation_of("runs")
    op.add_column("runs", sa.Column("thread_id", sa.UUID(), nullable=True))
    for make in RUN_COLUMNS:
        op.add_column("runs", make())
    op.execute("INSERT INTO threads (id, project_id, created_at) SELECT id, project_id, created_at FROM runs")
    op.execute("UPDATE runs SET thread_id = id, queued_at = created_at")
    op.alter_column("runs", "thread_id", nullable=False)
    op.create_foreign_key(
        "fk_runs_thread_id_threads", "runs", "threads", ["thread_id"], ["id"], ondelete="CASCADE"
    )
    op.create_check_constraint(
        op.f("ck_runs_multitask"), "runs", "multitask IN ('reject', 'interrupt', 'rollback', 'enqueue')"
    )
    op.execute(OLD_WORKERS)
    op.execute(
        "CREATE TRIGGER phoenix_runs_thread BEFORE INSERT ON runs FOR EACH ROW"
        " WHEN (NEW.thread_id IS NULL) EXECUTE FUNCTION phoenix_run_has_thread()"
    )


def _run_indexes() -> None:
    where = sa.text
    op.drop_index("uq_runs_root", table_name="runs")
    op.create_index("ix_runs_thread_id_ordinal", "runs", ["thread_id", "ordinal"])
    op.create_index(
        "uq_runs_thread_present",
        "runs",
        ["thread_id"],
        unique=True,
        postgresql_where=where(f"{UNFINISHED} AND NOT behind"),
    )
    op.create_index(
        "ix_runs_root", "runs", ["project_id", "ordinal"], postgresql_where=where("parent_id IS NULL")
    )
    op.create_index(
        "ix_runs_held",
        "runs",
        ["organisation_id", "queue", sa.text("priority DESC"), "ordinal", "project_id"],
        postgresql_where=where(f"NOT admitted AND NOT paused AND NOT behind AND ({DUE})"),
    )
    admitted = where("admitted")
    op.create_index("ix_runs_admitted", "runs", ["organisation_id", "queue"], postgresql_where=admitted)
    op.create_index("ix_runs_admitted_project", "runs", ["project_id"], postgresql_where=admitted)
    op.create_index("ix_runs_worker", "runs", ["worker"], postgresql_where=where("worker IS NOT NULL"))


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("queues", JSON, nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), server_default=ZERO, nullable=False),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", TIME, server_default=NOW, nullable=False),
        sa.Column("heartbeat_at", TIME, server_default=NOW, nullable=False),
        sa.CheckConstraint("state IN ('active', 'draining', 'paused')", name="ck_workers_state"),
        sa.PrimaryKeyConstraint("key", name="pk_workers"),
    )
