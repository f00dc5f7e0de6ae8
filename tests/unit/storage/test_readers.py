"""The account of dashboards reads what is declared, and nothing else, whatever it could do before."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from phoenix.errors import SettingInvalid
from phoenix.storage import readers, tables_budgets, tables_traces, tenancy
from phoenix.storage.database import connect, transaction
from phoenix.storage.migrate import downgrade, upgrade
from tests.reader_account import account

TABLES = {**tables_budgets.budget_holds.metadata.tables, **tables_traces.spans.metadata.tables}


@pytest.fixture
async def made(migrated_database_url: str) -> AsyncIterator[tuple[str, str]]:
    """Return an account without any grant, and its URL."""
    async with account(migrated_database_url) as found:
        yield found


async def execute(url: str, *statements: str) -> None:
    """Execute statements, each on its own."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement)


async def rights(url: str, role: str) -> set[str]:
    """Return what a role may do, by the database's own account of it."""
    engine = connect(url)
    try:
        async with transaction(engine) as connection:
            return await readers._rights(connection, role)
    finally:
        await engine.dispose()


def test_what_is_declared_exists() -> None:
    """A column that is renamed is renamed here too; values are taken out of documents only."""
    for table, columns in readers.COLUMNS.items():
        assert set(columns) <= set(TABLES[table].columns.keys()), table
    for inner in readers.INNER.values():
        assert inner.column in TABLES[inner.table].columns
        assert inner.column not in readers.COLUMNS[inner.table]


def test_nothing_of_texts_and_secrets_is_declared() -> None:
    """Neither tables that hold them, nor such columns of the others."""
    closed = {
        *(
            "users",
            "api_keys",
            "signing_keys",
            "refresh_tokens",
            "sessions",
            "sign_ins",
            "artifacts",
            "messages",
        ),
        *(
            "model_journal",
            "model_answers_cache",
            "outbox",
            "memories",
            "webhooks",
            "tool_decisions",
            "audit",
        ),
    }
    assert not closed & set(readers.COLUMNS)
    told = {column for columns in readers.COLUMNS.values() for column in columns}
    assert not told & {
        "requirement",
        "request",
        "decision",
        "data",
        "input",
        "output",
        "error",
        "body",
        "path",
    }
    assert not [column for column in told if "hash" in column or "secret" in column or "digest" in column]


async def test_a_reader_is_given_what_is_declared(migrated_database_url: str, made: tuple[str, str]) -> None:
    """By the upgrade that names it; by one that does not, it is left as it is."""
    role, _ = made
    await upgrade(migrated_database_url)
    assert await rights(migrated_database_url, role) == set()
    await upgrade(migrated_database_url, reader=role)
    assert await rights(migrated_database_url, role) == readers.declarations()
    await upgrade(migrated_database_url)
    assert await rights(migrated_database_url, role) == readers.declarations()


async def test_what_it_had_beyond_is_taken_away(migrated_database_url: str, made: tuple[str, str]) -> None:
    """Tables, columns, sequences, the schema and functions."""
    role, _ = made
    await execute(
        migrated_database_url,
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT SELECT (password_hash) ON users TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"GRANT CREATE ON SCHEMA public TO {role}",
    )
    before = await rights(migrated_database_url, role)
    assert {"users.password_hash", "changing users", "making tables"} <= before
    assert any(right.startswith("counting with ") for right in before)
    await upgrade(migrated_database_url, reader=role)
    assert await rights(migrated_database_url, role) == readers.declarations()


async def test_what_is_as_it_should_be_is_left(migrated_database_url: str, made: tuple[str, str]) -> None:
    """Each start of a process that migrates comes by here: rows of the catalogue are not written again."""
    role, _ = made
    await upgrade(migrated_database_url, reader=role)
    rows = "SELECT max(xmin::text::bigint) FROM pg_attribute WHERE attacl IS NOT NULL"
    async with await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as connection:
        before = await (await connection.execute(rows)).fetchone()
        await upgrade(migrated_database_url, reader=role)
        assert await (await connection.execute(rows)).fetchone() == before


REFUSED = [
    "SELECT password_hash FROM users",
    "SELECT email FROM users",
    "SELECT * FROM api_keys",
    "SELECT secret FROM signing_keys",
    "SELECT * FROM checkpoints",
    "SELECT * FROM checkpoint_blobs",
    "SELECT * FROM checkpoint_writes",
    "SELECT body FROM artifacts",
    "SELECT requirement FROM projects",
    "SELECT error FROM runs",
    "SELECT input FROM runs",
    "SELECT request FROM approvals",
    "SELECT decided_by FROM approvals",
    "SELECT data FROM events",
    "SELECT attributes FROM spans",
    "SELECT text FROM messages",
    "SELECT answer FROM model_journal",
    "SELECT args FROM procrastinate_jobs",
    "UPDATE projects SET title = 'mine'",
    "DELETE FROM events",
    "INSERT INTO organisations (id, name) VALUES (gen_random_uuid(), 'mine')",
    "TRUNCATE model_calls",
    "CREATE TABLE mine (id integer)",
    f"SET ROLE {tenancy.ROLE}",
]


async def test_it_can_neither_read_more_nor_write(migrated_database_url: str, made: tuple[str, str]) -> None:
    """As PostgreSQL sees it, through a connection of its own."""
    role, url = made
    await upgrade(migrated_database_url, reader=role)
    await execute(url, "SELECT id, title FROM projects", "SELECT phoenix_gate(gen_random_uuid())")
    for query in REFUSED:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await execute(url, query)


async def test_nobody_else_calls_the_functions(migrated_database_url: str, made: tuple[str, str]) -> None:
    """They read with the rights of whoever migrates; after a restore all may call them, until mended."""
    role, _ = made
    await upgrade(migrated_database_url, reader=role)
    await execute(migrated_database_url, "GRANT EXECUTE ON FUNCTION phoenix_error_code TO PUBLIC")
    await upgrade(migrated_database_url, reader=role)
    async with account(migrated_database_url) as (_, other):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await execute(other, "SELECT phoenix_error_code(gen_random_uuid())")


async def test_a_role_that_is_missing_is_said_with_its_sql(migrated_database_url: str) -> None:
    """The hint is a statement; once it was executed, the migration goes on."""
    with pytest.raises(SettingInvalid, match="no role phoenix_nobody") as found:
        await upgrade(migrated_database_url, reader="phoenix_nobody")
    assert found.value.field == "PHOENIX_DATABASE_READER"
    assert "CREATE ROLE phoenix_nobody LOGIN PASSWORD '...'" in found.value.hint


async def test_an_account_that_owns_everything_is_refused(
    migrated_database_url: str, made: tuple[str, str]
) -> None:
    """The account that migrates, and whoever is a member of it: grants take nothing from them."""
    role, _ = made
    async with await psycopg.AsyncConnection.connect(migrated_database_url) as connection:
        owner = connection.info.user
    await execute(migrated_database_url, f'GRANT "{owner}" TO {role}')
    for name in (owner, role):
        with pytest.raises(SettingInvalid, match="reads and changes everything"):
            await upgrade(migrated_database_url, reader=name)


async def test_what_it_has_from_others_is_named(migrated_database_url: str, made: tuple[str, str]) -> None:
    """Grants to all, and those of roles that it is a member of, stay, and are not passed over in silence."""
    role, _ = made
    await execute(migrated_database_url, "GRANT SELECT (email) ON users TO PUBLIC")
    with pytest.raises(SettingInvalid, match=r"users\.email"):
        await upgrade(migrated_database_url, reader=role)
    await execute(
        migrated_database_url,
        "REVOKE SELECT (email) ON users FROM PUBLIC",
        f"GRANT pg_write_all_data TO {role}",
    )
    with pytest.raises(SettingInvalid, match="changing "):
        await upgrade(migrated_database_url, reader=role)
    assert await rights(migrated_database_url, role) & readers.declarations() == set()


async def test_what_it_reads_comes_and_goes_with_the_schema(
    migrated_database_url: str, made: tuple[str, str]
) -> None:
    """Down to nothing and up again, with the functions."""
    role, _ = made
    await upgrade(migrated_database_url, reader=role)
    await downgrade(migrated_database_url)
    assert await rights(migrated_database_url, role) == set()
    await upgrade(migrated_database_url, reader=role)
    assert await rights(migrated_database_url, role) == readers.declarations()
