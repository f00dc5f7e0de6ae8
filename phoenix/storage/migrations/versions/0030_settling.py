"""Calls that are counted many at a time, holds that add up once for each batch, and calls that broke off.

The rules are those of 0025; see docs/decisions/0042. Workers of an older version go on with its functions.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"

SETTLE = """
CREATE OR REPLACE FUNCTION phoenix_settle_v1(items jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH given AS MATERIALIZED (
        SELECT i.* FROM jsonb_to_recordset(items) AS i (
            n integer, run uuid, attempt integer, request text, ordinal integer, step text, accepted boolean,
            answer jsonb
        ) WHERE i.request IS NOT NULL
    ), ours AS MATERIALIZED (
        SELECT r.id, r.attempt FROM runs r WHERE r.id IN (SELECT run FROM given) ORDER BY r.id FOR SHARE
    )
    INSERT INTO model_journal (run_id, request, ordinal, step, accepted, answer)
    SELECT DISTINCT ON (g.run, g.request, g.ordinal) g.run, g.request, g.ordinal, g.step, g.accepted, g.answer
    FROM given g JOIN ours o ON o.id = g.run AND o.attempt = g.attempt
    ORDER BY g.run, g.request, g.ordinal, g.n DESC
    ON CONFLICT (run_id, request, ordinal) DO UPDATE
        SET step = excluded.step, accepted = excluded.accepted, answer = excluded.answer;
    DELETE FROM budget_holds h
        USING jsonb_to_recordset(items) AS i (hold uuid) WHERE h.id = i.hold;
    INSERT INTO model_calls (
        project_id, run_id, agent, task, model, input_tokens, output_tokens, cost_usd, recorded,
        cached_tokens, cached, broken, seconds
    )
    SELECT i.project, i.run, i.agent, i.task, i.model, i.input_tokens, i.output_tokens, i.cost_usd,
        i.recorded, i.cached_tokens, i.cached, i.broken, i.seconds
    FROM jsonb_to_recordset(items) AS i (
        n integer, project uuid, run uuid, agent text, task text, model text, input_tokens bigint,
        output_tokens bigint, cost_usd numeric, recorded boolean, cached_tokens bigint, cached boolean,
        broken boolean, seconds numeric
    ) ORDER BY i.n;
END $$
"""
"""Keeps answers, releases what was held for them and counts their calls, of as many runs as there are.

A run's row is shared until the commit: a retry, which raises the attempt and forgets, waits for this or
comes first. The calls come last: from there on the accounts of budgets are held.
"""

ACCOUNT = """
CREATE OR REPLACE FUNCTION phoenix_account_v2() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched record;
    account budget_accounts;
    reached record;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('phoenix budgets ' || o.id, 0)) FROM (
        SELECT DISTINCT p.organisation_id AS id FROM made m JOIN projects p ON p.id = m.project_id
        WHERE NOT m.recorded ORDER BY 1
    ) AS o;
    FOR touched IN
        WITH used AS (
            SELECT p.organisation_id, v.scope, v.key, sum(coalesce(m.cost_usd, 0)) AS usd,
                sum(m.input_tokens + m.output_tokens) AS tokens, count(*) AS calls, max(m.id) AS last
            FROM made m JOIN projects p ON p.id = m.project_id, LATERAL (VALUES
                ('organisation', ''), ('day', to_char(timezone('UTC', m.at), 'YYYY-MM-DD')),
                ('project', m.project_id::text),
                ('task', m.project_id || ':' || split_part(m.task, '/', 1))
            ) AS v (scope, key)
            WHERE NOT m.recorded GROUP BY 1, 2, 3
        )
        SELECT u.*, m.project_id, m.run_id, split_part(m.task, '/', 1) AS task, m.at
        FROM used u JOIN made m ON m.id = u.last JOIN budget_accounts a
            ON a.organisation_id = u.organisation_id AND a.scope = u.scope AND a.key = u.key
        ORDER BY a.organisation_id, a.rank > 2, a.project_id, a.rank, a.key COLLATE "C"
    LOOP
        UPDATE budget_accounts a SET usd = a.usd + touched.usd, tokens = a.tokens + touched.tokens,
            calls = a.calls + touched.calls
            WHERE a.organisation_id = touched.organisation_id AND a.scope = touched.scope
                AND a.key = touched.key
            RETURNING a.* INTO account;
        FOR reached IN
            SELECT m.* FROM phoenix_limits_v1(
                touched.organisation_id, touched.project_id, touched.task, touched.at
            ) AS l, LATERAL (VALUES ('usd', l.usd, account.usd), ('tokens', l.tokens, account.tokens),
                ('calls', l.calls, account.calls)) AS m (measure, most, used)
            WHERE l.scope = account.scope AND m.most > 0 AND m.used >= 0.8 * m.most
                AND (account.warned ->> m.measure) IS DISTINCT FROM m.most::text
        LOOP
            UPDATE budget_accounts a
                SET warned = a.warned || jsonb_build_object(reached.measure, reached.most::text)
                WHERE a.organisation_id = touched.organisation_id AND a.scope = touched.scope
                    AND a.key = touched.key;
            PERFORM phoenix_append_v1(
                touched.project_id, touched.run_id, 'budget_warned', jsonb_build_object(
                    'scope', account.scope,
                    'task', CASE account.scope WHEN 'task' THEN touched.task ELSE '' END,
                    'measure', reached.measure, 'limit', reached.most::text, 'used', reached.used::text
                )
            );
        END LOOP;
    END LOOP;
    RETURN NULL;
END $$
"""
"""Adds the calls of a statement to the accounts that are open, each account once, in the order in which holds
lock them; tells once for each limit that four fifths are used."""

HOLD = """
CREATE OR REPLACE FUNCTION phoenix_hold_v2(items jsonb) RETURNS TABLE (
    n integer, outcome text, choice integer, scope text, measure text, most numeric, used numeric
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    item record;
    asked record;
    limits jsonb[];
    project_limits jsonb;
    of_organisation uuid;
    of_project uuid;
    of_task text;
    shared jsonb;
    loaded jsonb;
    dropped uuid;
    scopes text[];
    measures text[];
    mosts numeric[];
    useds numeric[];
    helds numeric[];
    need numeric;
    is_known boolean;
    would boolean;
    now boolean;
    now_fits integer;
    over integer;
    took_usd numeric;
    took_tokens bigint;
    is_again boolean;
BEGIN
    FOR item IN SELECT * FROM jsonb_to_recordset(items) AS i (
        n integer, organisation uuid, project uuid, task text
    ) ORDER BY i.n LOOP
        IF (item.organisation, item.project) IS DISTINCT FROM (of_organisation, of_project) THEN
            of_organisation := item.organisation;
            of_project := item.project;
            -- With a task of any name: its limits are the same for each task of a project.
            project_limits := (
                SELECT jsonb_agg(to_jsonb(l) ORDER BY l.rank)
                FROM phoenix_limits_v1(item.organisation, item.project, '*', clock_timestamp()) AS l
            );
            of_task := NULL;
        END IF;
        IF of_task IS NULL OR (item.task <> of_task AND project_limits @> '[{"scope": "task"}]') THEN
            of_task := item.task;
            shared := (
                SELECT jsonb_agg(CASE l ->> 'scope' WHEN 'task'
                    THEN l || jsonb_build_object('key', item.project || ':' || item.task) ELSE l END)
                FROM jsonb_array_elements(project_limits) AS l
                WHERE l ->> 'scope' <> 'task' OR item.task <> ''
            ) || jsonb_build_object('of', item.organisation);
        END IF;
        limits[item.n] := shared;
        -- Before any account is locked: who counts takes the lock of the organisation first, too.
        IF limits[item.n] IS DISTINCT FROM loaded THEN
            PERFORM phoenix_open_accounts_v1(
                item.organisation, item.project, item.task, limits[item.n] - -1
            );
            loaded := limits[item.n];
        END IF;
    END LOOP;
    loaded := NULL;
    FOR item IN SELECT * FROM jsonb_to_recordset(items) AS i (
        n integer, id uuid, run uuid, organisation uuid, project uuid, task text, choices jsonb,
        seconds double precision
    ) ORDER BY i.n LOOP
        n := item.n;
        choice := NULL;
        scope := NULL;
        measure := NULL;
        most := NULL;
        used := NULL;
        IF limits[item.n] IS NULL THEN
            outcome := 'unlimited';
            RETURN NEXT;
            CONTINUE;
        END IF;
        is_again := false;
        LOOP
            IF loaded IS DISTINCT FROM limits[item.n] THEN
                PERFORM FROM budget_accounts a JOIN jsonb_to_recordset(limits[item.n] - -1)
                    AS l (scope text, key text) ON l.scope = a.scope AND l.key = a.key
                    WHERE a.organisation_id = item.organisation ORDER BY a.rank FOR UPDATE OF a;
                SELECT array_agg(m.scope), array_agg(m.measure), array_agg(m.most), array_agg(m.used),
                    array_agg(m.held)
                INTO scopes, measures, mosts, useds, helds
                FROM phoenix_measures_v1(
                    item.organisation, item.project, item.task, limits[item.n] - -1
                ) AS m;
                loaded := limits[item.n];
            END IF;
            choice := NULL;
            now_fits := NULL;
            over := NULL;
            FOR asked IN SELECT * FROM jsonb_to_recordset(item.choices)
                AS c (n integer, usd numeric, tokens bigint) ORDER BY c.n
            LOOP
                would := true;
                now := true;
                FOR place IN 1 .. coalesce(cardinality(measures), 0) LOOP
                    need := CASE measures[place] WHEN 'usd' THEN coalesce(asked.usd, 0)
                        WHEN 'tokens' THEN asked.tokens WHEN 'calls' THEN 1 ELSE 0 END;
                    is_known := measures[place] IN ('tokens', 'calls')
                        OR (measures[place] = 'usd' AND asked.usd IS NOT NULL);
                    IF useds[place] + need > mosts[place]
                        OR (NOT is_known AND useds[place] >= mosts[place])
                    THEN
                        IF would THEN
                            over := place;
                        END IF;
                        would := false;
                        now := false;
                    ELSIF useds[place] + helds[place] + need > mosts[place] THEN
                        now := false;
                    END IF;
                END LOOP;
                IF would AND choice IS NULL THEN
                    choice := asked.n;
                    took_usd := coalesce(asked.usd, 0);
                    took_tokens := asked.tokens;
                END IF;
                IF now AND now_fits IS NULL THEN
                    now_fits := asked.n;
                END IF;
            END LOOP;
            EXIT WHEN is_again OR choice IS NOT DISTINCT FROM now_fits;
            is_again := true;
            IF dropped IS DISTINCT FROM item.organisation THEN
                PERFORM phoenix_drop_holds_v1(item.organisation);
                dropped := item.organisation;
                loaded := NULL;
            END IF;
        END LOOP;
        IF over IS NOT NULL THEN
            scope := scopes[over];
            measure := measures[over];
            most := mosts[over];
            used := useds[over];
        END IF;
        IF choice IS NULL THEN
            outcome := 'spent';
        ELSIF choice IS DISTINCT FROM now_fits THEN
            outcome := 'wait';
        ELSE
            outcome := 'held';
            INSERT INTO budget_holds (id, organisation_id, project_id, task, worker, usd, tokens, until)
            VALUES (
                item.id, item.organisation, item.project, item.task,
                (SELECT r.worker FROM runs r WHERE r.id = item.run), took_usd, took_tokens,
                clock_timestamp() + make_interval(secs => item.seconds)
            );
            FOR place IN 1 .. coalesce(cardinality(measures), 0) LOOP
                helds[place] := helds[place] + CASE measures[place] WHEN 'usd' THEN took_usd
                    WHEN 'tokens' THEN took_tokens WHEN 'calls' THEN 1 ELSE 0 END;
            END LOOP;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$
"""
"""As `phoenix_hold_v1`, with the same answers. What is used and held is summed once for items that are under
the same limits, and added up from there; who is dead is looked for once for each organisation."""

MEASURES = """
CREATE OR REPLACE FUNCTION phoenix_measures_v1(organisation uuid, project uuid, task text, limits jsonb)
RETURNS TABLE (scope text, measure text, most numeric, used numeric, held numeric) LANGUAGE sql AS $$
    SELECT l.scope, v.measure, v.most, v.used, v.held
    FROM jsonb_to_recordset(limits) AS l (
        rank integer, scope text, key text, usd numeric, tokens numeric, calls numeric, wall_seconds numeric
    )
    JOIN budget_accounts a
        ON a.organisation_id = organisation AND a.scope = l.scope AND a.key = l.key,
    LATERAL (
        SELECT coalesce(sum(h.usd), 0) AS usd, coalesce(sum(h.tokens), 0) AS tokens, count(*) AS calls
        FROM budget_holds h
        WHERE h.organisation_id = organisation AND h.until > clock_timestamp()
            AND (l.rank < 3 OR h.project_id = project)
            AND (l.rank < 4 OR h.task = phoenix_measures_v1.task)
    ) AS held,
    LATERAL (VALUES
        (1, 'usd', l.usd, a.usd, held.usd), (2, 'tokens', l.tokens, a.tokens, held.tokens),
        (3, 'calls', l.calls, a.calls, held.calls),
        (4, 'wall_seconds', l.wall_seconds, CASE WHEN l.wall_seconds IS NOT NULL THEN
            phoenix_wall_seconds_v1(
                project, CASE l.rank WHEN 4 THEN phoenix_measures_v1.task ELSE '' END
            ) END, 0)
    ) AS v (place, measure, most, used, held)
    WHERE v.most IS NOT NULL ORDER BY l.rank, v.place
$$
"""
"""Each limit that calls are under, with what is used and held of it."""

OLD_ACCOUNTS = """
CREATE TRIGGER phoenix_account AFTER INSERT ON model_calls
    FOR EACH ROW EXECUTE FUNCTION phoenix_account_v1()
"""
ACCOUNTS = """
CREATE TRIGGER phoenix_account AFTER INSERT ON model_calls REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION phoenix_account_v2()
"""
NAMES = (
    "phoenix_settle_v1(jsonb)",
    "phoenix_hold_v2(jsonb)",
    "phoenix_account_v2()",
    "phoenix_measures_v1(uuid, uuid, text, jsonb)",
)


def upgrade() -> None:
    """Add the column and the functions; calls are added to accounts by statement from now on."""
    op.add_column(
        "model_calls", sa.Column("broken", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    for function in (SETTLE, ACCOUNT, MEASURES, HOLD):
        op.execute(function)
    op.execute("DROP TRIGGER phoenix_account ON model_calls")
    op.execute(ACCOUNTS)


def downgrade() -> None:
    """Count by row again."""
    op.execute("DROP TRIGGER phoenix_account ON model_calls")
    op.execute(OLD_ACCOUNTS)
    for name in NAMES:
        op.execute(f"DROP FUNCTION {name}")
    op.drop_column("model_calls", "broken")
