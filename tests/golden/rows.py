"""The rows of a thread's checkpoints as readable JSON; bytes are `{"base64": ...}`."""

from __future__ import annotations

import base64
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
Rows = dict[str, list[dict[str, Any]]]


async def read_rows(url: str) -> Rows:
    """Return all rows of the saver's tables, in a fixed order."""
    found: Rows = {}
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        for table in TABLES:
            rows = await (await connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")).fetchall()
            found[table] = [{name: _to_json(value) for name, value in row.items()} for row in rows]
    return found


async def write_rows(url: str, rows: Rows) -> None:
    """Put the rows into the saver's tables, which must exist."""
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for table in TABLES:
            for row in rows[table]:
                names = sql.SQL(", ").join(map(sql.Identifier, row))
                places = sql.SQL(", ").join(sql.Placeholder() * len(row))
                statement = insert.format(sql.Identifier(table), names, places)
                await connection.execute(statement, [_from_json(value) for value in row.values()])


def _to_json(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"]) if set(value) == {"base64"} else Jsonb(value)
    return value
