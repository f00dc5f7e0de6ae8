"""Bring a database's schema up to date, or take it away.

Everything happens in one transaction under an advisory lock: a killed migration leaves nothing behind, and
of several processes that start at once one migrates while the others wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.database import connect, raw, transaction

MIGRATE = 0x70686F656E697802
"""Advisory lock of whoever changes the schema."""

_DROP_QUEUE = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT oid::regclass::text FROM pg_class
        WHERE relkind = 'r' AND relname LIKE 'procrastinate\\_%' AND pg_table_is_visible(oid)
    LOOP EXECUTE 'DROP TABLE ' || name || ' CASCADE'; END LOOP;
    FOR name IN SELECT oid::regprocedure::text FROM pg_proc
        WHERE proname LIKE 'procrastinate\\_%' AND pg_function_is_visible(oid)
    LOOP EXECUTE 'DROP FUNCTION ' || name || ' CASCADE'; END LOOP;
    FOR name IN SELECT oid::regtype::text FROM pg_type
        WHERE typtype IN ('e', 'c') AND typname LIKE 'procrastinate\\_%' AND pg_type_is_visible(oid)
    LOOP EXECUTE 'DROP TYPE ' || name || ' CASCADE'; END LOOP;
END $$
"""


async def upgrade(url: str) -> None:
    """Create or update the schema of Phoenix and of its queue. Idempotent.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
    """
    async with _locked(url) as connection:
        found = await connection.execute(text("SELECT to_regclass('procrastinate_jobs')"))
        if found.scalar_one() is None:
            # On the driver itself: the script has many statements and its percent signs are no parameters.
            await (await raw(connection)).execute(SchemaManager.get_schema())
        await connection.run_sync(_alembic, lambda config: command.upgrade(config, "head"))


async def downgrade(url: str, revision: str = "base") -> None:
    """Undo migrations down to a revision; at `base` the queue goes as well. All rows are lost."""
    async with _locked(url) as connection:
        await connection.run_sync(_alembic, lambda config: command.downgrade(config, revision))
        if revision == "base":
            await (await raw(connection)).execute(_DROP_QUEUE)


@asynccontextmanager
async def _locked(url: str) -> AsyncIterator[AsyncConnection]:
    engine = connect(url, pool_size=1)
    try:
        async with transaction(engine) as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATE})
            yield connection
    finally:
        await engine.dispose()


def _alembic(connection: Connection, run: Callable[[Config], None]) -> None:
    config = Config()
    location = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.attributes["connection"] = connection
    run(config)
