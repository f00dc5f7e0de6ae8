"""Limits, what was used of them, and what is held for calls that are being made; see docs/decisions/0029."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0023"

JSON = postgresql.JSONB(none_as_null=True)
TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
ZERO = sa.text("0")
EMPTY = sa.text("'{}'")

LIMITS = """
CREATE OR REPLACE FUNCTION phoenix_limits_v1(organisation uuid, project uuid, task text, at timestamptz)
RETURNS TABLE (
    rank integer, scope text, key text, usd numeric, tokens numeric, calls numeric, wall_seconds numeric
) LANGUAGE sql STABLE AS $$
    SELECT * FROM (
        SELECT 1 AS rank, 'organisation' AS scope, '' AS key, (o.limits ->> 'usd')::numeric AS usd,
            (o.limits ->> 'tokens')::numeric AS tokens, (o.limits ->> 'calls')::numeric AS calls,
            NULL::numeric AS wall_seconds
        FROM organisations o WHERE o.id = organisation
        UNION ALL SELECT 2, 'day', to_char(timezone('UTC', at), 'YYYY-MM-DD'), o.max_usd_day,
            (o.limits -> 'day' ->> 'tokens')::numeric, (o.limits -> 'day' ->> 'calls')::numeric, NULL
        FROM organisations o WHERE o.id = organisation
        UNION ALL SELECT 3, 'project', p.id::text, p.budget_usd, (p.limits ->> 'tokens')::numeric,
            (p.limits ->> 'calls')::numeric, (p.limits ->> 'wall_seconds')::numeric
        FROM projects p WHERE p.id = project
        UNION ALL SELECT 4, 'task', p.id || ':' || task, (p.limits -> 'task' ->> 'usd')::numeric,
            (p.limits -> 'task' ->> 'tokens')::numeric, (p.limits -> 'task' ->> 'calls')::numeric,
            (p.limits -> 'task' ->> 'wall_seconds')::numeric
        FROM projects p WHERE p.id = project AND task <> ''
    ) AS l WHERE num_nonnulls(l.usd, l.tokens, l.calls, l.wall_seconds) > 0
$$
"""
"""The limits that a call is under. Rank is the order in which accounts are locked, everywhere."""

OPEN = """
CREATE OR REPLACE FUNCTION phoenix_open_accounts_v1(
    organisation uuid, project uuid, task text, limits jsonb
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    missing record;
BEGIN
    FOR missing IN
        SELECT l.* FROM jsonb_to_recordset(limits) AS l (rank integer, scope text, key text)
        WHERE NOT EXISTS (
            SELECT FROM budget_accounts a
            WHERE a.organisation_id = organisation AND a.scope = l.scope AND a.key = l.key
        ) ORDER BY l.rank
    LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended('phoenix budgets ' || organisation, 0));
        INSERT INTO budget_accounts (organisation_id, rank, scope, key, project_id, usd, tokens, calls)
        SELECT organisation, missing.rank, missing.scope, missing.key,
            CASE WHEN missing.rank > 2 THEN project END,
            coalesce(sum(c.cost_usd), 0), coalesce(sum(c.input_tokens + c.output_tokens), 0), count(c.id)
        FROM model_calls c JOIN projects p ON p.id = c.project_id
        WHERE NOT c.recorded AND p.organisation_id = organisation
            AND (missing.rank <> 2 OR c.at >= missing.key::timestamp AT TIME ZONE 'UTC')
            AND (missing.rank < 3 OR c.project_id = project)
            AND (missing.rank < 4
                OR split_part(c.task, '/', 1) = phoenix_open_accounts_v1.task)
        ON CONFLICT DO NOTHING;
    END LOOP;
END $$
"""
"""Opens accounts that are missing with what was used before. Whoever counts a call holds the lock shared:
so each call is either in the sum or added after it."""

WALL = """
CREATE OR REPLACE FUNCTION phoenix_wall_seconds_v1(project uuid, task text) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
DECLARE
    began timestamptz;
BEGIN
    SELECT min(r.started_at) INTO began FROM runs r
        WHERE r.project_id = project AND (task = '' OR split_part(r.key, '/', 3) = task);
    RETURN coalesce(extract(epoch FROM clock_timestamp() - began) - coalesce((
        SELECT sum(extract(epoch FROM upper(w) - lower(w))) FROM unnest((
            SELECT range_agg(tstzrange(
                greatest(a.created_at, began),
                greatest(coalesce(a.decided_at, clock_timestamp()), a.created_at, began)
            )) FROM approvals a WHERE a.project_id = project
        )) AS w
    ), 0), 0);
END $$
"""
"""For how long a project, or a task of it, has been worked on, without the time for which
people were asked."""

FIT = """
CREATE OR REPLACE FUNCTION phoenix_fit_v1(
    organisation uuid, project uuid, task text, limits jsonb, choices jsonb,
    OUT now_fits integer, OUT would_fit integer, OUT scope text, OUT measure text, OUT most numeric,
    OUT used numeric
) LANGUAGE sql AS $$
    WITH l AS (
        SELECT * FROM jsonb_to_recordset(limits) AS l (
            rank integer, scope text, key text, usd numeric, tokens numeric, calls numeric,
            wall_seconds numeric
        )
    ), m AS MATERIALIZED (
        SELECT l.rank, l.scope, v.* FROM l
        JOIN budget_accounts a
            ON a.organisation_id = organisation AND a.scope = l.scope AND a.key = l.key,
        LATERAL (
            SELECT coalesce(sum(h.usd), 0) AS usd, coalesce(sum(h.tokens), 0) AS tokens, count(*) AS calls
            FROM budget_holds h
            WHERE h.organisation_id = organisation AND h.until > clock_timestamp()
                AND (l.rank < 3 OR h.project_id = project) AND (l.rank < 4 OR h.task = phoenix_fit_v1.task)
        ) AS held,
        LATERAL (VALUES
            (1, 'usd', l.usd, a.usd, held.usd), (2, 'tokens', l.tokens, a.tokens, held.tokens),
            (3, 'calls', l.calls, a.calls, held.calls),
            (4, 'wall_seconds', l.wall_seconds, CASE WHEN l.wall_seconds IS NOT NULL THEN
                phoenix_wall_seconds_v1(project, CASE l.rank WHEN 4 THEN phoenix_fit_v1.task ELSE '' END)
            END, 0)
        ) AS v (place, measure, most, used, held)
        WHERE v.most IS NOT NULL
    ), f AS (
        SELECT c.n, m.*, m.used + n.need <= m.most AND (n.known OR m.used < m.most) AS would,
            m.used + m.held + n.need <= m.most AND (n.known OR m.used < m.most) AS now
        FROM jsonb_to_recordset(choices) AS c (n integer, usd numeric, tokens numeric), m,
        LATERAL (SELECT
            CASE m.measure WHEN 'usd' THEN coalesce(c.usd, 0) WHEN 'tokens' THEN c.tokens
                WHEN 'calls' THEN 1 ELSE 0 END AS need,
            m.measure IN ('tokens', 'calls') OR (m.measure = 'usd' AND c.usd IS NOT NULL) AS known
        ) AS n
    ), g AS (SELECT n, bool_and(would) AS would, bool_and(now) AS now FROM f GROUP BY n),
    over AS (SELECT f.* FROM f WHERE NOT would ORDER BY n DESC, rank, place LIMIT 1)
    SELECT (SELECT min(n) FROM g WHERE now), (SELECT min(n) FROM g WHERE would),
        over.scope, over.measure, over.most, over.used
    FROM (SELECT) AS one LEFT JOIN over ON true
$$
"""
"""Which of the choices fits what is left now, and which would if nothing were held; the first counts. Where
none would: the limit that the last, which is the smallest, passes."""

HOLD = """
CREATE OR REPLACE FUNCTION phoenix_hold_v1(items jsonb) RETURNS TABLE (
    n integer, outcome text, choice integer, scope text, measure text, most numeric, used numeric
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    item record;
    found record;
    limits jsonb[];
BEGIN
    FOR item IN SELECT * FROM jsonb_to_recordset(items) AS i (
        n integer, organisation uuid, project uuid, task text
    ) ORDER BY i.n LOOP
        limits[item.n] := (
            SELECT jsonb_agg(to_jsonb(l) ORDER BY l.rank)
            FROM phoenix_limits_v1(item.organisation, item.project, item.task, clock_timestamp()) AS l
        );
        PERFORM phoenix_open_accounts_v1(item.organisation, item.project, item.task, limits[item.n]);
    END LOOP;
    FOR item IN SELECT * FROM jsonb_to_recordset(items) AS i (
        n integer, id uuid, run uuid, organisation uuid, project uuid, task text, choices jsonb,
        seconds double precision
    ) ORDER BY i.n LOOP
        n := item.n;
        IF limits[item.n] IS NULL THEN
            outcome := 'unlimited';
            RETURN NEXT;
            CONTINUE;
        END IF;
        PERFORM FROM budget_accounts a JOIN jsonb_to_recordset(limits[item.n]) AS l (scope text, key text)
            ON l.scope = a.scope AND l.key = a.key
            WHERE a.organisation_id = item.organisation ORDER BY a.rank FOR UPDATE OF a;
        found := phoenix_fit_v1(item.organisation, item.project, item.task, limits[item.n], item.choices);
        IF found.now_fits IS DISTINCT FROM found.would_fit THEN
            PERFORM phoenix_drop_holds_v1(item.organisation);
            found := phoenix_fit_v1(
                item.organisation, item.project, item.task, limits[item.n], item.choices
            );
        END IF;
        choice := found.would_fit;
        scope := found.scope;
        measure := found.measure;
        most := found.most;
        used := found.used;
        IF choice IS NULL THEN
            outcome := 'spent';
        ELSIF choice IS DISTINCT FROM found.now_fits THEN
            outcome := 'wait';
        ELSE
            outcome := 'held';
            INSERT INTO budget_holds (id, organisation_id, project_id, task, worker, usd, tokens, until)
            SELECT item.id, item.organisation, item.project, item.task,
                (SELECT r.worker FROM runs r WHERE r.id = item.run), coalesce(c.usd, 0), c.tokens,
                clock_timestamp() + make_interval(secs => item.seconds)
            FROM jsonb_to_recordset(item.choices) AS c (n integer, usd numeric, tokens bigint)
            WHERE c.n = choice;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$
"""
"""Holds for each item the first of its choices that the budgets left afford, most first.

`held`: it may be made; `wait`: it would fit once calls that are being made are over; `spent`: it would pass
a limit; `unlimited`: there is none. Items come sorted, so that all who hold lock accounts in one order.
"""

DROP_HOLDS = """
CREATE OR REPLACE FUNCTION phoenix_drop_holds_v1(organisation uuid) RETURNS void LANGUAGE sql AS $$
    DELETE FROM budget_holds h WHERE h.organisation_id = organisation AND (
        h.until <= clock_timestamp() OR (
            h.worker IS NOT NULL AND h.held_at < clock_timestamp() - interval '5 seconds'
            AND NOT EXISTS (
                SELECT FROM workers w
                WHERE w.key = h.worker AND w.heartbeat_at > clock_timestamp() - interval '5 seconds'
            ) AND NOT EXISTS (
                SELECT FROM pg_locks k WHERE k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted
                    AND (k.classid::bigint << 32) | k.objid::bigint = h.worker
            )
        )
    )
$$
"""
"""Drops what is held for calls that nobody makes any more: their time is up, or their worker is dead. A
worker that is only frozen has its session, and may still be answered: its calls stay held to their end."""

ACCOUNT = """
CREATE OR REPLACE FUNCTION phoenix_account_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    organisation uuid;
    account budget_accounts;
    reached record;
    of_task text := split_part(NEW.task, '/', 1);
BEGIN
    IF NEW.recorded THEN
        RETURN NULL;
    END IF;
    SELECT p.organisation_id INTO organisation FROM projects p WHERE p.id = NEW.project_id;
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('phoenix budgets ' || organisation, 0));
    FOR account IN
        SELECT a.* FROM budget_accounts a WHERE a.organisation_id = organisation AND (a.scope, a.key) IN (
            ('organisation', ''), ('day', to_char(timezone('UTC', NEW.at), 'YYYY-MM-DD')),
            ('project', NEW.project_id::text), ('task', NEW.project_id || ':' || of_task)
        ) ORDER BY a.rank
    LOOP
        UPDATE budget_accounts a SET usd = a.usd + coalesce(NEW.cost_usd, 0),
            tokens = a.tokens + NEW.input_tokens + NEW.output_tokens, calls = a.calls + 1
            WHERE a.organisation_id = organisation AND a.scope = account.scope AND a.key = account.key
            RETURNING a.* INTO account;
        FOR reached IN
            SELECT m.* FROM phoenix_limits_v1(organisation, NEW.project_id, of_task, NEW.at) AS l,
                LATERAL (VALUES ('usd', l.usd, account.usd), ('tokens', l.tokens, account.tokens),
                    ('calls', l.calls, account.calls)) AS m (measure, most, used)
            WHERE l.scope = account.scope AND m.most > 0 AND m.used >= 0.8 * m.most
                AND (account.warned ->> m.measure) IS DISTINCT FROM m.most::text
        LOOP
            UPDATE budget_accounts a
                SET warned = a.warned || jsonb_build_object(reached.measure, reached.most::text)
                WHERE a.organisation_id = organisation AND a.scope = account.scope AND a.key = account.key;
            PERFORM phoenix_append_v1(
                NEW.project_id, NEW.run_id, 'budget_warned', jsonb_build_object(
                    'scope', account.scope, 'task', CASE account.scope WHEN 'task' THEN of_task ELSE '' END,
                    'measure', reached.measure, 'limit', reached.most::text, 'used', reached.used::text
                )
            );
        END LOOP;
    END LOOP;
    RETURN NULL;
END $$
"""
"""Adds a call to the accounts that are open, and tells once for each limit that four fifths are used."""

ACCOUNTS = """
CREATE TRIGGER phoenix_account AFTER INSERT ON model_calls
    FOR EACH ROW EXECUTE FUNCTION phoenix_account_v1()
"""

FUNCTIONS = (LIMITS, OPEN, WALL, FIT, DROP_HOLDS, HOLD, ACCOUNT)
NAMES = (
    "phoenix_account_v1()",
    "phoenix_hold_v1(jsonb)",
    "phoenix_drop_holds_v1(uuid)",
    "phoenix_fit_v1(uuid, uuid, text, jsonb, jsonb)",
    "phoenix_wall_seconds_v1(uuid, text)",
    "phoenix_open_accounts_v1(uuid, uuid, text, jsonb)",
    "phoenix_limits_v1(uuid, uuid, text, timestamptz)",
)


def upgrade() -> None:
    """Add columns, tables and functions."""
    for table in ("organisations", "projects"):
        op.add_column(table, sa.Column("limits", JSON, server_default=EMPTY, nullable=False))
    op.add_column("runs", sa.Column("resume_at", TIME, nullable=True))
    op.create_index(
        "ix_runs_resume",
        "runs",
        ["resume_at"],
        unique=False,
        postgresql_where=sa.text("status = 'waiting' AND resume_at IS NOT NULL"),
    )
    _accounts()
    _holds()
    for function in FUNCTIONS:
        op.execute(function)
    op.execute(ACCOUNTS)


def downgrade() -> None:
    """Take them away."""
    op.execute("DROP TRIGGER IF EXISTS phoenix_account ON model_calls")
    for name in NAMES:
        op.execute(f"DROP FUNCTION IF EXISTS {name}")
    op.drop_table("budget_holds")
    op.drop_table("budget_accounts")
    op.drop_index("ix_runs_resume", table_name="runs")
    op.drop_column("runs", "resume_at")
    for table in ("projects", "organisations"):
        op.drop_column(table, "limits")


def _organisation(table: str) -> list[Any]:
    name = op.f(f"fk_{table}_organisation_id_organisations")
    column: sa.Column[Any] = sa.Column("organisation_id", sa.UUID(), nullable=False)
    return [
        column,
        sa.ForeignKeyConstraint(["organisation_id"], ["organisations.id"], name=name, ondelete="CASCADE"),
    ]


def _project(table: str) -> Any:
    name = op.f(f"fk_{table}_project_id_projects")
    return sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=name, ondelete="CASCADE")


def _accounts() -> None:
    op.create_table(
        "budget_accounts",
        *_organisation("budget_accounts"),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("project_id", sa.UUID(), nullable=True),
        sa.Column("usd", sa.Numeric(), server_default=ZERO, nullable=False),
        sa.Column("tokens", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("calls", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("warned", JSON, server_default=EMPTY, nullable=False),
        sa.CheckConstraint(
            "scope IN ('task', 'project', 'organisation', 'day')", name=op.f("ck_budget_accounts_scope")
        ),
        _project("budget_accounts"),
        sa.PrimaryKeyConstraint("organisation_id", "scope", "key", name=op.f("pk_budget_accounts")),
    )
    op.create_index(op.f("ix_budget_accounts_project_id"), "budget_accounts", ["project_id"], unique=False)


def _holds() -> None:
    op.create_table(
        "budget_holds",
        sa.Column("id", sa.UUID(), nullable=False),
        *_organisation("budget_holds"),
        sa.Column("project_id", sa.UUID(), nullable=False),
        sa.Column("task", sa.Text(), server_default="", nullable=False),
        sa.Column("worker", sa.BigInteger(), nullable=True),
        sa.Column("usd", sa.Numeric(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("held_at", TIME, server_default=NOW, nullable=False),
        sa.Column("until", TIME, nullable=False),
        _project("budget_holds"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budget_holds")),
    )
    op.create_index(
        op.f("ix_budget_holds_organisation_id"), "budget_holds", ["organisation_id"], unique=False
    )
    op.create_index(op.f("ix_budget_holds_project_id"), "budget_holds", ["project_id"], unique=False)
