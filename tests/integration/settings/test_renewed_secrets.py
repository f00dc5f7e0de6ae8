"""A password that a store renews is used for new connections, of a running system too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from phoenix.bootstrap import open_system
from phoenix.settings import load
from phoenix.storage.database import connect, parse_url, transaction
from phoenix.storage.passwords import password_file
from tests.secret_servers import VaultState, vault


def with_password(url: str, password: str) -> str:
    """Return a URL with another password."""
    return (
        parse_url(url).set(drivername="postgresql", password=password).render_as_string(hide_password=False)
    )


@pytest.fixture
def store() -> Iterator[VaultState]:
    """An empty Vault."""
    with vault() as state:
        yield state


async def test_new_connections_read_the_password_that_came_last(database_url: str, tmp_path: Path) -> None:
    """The file is this user's alone, quotes what libpq would take apart, and goes at the end."""
    first = with_password(database_url, r"a:b\c")
    with password_file(first, tmp_path) as (url, take):
        (path,) = tmp_path.glob(".pgpass-*")
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() == "*:*:*:*:a\\:b\\\\c\n"
        assert "a%3A" not in url
        engine = connect(url, pool_size=1)
        async with transaction(engine) as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
        await engine.dispose()
        take(with_password(database_url, "next"))
        assert path.read_text() == "*:*:*:*:next\n"
        take("postgresql://other:x@elsewhere/d")
        assert path.read_text() == "*:*:*:*:next\n"
    assert not list(tmp_path.iterdir())


async def test_libpq_really_asks_the_file(
    migrated_database_url: str, store: VaultState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running system's password file follows Vault, and its pools go on connecting."""
    monkeypatch.chdir(tmp_path)
    store.secrets["secret/db"] = {"url": with_password(migrated_database_url, "first-password")}
    settings = load(
        {
            "PHOENIX_HOME": str(tmp_path / "home"),
            "PHOENIX_VAULT_ADDRESS": store.url,
            "PHOENIX_VAULT_TOKEN": "s.root",
            "PHOENIX_SECRETS_REFRESH_SECONDS": "0.05",
            "DATABASE_URL": "vault:db#url",
        }
    ).settings
    async with open_system(settings, execution=False) as system:
        (path,) = (tmp_path / "home").glob(".pgpass-*")
        assert "first-password" in path.read_text()
        assert "first-password" not in str(system.rows.url.render_as_string(hide_password=False))
        store.secrets["secret/db"] = {"url": with_password(migrated_database_url, "second-password")}
        async with asyncio.timeout(60):
            while "second-password" not in path.read_text():
                await asyncio.sleep(0.02)
        await system.rows.dispose()
        async with transaction(system.rows) as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    assert not path.exists()


async def test_a_password_of_the_server_is_given(database_url: str, tmp_path: Path) -> None:
    """libpq says that it used the file's password, where the server asks for one."""
    role = "renewed_secrets_login"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
        await admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        await admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'right'").format(sql.Identifier(role)))
        try:
            parsed = parse_url(database_url).set(drivername="postgresql", username=role, password="right")
            with password_file(parsed.render_as_string(hide_password=False), tmp_path) as (url, _):
                async with await psycopg.AsyncConnection.connect(url) as connection:
                    if connection.pgconn.used_password:
                        assert connection.pgconn.password == b"right"
                    assert connection.info.user == role
        finally:
            await admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
