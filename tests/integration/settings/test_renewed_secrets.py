"""A password that a store renews is used for new connections, of a running system too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
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


async def test_a_running_system_takes_in_what_vault_says(
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


async def test_libpq_sends_what_the_file_holds(tmp_path: Path) -> None:
    """A server that asks for a password gets the one that came last, at each connection."""
    sent: list[str] = []

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask for a password as PostgreSQL does, keep it, and hang up."""
        size = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(size - 4)
        writer.write(b"R" + (8).to_bytes(4, "big") + (3).to_bytes(4, "big"))
        assert await reader.readexactly(1) == b"p"
        size = int.from_bytes(await reader.readexactly(4), "big")
        sent.append((await reader.readexactly(size - 4)).rstrip(b"\0").decode())
        writer.close()

    server = await asyncio.start_server(ask, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    where = f"u@127.0.0.1:{port}/d?sslmode=disable&gssencmode=disable"
    async with server:
        with password_file(f"postgresql://{where.replace('u@', 'u:a%3Ab%5Cc@')}", tmp_path) as (url, take):
            for password in ("", "next"):
                if password:
                    take(f"postgresql://{where.replace('u@', f'u:{password}@')}")
                with pytest.raises(psycopg.OperationalError):
                    await psycopg.AsyncConnection.connect(url)
    assert sent == [r"a:b\c", "next"]
