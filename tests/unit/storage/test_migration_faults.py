"""A migration that is killed, anywhere, leaves the schema as it was, and every step can be undone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from phoenix.errors import DatabaseUnavailable
from phoenix.storage import schema
from phoenix.storage.database import conninfo
from phoenix.storage.migrate import downgrade, upgrade
from tests.unit.storage.schema_dump import dump, fill

ROOT = Path(__file__).parents[3]
KILLER = """
CREATE SCHEMA killer;
CREATE SEQUENCE killer.seen;
CREATE TABLE killer.at (command bigint);
CREATE FUNCTION killer.kill() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('killer.seen') = (SELECT command FROM killer.at) THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
END $$;
CREATE EVENT TRIGGER killer ON ddl_command_end EXECUTE FUNCTION killer.kill();
"""
"""The server itself ends the connection after its n-th change of the schema: sequences survive rollbacks."""


async def execute(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(conninfo(url), autocommit=True) as connection:
        cursor = await connection.execute(statement, values or None)  # type: ignore[call-overload]
        return await cursor.fetchall() if cursor.description else []


async def test_each_migration_can_be_undone_and_done_again_with_rows_in_the_tables(database_url: str) -> None:
    """Up, down, up: after every single step the schema is the one before, and no older row is lost."""
    before = None
    for revision in [r.name for r in schema.known()]:
        rows = await fill(database_url) if before else {}
        was = await dump(database_url) if before else set()
        await upgrade(database_url, to=revision)
        now = await dump(database_url)
        if before:
            await downgrade(database_url, before)
            assert await dump(database_url) == was, f"{revision} leaves something behind"
            assert await fill(database_url) == rows, f"{revision} loses rows"
            await upgrade(database_url, to=revision)
            assert await dump(database_url) == now, f"{revision} differs the second time"
        before = revision
    counts = await fill(database_url)
    assert {"projects", "runs", "events"} <= set(counts)
    assert counts.pop("checkpoint_migrations") > 1
    assert set(counts.values()) == {1}


@pytest.mark.slow
async def test_a_process_killed_before_any_statement_leaves_nothing(
    database_url: str, migrated_database_url: str
) -> None:
    """SIGKILL before every statement of the upgrade, one process after the other, then one to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.unit.storage.migration_kills", database_url),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    *kills, end = output.decode().splitlines()
    assert end == "done"
    assert len(kills) > 20
    assert await dump(database_url) == await dump(migrated_database_url)


@pytest.mark.slow
async def test_a_connection_lost_after_any_change_of_the_schema_leaves_nothing(
    database_url: str, migrated_database_url: str
) -> None:
    """The server drops the connection after its n-th DDL command, also within the queue's own script."""
    await execute(database_url, KILLER)
    empty = await dump(database_url)
    last = 0
    while True:
        last += 1
        await execute(database_url, "SELECT setval('killer.seen', 1, false)")
        await execute(database_url, "DELETE FROM killer.at")
        await execute(database_url, "INSERT INTO killer.at VALUES (%s)", last)
        try:
            await upgrade(database_url)
        except DatabaseUnavailable:
            assert await dump(database_url) == empty
        else:
            break
    assert last > 60
    await execute(database_url, "DROP EVENT TRIGGER killer")
    await execute(database_url, "DROP SCHEMA killer CASCADE")
    assert await dump(database_url) == await dump(migrated_database_url)
