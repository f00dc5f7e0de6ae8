"""The second wall between organisations: row-level security in PostgreSQL, for the transactions of requests.

A request's transaction enters its organisation (`phoenix_enter`): from then on it sees and changes rows of
that organisation only, whatever its queries say. Workers enter none and see all. See docs/decisions/0024.

How the wall stands depends on what the account of `DATABASE_URL` may do:

- `role`: it may become `phoenix_tenant`, a role that owns nothing. Superusers can, and so can accounts that
  may create roles, or were granted this one.
- `forced`: it may not; the policies bind the account itself while an organisation is entered.
- `none`: it may not, and no policy binds it (`BYPASSRLS`). Only the queries' own filters are left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

log = structlog.get_logger(__name__)

Wall = Literal["role", "forced", "none"]

ROLE = "phoenix_tenant"
SETTING = "phoenix.organisation"
REVISION = "0022"
"""From this migration on the wall stands."""

_MINE = f"(SELECT nullif(current_setting('{SETTING}', true), '')::uuid)"
# Fail-closed for the role: without an organisation it sees nothing.
_ALL = f"(SELECT nullif(current_setting('{SETTING}', true), '') IS NULL AND current_user <> '{ROLE}')"

_OF_APPROVAL = (
    "EXISTS (SELECT FROM approvals a JOIN projects w ON w.id = a.project_id"
    " WHERE a.id = approval_id AND w.organisation_id = {0})"
)
_OF = "EXISTS (SELECT FROM {0}s w WHERE w.id = {0}_id AND w.organisation_id = {1})"

BY_COLUMN: Mapping[str, str] = {
    "organisation_id": f"organisation_id = {_MINE}",
    "project_id": _OF.format("project", _MINE),
    "run_id": _OF.format("run", _MINE),
    "approval_id": _OF_APPROVAL.format(_MINE),
}
"""What makes a row an organisation's; of several columns the first counts."""

SHARED = ("users", "begun_forks")
"""Tables of all organisations that requests use: accounts, and ids of forks that are being made."""
CLOSED = ("signing_keys", "refresh_tokens", "workers", "worker_deaths", "sign_ins", "circuits")
"""Tables that no request reads once it is known whose it is."""
HIDDEN: Mapping[str, frozenset[str]] = {
    "users": frozenset({"password_hash", "external_id"}),
    "api_keys": frozenset({"secret_hash"}),
}
"""Columns that a request may write and not read."""
VERBS: Mapping[str, str] = {
    "audit": "SELECT, INSERT",
    "organisations": "SELECT, UPDATE",
    "users": "SELECT, INSERT",
}
"""What a request may do, where it is not everything."""
EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"

_COLUMNS = text(
    "SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns"
    " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace"
    " AND c.relname !~ '^(alembic_|phoenix_|checkpoint|procrastinate_)' GROUP BY 1 ORDER BY 1"
)
_QUEUE = text(
    "SELECT c.relname AS name, c.relkind = 'S' AS is_sequence FROM pg_class c"
    " WHERE c.relkind IN ('r', 'S') AND c.relnamespace = current_schema()::regnamespace"
    " AND c.relname ~ '^procrastinate_' ORDER BY 1"
)
_POLICIES = text(
    "SELECT tablename, policyname FROM pg_policies WHERE schemaname = current_schema()"
    " AND policyname = 'phoenix_tenant'"
)
_STANDING = text(
    f"""
SELECT obj_description(to_regprocedure('phoenix_enter(uuid)'), 'pg_proc') AS stands,
    (SELECT has_table_privilege(oid, to_regclass('projects'), 'SELECT') FROM pg_roles
        WHERE rolname = '{ROLE}') AS granted
"""  # noqa: S608 no value is put in  # nosec B608
)
_ACCOUNT = text("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
_FOUND = text(f"SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = '{ROLE}'")  # noqa: S608  # nosec B608


@dataclass(frozen=True)
class Relation:
    """A table."""

    name: str
    columns: tuple[str, ...]

    @property
    def condition(self) -> str | None:
        """What makes a row the organisation's that was entered; None where nothing does."""
        if self.name == "organisations":
            return f"id = {_MINE}"
        return next((BY_COLUMN[c] for c in BY_COLUMN if c in self.columns), None)


async def enter(connection: AsyncConnection, organisation_id: UUID) -> None:
    """See and change rows of an organisation only, until the transaction ends."""
    await connection.execute(text("SELECT phoenix_enter(:id)"), {"id": organisation_id})


_WALLS: Mapping[str, Wall] = {"role": "role", "forced": "forced"}


async def standing(connection: AsyncConnection) -> Wall:
    """Return how the wall stands in a database."""
    found = (await connection.execute(_STANDING)).one().stands or "none"
    return _WALLS.get(found.partition(" ")[0], "none")


async def ensure(connection: AsyncConnection) -> Wall:
    """Let every table have its policy and its grants, as it is now. Idempotent; changes nothing when it can.

    It belongs to no single migration: a restored database comes without the role, and a table that a later
    migration makes has its policy from its columns.
    """
    kind = await _kind(connection)
    rows = await connection.execute(_COLUMNS)
    relations = [Relation(row.name, tuple(row.columns)) for row in rows]
    queue = [(row.name, row.is_sequence) for row in await connection.execute(_QUEUE)]
    schema = (await connection.execute(text("SELECT quote_ident(current_schema())"))).scalar_one()
    statements = [*_policies(relations, kind), *_function(kind)]
    if kind == "role":
        statements += [*_grants(relations, queue, schema)]
    mark = f"{kind} {hashlib.sha256(chr(10).join(statements).encode()).hexdigest()[:32]}"
    stands = (await connection.execute(_STANDING)).one()
    if stands.stands == mark and (kind != "role" or stands.granted):
        return kind
    await _drop_policies(connection)
    statements.append(f"COMMENT ON FUNCTION phoenix_enter(uuid) IS '{mark}'")
    # In one round trip.
    await connection.exec_driver_sql(f"DO $wall$ BEGIN {'; '.join(statements)}; END $wall$")
    if kind == "none":
        log.warning("tenant_wall_missing", hint=f"GRANT {ROLE} to the database's account.")
    return kind


async def remove(connection: AsyncConnection) -> None:
    """Take the wall away: tables cannot be dropped while policies of others look into them."""
    await _drop_policies(connection)
    await connection.execute(text("DROP FUNCTION IF EXISTS phoenix_enter(uuid)"))


async def _kind(connection: AsyncConnection) -> Wall:
    account = (await connection.execute(_ACCOUNT)).one()
    if await _may_become(connection):
        return "role"
    return "none" if account.rolsuper or account.rolbypassrls else "forced"


async def _may_become(connection: AsyncConnection) -> bool:
    """Make the role where it is missing, and tell whether this account can take it on."""
    create = f"CREATE ROLE {ROLE} NOLOGIN NOINHERIT"
    if (await connection.execute(_FOUND)).first() is None:
        await _tried(connection, create)
    if (await connection.execute(_FOUND)).scalar_one_or_none():
        log.warning("tenant_role_unsafe", role=ROLE, hint="It must be neither SUPERUSER nor BYPASSRLS.")
        return False
    take = (f"SET LOCAL ROLE {ROLE}", "SET LOCAL ROLE NONE")
    return await _tried(connection, *take) or (
        await _tried(connection, f"GRANT {ROLE} TO CURRENT_USER") and await _tried(connection, *take)
    )


async def _tried(connection: AsyncConnection, *statements: str) -> bool:
    """Tell whether statements could be executed; those that could not leave nothing behind."""
    attempt = await connection.begin_nested()
    try:
        for statement in statements:
            await connection.exec_driver_sql(statement)
    except DBAPIError as error:
        await attempt.rollback()
        log.debug("tenant_wall_tried", statement=statements[0], error=str(error.orig).strip())
        return False
    await attempt.commit()
    return True


async def _drop_policies(connection: AsyncConnection) -> None:
    for row in (await connection.execute(_POLICIES)).all():
        await connection.exec_driver_sql(f'DROP POLICY phoenix_tenant ON "{row.tablename}"')
        off = "NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY"
        await connection.exec_driver_sql(f'ALTER TABLE "{row.tablename}" {off}')


def _policies(relations: Sequence[Relation], kind: Wall) -> Iterator[str]:
    force = "FORCE" if kind == "forced" else "NO FORCE"
    for relation in relations:
        if relation.condition is not None:
            rule = f"{relation.condition} OR {_ALL}"
            yield f"CREATE POLICY phoenix_tenant ON {relation.name} USING ({rule}) WITH CHECK ({rule})"
            yield f"ALTER TABLE {relation.name} ENABLE ROW LEVEL SECURITY, {force} ROW LEVEL SECURITY"


def _function(kind: Wall) -> Iterator[str]:
    become = f", set_config('role', '{ROLE}', true)" if kind == "role" else ""
    yield (
        "CREATE OR REPLACE FUNCTION phoenix_enter(organisation uuid) RETURNS void LANGUAGE plpgsql AS $$"
        f" BEGIN PERFORM set_config('{SETTING}', organisation::text, true){become}; END $$"
    )


def _grants(relations: Sequence[Relation], queue: Sequence[tuple[str, bool]], schema: str) -> Iterator[str]:
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {ROLE}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}"
    names: dict[str, list[str]] = {"USAGE": [name for name, is_sequence in queue if is_sequence]}
    names[EVERYTHING] = [name for name, is_sequence in queue if not is_sequence]
    for relation in relations:
        name = relation.name
        if name in CLOSED or not (relation.condition or name in SHARED):
            continue
        verbs = VERBS.get(name, EVERYTHING)
        if hidden := HIDDEN.get(name):
            shown = ", ".join(f'"{c}"' for c in relation.columns if c not in hidden)
            yield f"GRANT SELECT ({shown}) ON {name} TO {ROLE}"
            verbs = ", ".join(v for v in verbs.split(", ") if v != "SELECT")
        names.setdefault(verbs, []).append(name)
    for verbs, those in ((verbs, those) for verbs, those in names.items() if those):
        kind = "SEQUENCE" if verbs == "USAGE" else "TABLE"
        yield f"GRANT {verbs} ON {kind} {', '.join(those)} TO {ROLE}"
