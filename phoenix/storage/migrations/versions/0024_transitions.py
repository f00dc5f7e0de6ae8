"""Functions that take and end a run in one call each; see docs/decisions/0021.

They are named by version: a later form gets a new name, and workers of this version go on with theirs.
Each statement in them sees what was committed before it began, as statements of a transaction do; one
statement for all would miss what came while it waited for a lock.
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0011"

DUE = "status = 'pending' OR (status = 'waiting' AND wake)"
HELD = f"NOT r.admitted AND NOT r.paused AND NOT r.behind AND ({DUE})"

ENTER = f"""
CREATE OR REPLACE FUNCTION phoenix_enter_v1(given uuid, places integer) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    entered record;
BEGIN
    WITH waiting AS (
        SELECT count(*) AS jobs, max(w.tag) AS last FROM runs w, runs mine
        WHERE mine.id = given AND w.admitted AND w.status <> 'running'
            AND w.organisation_id = mine.organisation_id AND w.queue = mine.queue
    )
    UPDATE runs m SET admitted = true, tag = greatest(
        coalesce((
            SELECT -j.priority FROM procrastinate_jobs j WHERE j.status = 'todo' AND j.queue_name = m.queue
                AND NOT EXISTS (
                    SELECT FROM procrastinate_jobs d WHERE d.lock = j.lock AND d.status = 'doing'
                )
            ORDER BY j.priority DESC, j.id LIMIT 1
        ), 0),
        coalesce(waiting.last, -1) + 1
    )
    FROM waiting, organisations o, projects p
    WHERE m.id = given AND NOT m.admitted AND NOT m.paused AND NOT m.behind
        AND o.id = m.organisation_id AND o.max_runs IS NULL AND p.id = m.project_id AND p.max_runs IS NULL
        AND waiting.jobs < places
        AND NOT EXISTS (
            SELECT FROM runs r WHERE {HELD} AND r.id <> m.id
                AND r.organisation_id = m.organisation_id AND r.queue = m.queue
        )
    RETURNING m.id, m.thread_id, m.queue, m.tag INTO entered;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM procrastinate_defer_jobs_v1(ARRAY[ROW(
        entered.queue, 'advance', -entered.tag, entered.thread_id::text, NULL,
        jsonb_build_object('run_id', entered.id), NULL
    )::procrastinate_job_to_defer_v1]);
    RETURN true;
END $$
"""  # noqa: S608 no value is put in  # nosec B608
"""Gives a run that has become due, whose row is held, a place and a job at once; false where it must wait."""

APPEND = """
CREATE OR REPLACE FUNCTION phoenix_append_v1(given uuid, run uuid, kind text, data jsonb) RETURNS projects
LANGUAGE plpgsql AS $$
DECLARE
    raised projects;
BEGIN
    UPDATE projects p SET last_event = p.last_event + 1 WHERE p.id = given RETURNING p.* INTO raised;
    INSERT INTO events (project_id, seq, run_id, kind, data)
        VALUES (given, raised.last_event, run, phoenix_append_v1.kind, phoenix_append_v1.data);
    PERFORM pg_notify('phoenix_events', given || ' ' || kind);
    RETURN raised;
END $$
"""
"""Appends an event; the project's row is held until the commit, so it comes after all locks of runs."""

HOLDS = f"""
CREATE OR REPLACE FUNCTION phoenix_holds_v1(given uuid) RETURNS boolean
LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM runs r WHERE {HELD} AND r.organisation_id = given)
$$
"""  # noqa: S608 no value is put in  # nosec B608
"""Whether runs of an organisation are held."""

TAKE = """
CREATE OR REPLACE FUNCTION phoenix_take_v1(given uuid, by_worker bigint)
RETURNS TABLE (taken runs, its projects, was text, organisation uuid, held boolean)
LANGUAGE plpgsql AS $$
DECLARE
    mine runs;
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
        UPDATE runs r SET
            status = 'running', attempt = r.attempt + 1, wake = r.wake AND r.status <> 'waiting',
            worker = by_worker, error = NULL, taken_at = clock_timestamp(),
            started_at = coalesce(r.started_at, clock_timestamp())
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
"""Takes a run for a worker. No row: there is no such run; a row without `taken`: nothing to do on it.

Whoever takes a waiting run looks at what woke it, so its flag goes; the flag of a run that was interrupted
stays, for it may have been woken before it came to where it waits. `held`: others of its organisation may
come now, for its job has left the queue, or it gave up its place.
"""

WAKE = """
CREATE OR REPLACE FUNCTION phoenix_wake_v1(given uuid, places integer) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    above runs;
BEGIN
    SELECT * INTO above FROM runs r WHERE r.id = given FOR UPDATE;
    IF above.status IN ('success', 'failed', 'cancelled') OR above.wake THEN
        RETURN true;
    END IF;
    UPDATE runs r SET wake = true, queued_at = clock_timestamp() WHERE r.id = given;
    RETURN NOT (above.status = 'waiting' AND above.interrupts @> '[{"request": {"kind": "wait"}}]')
        OR phoenix_enter_v1(given, places);
END $$
"""
"""Tells a parent that a child ended: it is enqueued once, or sees the flag where it stops. False: held."""

END = """
CREATE OR REPLACE FUNCTION phoenix_end_v1(
    given uuid, expected integer, job bigint, outcome text, result jsonb, failure jsonb, places integer
) RETURNS TABLE (run uuid, attempt integer, status text, ended boolean, held uuid[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    mine runs;
    following runs;
    left_by uuid[];
BEGIN
    SELECT * INTO mine FROM runs r WHERE r.id = given FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF mine.attempt <> expected OR (expected IS NOT NULL AND mine.status <> 'running') THEN
        RETURN QUERY SELECT given, mine.attempt, mine.status, false, NULL::uuid[];
        RETURN;
    END IF;
    IF outcome <> 'failed' THEN
        DELETE FROM model_journal j WHERE j.run_id = given;
    END IF;
    UPDATE runs r SET
        status = outcome, output = result, error = failure, interrupts = '[]', wake = false, worker = NULL,
        admitted = false, behind = false, finished_at = clock_timestamp()
        WHERE r.id = given;
    IF job IS NOT NULL THEN
        DELETE FROM procrastinate_jobs j
            WHERE j.id = job AND j.status = 'doing' AND j.lock = mine.thread_id::text;
    END IF;
    left_by := ARRAY[mine.organisation_id];
    IF mine.parent_id IS NOT NULL THEN
        IF NOT phoenix_wake_v1(mine.parent_id, places) THEN
            left_by := left_by || ARRAY(SELECT r.organisation_id FROM runs r WHERE r.id = mine.parent_id);
        END IF;
    END IF;
    IF NOT mine.behind THEN
        SELECT * INTO following FROM runs r
            WHERE r.thread_id = mine.thread_id AND r.behind AND r.status = 'pending'
            ORDER BY r.ordinal LIMIT 1 FOR UPDATE;
        IF FOUND THEN
            UPDATE runs r SET behind = false, queued_at = clock_timestamp() WHERE r.id = following.id;
            IF NOT phoenix_enter_v1(following.id, places) THEN
                left_by := left_by || following.organisation_id;
            END IF;
        END IF;
    END IF;
    PERFORM phoenix_append_v1(
        mine.project_id, given, 'run_finished',
        jsonb_build_object('key', mine.key, 'flow', mine.flow, 'status', outcome)
            || CASE WHEN failure IS NULL THEN '{}' ELSE jsonb_build_object('error', failure) END
    );
    RETURN QUERY SELECT given, mine.attempt, outcome, true, ARRAY(
        SELECT DISTINCT o FROM unnest(left_by) AS o WHERE phoenix_holds_v1(o)
    );
END $$
"""
"""Ends a run, wakes its parent, and lets the next run of its thread come.

With an expected attempt only that attempt ends it, and only while it runs: else `ended` is false and the
row says how the run stands. The job that advances the run goes with it. Locks are taken as everywhere:
children before parents, runs before the project's event counter.
"""

FUNCTIONS = (ENTER, APPEND, HOLDS, TAKE, WAKE, END)
NAMES = (
    "phoenix_end_v1(uuid, integer, bigint, text, jsonb, jsonb, integer)",
    "phoenix_wake_v1(uuid, integer)",
    "phoenix_take_v1(uuid, bigint)",
    "phoenix_holds_v1(uuid)",
    "phoenix_append_v1(uuid, uuid, text, jsonb)",
    "phoenix_enter_v1(uuid, integer)",
)


def upgrade() -> None:
    """Make the functions."""
    for function in FUNCTIONS:
        op.execute(function)


def downgrade() -> None:
    """Drop them."""
    for name in NAMES:
        op.execute(f"DROP FUNCTION IF EXISTS {name}")
