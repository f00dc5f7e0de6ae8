"""The migration makes the tables of LangGraph's own saver, or takes them over with what they hold."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from phoenix.checkpoints.saver import open_saver
from phoenix.storage.migrate import downgrade, upgrade
from tests.unit.checkpoints.fenced import execute, put, unfenced

COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
    " WHERE table_name LIKE 'checkpoint%%' ORDER BY 1, 2"
)
INDEXES = "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'checkpoint%%' ORDER BY 1"


async def test_tables_of_the_library_are_taken_over_with_what_they_hold(database_url: str) -> None:
    """A database that ran LangGraph's saver before is read on; its needless indexes go."""
    config = unfenced()
    async with AsyncPostgresSaver.from_conn_string(database_url) as stock:
        await stock.setup()
        await put(stock, config, value=["kept"], text="short")
    made_by_library: Any = await execute(database_url, COLUMNS)
    await upgrade(database_url)
    async with open_saver(database_url) as saver:
        found = await saver.aget_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"value": ["kept"], "text": "short"}
    taken_over = await execute(database_url, INDEXES)
    assert [index for (index,) in taken_over if "_thread_id_idx" in index] == []
    await downgrade(database_url)
    await upgrade(database_url)
    assert await execute(database_url, COLUMNS) == made_by_library
    assert await execute(database_url, INDEXES) == taken_over


async def test_the_librarys_setup_has_nothing_left_to_do(migrated_database_url: str) -> None:
    """Tools that call it change nothing."""
    before = await execute(migrated_database_url, INDEXES)
    async with AsyncPostgresSaver.from_conn_string(migrated_database_url) as stock:
        await stock.setup()
    assert await execute(migrated_database_url, INDEXES) == before
    versions = await execute(migrated_database_url, "SELECT v FROM checkpoint_migrations ORDER BY 1")
    assert [v for (v,) in versions] == list(range(len(AsyncPostgresSaver.MIGRATIONS)))
