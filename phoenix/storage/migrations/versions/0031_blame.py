"""Deaths of workers with the runs in hand, and which version last took a run; see docs/decisions/0041.

`phoenix_take_v2` is `phoenix_take_v1` (0024) with two rules more: it notes the version of the worker, and a
worker takes one suspect at a time. Workers of an older version go on with theirs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, UUID

revision = "0031"
down_revision = "0030"

TIME = sa.DateTime(timezone=True)

PROGRESS = """
CREATE OR REPLACE FUNCTION phoenix_progress_v1(mine runs) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT (SELECT coalesce(max(c.checkpoint_id), '') FROM checkpoints c
            WHERE c.thread_id = mine.thread_id::text)
        || '/' || (SELECT count(*) FROM model_journal j WHERE j.run_id = mine.id)
$$
"""
"""How far a run is: every checkpoint changes it, those of its agents too, and every answer of a model."""

TAKE = """
CREATE OR REPLACE FUNCTION phoenix_take_v2(given uuid, by_worker bigint)
RETURNS TABLE (taken runs, its projects, was text, organisation uuid, held boolean)
LANGUAGE plpgsql AS $$
DECLARE
    mine runs;
    is_known boolean := false;
BEGIN
    SELECT * INTO mine FROM runs r WHERE r.id = given FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    was := mine.status;
    organisation := mine.organisation_id;
    held := false;
    IF NOT mine.admitted OR mine.worker IS NOT NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    IF mine.paused OR (was = 'waiting' AND NOT mine.wake) THEN
        UPDATE runs r SET admitted = false WHERE r.id = given;
    ELSE
        IF mine.crashes > 0 THEN
            is_known := mine.crash_mark = phoenix_progress_v1(mine);
        END IF;
        IF is_known AND mine.crashes >= 2 THEN
            -- Two that are taken at once must see each other.
            PERFORM pg_advisory_xact_lock(1885892980, hashtext(by_worker::text));
            IF EXISTS (
                SELECT FROM runs r WHERE r.worker = by_worker AND r.status = 'running' AND r.crashes >= 2
                    AND r.taken_at > clock_timestamp() - interval '5 minutes'
            ) THEN
                RETURN NEXT;
                RETURN;
            END IF;
        END IF;
        UPDATE runs r SET
            status = 'running', attempt = r.attempt + 1, wake = r.wake AND r.status <> 'waiting',
            worker = by_worker, error = NULL, taken_at = clock_timestamp(),
            started_at = coalesce(r.started_at, clock_timestamp()),
            crashes = CASE WHEN is_known THEN r.crashes ELSE 0 END,
            version = (SELECT w.version FROM workers w WHERE w.key = by_worker)
            WHERE r.id = given RETURNING r.* INTO taken;
        its := phoenix_append_v1(
            taken.project_id, given,
            CASE WHEN mine.started_at IS NULL THEN 'run_started' ELSE 'run_resumed' END,
            jsonb_build_object('key', taken.key, 'flow', taken.flow, 'attempt', taken.attempt, 'was', was)
        );
    END IF;
    held := phoenix_holds_v1(mine.organisation_id);
    RETURN NEXT;
END $$
"""
"""Takes a run for a worker. No row: there is no such run; a row without `taken`: nothing to do on it now.

A run that was in hand at two deaths of a worker in a row, at the same place, is a suspect. A second one is
not taken by the same worker before the first got on, or lived for five minutes: it keeps its place, and the
next sweep offers it again.
"""

NAMES = ("phoenix_take_v2(uuid, bigint)", "phoenix_progress_v1(runs)")
COLUMNS = (
    lambda: sa.Column("version", sa.Text(), nullable=True),
    lambda: sa.Column("forgiven_at", TIME, nullable=True),
)


def upgrade() -> None:
    """Add the columns, the table and the functions."""
    for column in COLUMNS:
        op.add_column("runs", column())
    op.create_index(
        "ix_runs_outcome",
        "runs",
        ["finished_at"],
        postgresql_where=sa.text("version IS NOT NULL AND finished_at IS NOT NULL"),
    )
    op.create_table(
        "worker_deaths",
        sa.Column("worker", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("host", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Text(), server_default="", nullable=False),
        sa.Column("runs", ARRAY(UUID()), nullable=False),
        sa.Column("at", TIME, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_worker_deaths")),
    )
    op.create_index(op.f("ix_worker_deaths_at"), "worker_deaths", ["at"])
    # The checkpoints' tables are made by their library, maybe after this: the body is looked at when it runs.
    op.execute("SET LOCAL check_function_bodies = off")
    op.execute(PROGRESS)
    op.execute("SET LOCAL check_function_bodies = on")
    op.execute(TAKE)


def downgrade() -> None:
    """Drop them."""
    for name in NAMES:
        op.execute(f"DROP FUNCTION IF EXISTS {name}")
    op.drop_table("worker_deaths")
    op.drop_index("ix_runs_outcome", table_name="runs")
    for column in COLUMNS:
        op.drop_column("runs", column().name)
