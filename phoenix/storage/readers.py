"""The account that dashboards read with: it sees single columns, and can change nothing.

`PHOENIX_DATABASE_READER` names a role that exists; Phoenix makes none, and sees no password. A migration
grants it what `COLUMNS` and `INNER` say, and takes away what it had beyond. Prompts, answers, messages,
secrets and hashes are in none of them. See docs/decisions/0043.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.errors import SettingInvalid

log = structlog.get_logger(__name__)

SETTING = "PHOENIX_DATABASE_READER"

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "organisations": ("id", "name"),
    "projects": (
        *("id", "organisation_id", "title", "budget_usd", "limits"),
        *("paused_at", "archived_at", "created_at"),
    ),
    "runs": (
        *("id", "project_id", "parent_id", "key", "ordinal", "flow", "status", "attempt", "crashes"),
        *("worker", "created_at", "taken_at", "started_at", "finished_at"),
    ),
    "workers": ("key", "host", "pid"),
    "approvals": (
        *("id", "project_id", "run_id", "decided_how", "deadline_at", "reminders"),
        *("created_at", "decided_at"),
    ),
    "events": ("project_id", "kind", "at"),
    "model_calls": (
        *("id", "project_id", "agent", "task", "model", "input_tokens", "output_tokens", "cached_tokens"),
        *("cost_usd", "recorded", "cached", "broken", "seconds", "at"),
    ),
    "budget_holds": ("project_id", "task", "usd", "tokens", "until"),
    "spans": ("project_id", "kind", "name", "began_at", "ended_at", "status"),
    "span_counts": ("project_id", "kept", "left_out", "beyond_limit"),
}
"""What it may read, by table."""


@dataclass(frozen=True)
class Inner:
    """A value within a document whose other values it may not read."""

    table: str
    column: str
    name: str


INNER: Mapping[str, Inner] = {
    "phoenix_error_code": Inner("runs", "error", "code"),
    "phoenix_gate": Inner("approvals", "request", "name"),
}
"""Functions of a row's id, which read with the rights of the account that migrates."""

_ROLE = text(
    """
SELECT r.rolsuper OR pg_has_role(r.oid, current_user, 'MEMBER') OR EXISTS (
    SELECT FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
        AND pg_has_role(r.oid, c.relowner, 'MEMBER')
) AS owns FROM pg_roles r WHERE r.rolname = :role
"""
)
_MAY = text(
    """
SELECT c.relname::text || '.' || a.attname AS what FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND has_column_privilege(CAST(:role AS name), c.oid, a.attnum, 'SELECT')
UNION ALL
SELECT 'changing ' || c.relname FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'f')
    AND (has_table_privilege(CAST(:role AS name), c.oid, 'DELETE, TRUNCATE, TRIGGER')
        OR has_any_column_privilege(CAST(:role AS name), c.oid, 'INSERT, UPDATE, REFERENCES'))
UNION ALL
SELECT 'counting with ' || c.relname FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND CASE c.relkind
    WHEN 'S' THEN has_sequence_privilege(CAST(:role AS name), c.oid, 'USAGE, SELECT, UPDATE') END
UNION ALL
SELECT 'calling ' || p.proname FROM pg_proc p
WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef
    AND has_function_privilege(CAST(:role AS name), p.oid, 'EXECUTE')
UNION ALL
SELECT 'everybody calling ' || p.proname FROM pg_proc p
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef AND g.grantee = 0
UNION ALL
SELECT 'making tables' WHERE has_schema_privilege(CAST(:role AS name), current_schema(), 'CREATE')
"""
)
"""What a role may do with what is in the schema, however it came to that."""
_NAMES = text("SELECT quote_ident(current_schema()) AS schema, quote_ident(CAST(:role AS text)) AS role")


async def grant(connection: AsyncConnection, role: str) -> None:
    """Let a role read what is declared here, and nothing else. Idempotent; changes nothing when it can.

    Raises:
        SettingInvalid: there is no such role, or it can do more than these grants can take from it.
    """
    await _check_role(connection, role)
    declared = declarations()
    if await _rights(connection, role) == declared:
        return
    names = (await connection.execute(_NAMES, {"role": role})).one()
    for statement in _statements(names.schema, names.role):
        await connection.exec_driver_sql(statement)
    found = await _rights(connection, role)
    if beyond := sorted(found - declared):
        raise SettingInvalid(
            f"{role} may do more than read for dashboards: {', '.join(beyond[:3])}.",
            field=SETTING,
            hint=f"Take away what PUBLIC or other roles give it, or name another. {_making('another_name')}",
        )
    log.info("reader_granted", role=role, columns=sum(map(len, COLUMNS.values())))


def declarations() -> set[str]:
    """Return all that a reader may do."""
    columns = {f"{table}.{column}" for table, columns in COLUMNS.items() for column in columns}
    return columns | {f"calling {name}" for name in INNER}


async def remove(connection: AsyncConnection) -> None:
    """Take away the functions; the grants go with their tables."""
    for name in INNER:
        await connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {name}(uuid)")


async def _check_role(connection: AsyncConnection, role: str) -> None:
    found = (await connection.execute(_ROLE, {"role": role})).first()
    if found is None:
        raise SettingInvalid(
            f"The database has no role {role}.",
            field=SETTING,
            hint=f"{_making(role)}; then run `phoenix migrate` again.",
        )
    if found.owns:
        raise SettingInvalid(
            f"{role} reads and changes everything, whatever is granted to it.",
            field=SETTING,
            hint=f"Name a role for dashboards alone. {_making('phoenix_reader')}",
        )


def _making(role: str) -> str:
    return f"Make it with: CREATE ROLE {role} LOGIN PASSWORD '...'"


async def _rights(connection: AsyncConnection, role: str) -> set[str]:
    return set((await connection.execute(_MAY, {"role": role})).scalars())


def _statements(schema: str, role: str) -> Iterator[str]:
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}"
    yield f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}"
    yield f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM {role}"
    yield f"REVOKE ALL ON SCHEMA {schema} FROM {role}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {role}"
    for table, columns in COLUMNS.items():
        yield f"GRANT SELECT ({', '.join(columns)}) ON {schema}.{table} TO {role}"
    for name, inner in INNER.items():
        signature = f"{schema}.{name}(uuid)"
        # Its parts are names that stand above.
        what = f"{inner.column} ->> '{inner.name}'"
        body = f"SELECT {what} FROM {schema}.{inner.table} WHERE id = row_id"  # noqa: S608  # nosec B608
        # The body is a string, so that no migration is kept from changing the column.
        yield (
            f"CREATE OR REPLACE FUNCTION {schema}.{name}(row_id uuid) RETURNS text LANGUAGE sql STABLE"
            f" SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ {body} $$"
        )
        yield f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC"
        yield f"GRANT EXECUTE ON FUNCTION {signature} TO {role}"
