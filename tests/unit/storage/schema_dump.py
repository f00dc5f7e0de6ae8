"""The whole of a schema as text, and a row in every table of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from phoenix.storage.database import conninfo

QUERIES = (
    "SELECT 'column', table_name, column_name, data_type, is_nullable, column_default"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT 'function', pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    " AND prokind = 'f'",
    "SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT 'type', t.typname, array_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_type t"
    " LEFT JOIN pg_enum e ON e.enumtypid = t.oid WHERE typnamespace = 'public'::regnamespace GROUP BY 2",
)
ONE = UUID(int=1)
VALUES: dict[str, Any] = {
    "uuid": ONE,
    "text": "x",
    "character varying": "x",
    "bigint": 1,
    "integer": 1,
    "smallint": 1,
    "numeric": 1,
    "double precision": 1.0,
    "boolean": True,
    "bytea": b"x",
    "jsonb": Jsonb({}),
    "ARRAY": [],
    "date": "2026-01-01",
    "interval": "1 second",
    "timestamp with time zone": "2026-01-01T00:00:00Z",
}
FITTING: dict[tuple[str, str], Any] = {
    ("runs", "status"): "success",
    ("spans", "status"): "ok",
    ("runs", "interrupts"): Jsonb([]),
    ("runs", "multitask"): "enqueue",
    ("outbox", "status"): "done",
    ("workers", "state"): "active",
    ("memberships", "role"): "viewer",
    ("grants", "role"): "viewer",
    ("approvals", "decided_how"): "person",
    ("approval_votes", "verdict"): "approve",
    ("tool_decisions", "effect"): "ask",
    ("tool_decisions", "outcome"): "asked",
    ("webhooks", "digest_every"): "daily",
    ("webhook_deliveries", "status"): "delivered",
    ("memories", "kind"): "snippet",
    ("memories", "origin"): "own",
    ("budget_accounts", "scope"): "project",
}
"""Values where a table's checks allow only some. A new table with checks needs its line here."""


async def dump(url: str) -> set[tuple[Any, ...]]:
    """Return all columns, indexes, constraints, functions, triggers and types of a database."""
    found: set[tuple[Any, ...]] = set()
    async with await psycopg.AsyncConnection.connect(conninfo(url)) as connection:
        for query in QUERIES:
            found |= {tuple(row) for row in await (await connection.execute(query)).fetchall()}
    return found


async def fill(url: str) -> dict[str, int]:
    """Put a row into every table of Phoenix that has none; return the number of rows of each."""
    columns = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' AND is_generated = 'NEVER' AND identity_generation IS DISTINCT FROM"
        " 'ALWAYS' ORDER BY table_name"
    )
    rows: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    async with await psycopg.AsyncConnection.connect(conninfo(url)) as connection:
        # Without foreign keys: all ids are the same, so that they hold all the same.
        await connection.execute("SET session_replication_role = replica")
        for table, column, kind in await (await connection.execute(columns)).fetchall():
            if not table.startswith(("procrastinate_", "alembic_", "phoenix_schema")):
                rows.setdefault(table, {})[column] = FITTING.get((table, column), VALUES.get(kind))
        for table, row in rows.items():
            counts[table] = await _insert(connection, table, row)
    return counts


async def _insert(connection: psycopg.AsyncConnection[Any], table: str, row: dict[str, Any]) -> int:
    name = sql.Identifier(table)
    count = sql.SQL("SELECT count(*) FROM {}").format(name)
    if (await (await connection.execute(count)).fetchone()) == (0,):
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            name,
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join([sql.Placeholder()] * len(row)),
        )
        await connection.execute(statement, list(row.values()))
    found = await (await connection.execute(count)).fetchone()
    assert found is not None
    return int(found[0])
