"""The schema goes up, down and up again, and is what the tables say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from phoenix.errors import DatabaseUnavailable
from phoenix.storage.database import connect
from phoenix.storage.migrate import downgrade, upgrade
from phoenix.storage.tables_identity import users
from phoenix.storage.tables_memory import memories
from phoenix.storage.tables_webhooks import webhooks

FOREIGN = ("procrastinate_", "checkpoint", "alembic_version", "phoenix_schema", "phoenix_jobs_")


async def relations(url: str) -> set[str]:
    """Return the names of all tables, functions and types in the schema."""
    engine = connect(url)
    query = text(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace"
    )
    async with engine.begin() as connection:
        found = set((await connection.execute(query)).scalars())
    await engine.dispose()
    return found


def differences(connection: Connection) -> list[Any]:
    """Return what a migration would still have to do."""

    def ours(_object: Any, name: str | None, *_rest: Any) -> bool:
        return not (name or "").startswith(FOREIGN)

    context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
    assert webhooks.metadata is users.metadata is memories.metadata
    return list(compare_metadata(context, users.metadata))


async def test_up_down_up_leaves_the_same_schema(database_url: str) -> None:
    """Nothing is left of a downgrade, and nothing is missing after the next upgrade."""
    await upgrade(database_url)
    first = await relations(database_url)
    await downgrade(database_url)
    assert await relations(database_url) <= {"alembic_version", "alembic_version_pkc", "_alembic_version"}
    await upgrade(database_url)
    assert await relations(database_url) == first


async def test_the_tables_are_what_the_migrations_make(migrated_database_url: str) -> None:
    """Autogenerate finds nothing to do."""
    engine = connect(migrated_database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_upgrading_is_idempotent_and_safe_from_many_at_once(database_url: str) -> None:
    """Processes that start together wait for each other."""
    await asyncio.gather(*(upgrade(database_url) for _ in range(4)))
    await upgrade(database_url)


async def test_a_failed_upgrade_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens in one transaction."""

    def fail(*_args: Any) -> None:
        raise RuntimeError("killed half way")

    monkeypatch.setattr("phoenix.storage.migrate.command.upgrade", fail)
    with pytest.raises(RuntimeError):
        await upgrade(database_url)
    assert await relations(database_url) == set()


async def test_a_missing_server_is_said_clearly() -> None:
    """Nobody has to read a driver's traceback."""
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        await upgrade("postgresql://nobody@127.0.0.1:1/nothing")
