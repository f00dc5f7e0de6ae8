"""What every test may use: a clean environment and real PostgreSQL databases."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
import structlog
from hypothesis import settings
from psycopg import sql

from phoenix.storage.embedded import EmbeddedPostgres

GIVEN_SERVER = os.environ.get("PHOENIX_TEST_DATABASE_URL", "")
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "1GB"}
"""Tests ask for no durability of the machine, only of processes."""

settings.register_profile("phoenix", database=None, deadline=None)
settings.load_profile("phoenix")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide the machine's settings and keys from the test, and give it a home of its own."""
    for name in list(os.environ):
        if re.match(
            r"PHOENIX_|OPENAI_|ANTHROPIC_|OLLAMA_|LANGSMITH_|LANGCHAIN_|LANGGRAPH_|DATABASE_URL$|PG", name
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path_factory.getbasetemp() / "phoenix-home"))


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a server whose account may create databases; all workers share it."""
    if GIVEN_SERVER:
        yield GIVEN_SERVER
        return
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    server = EmbeddedPostgres(shared / "postgres", options=FAST)
    yield asyncio.run(server.start())
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def _databases(postgres_url: str) -> Iterator[Databases]:
    databases = Databases(postgres_url)
    yield databases
    asyncio.run(databases.drop_templates())


@pytest.fixture
async def database_url(_databases: Databases) -> AsyncIterator[str]:
    """Return the URL of a fresh, empty database."""
    name = await _databases.create()
    yield _databases.url(name)
    await _databases.drop(name)


@pytest.fixture
async def migrated_database_url(_databases: Databases) -> AsyncIterator[str]:
    """Return the URL of a fresh database with Phoenix's schema, without rows."""
    name = await _databases.create_migrated()
    yield _databases.url(name)
    await _databases.drop(name)


class Databases:
    """Databases made for single tests on one server."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.template = ""

    def url(self, name: str) -> str:
        """Return the server's URL with another database in it."""
        return urlunsplit(urlsplit(self.server)._replace(path=f"/{name}"))

    async def create(self, template: str = "template0") -> str:
        """Create a database and return its name."""
        name = f"test_{uuid4().hex}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8' STRATEGY wal_log")
        await self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    async def create_migrated(self) -> str:
        """Create a database with Phoenix's schema; the migrations run once per process."""
        if not self.template:
            from phoenix.storage.migrate import upgrade

            name = await self.create()
            await upgrade(self.url(name))
            self.template = name
        return await self.create(self.template)

    async def drop(self, name: str) -> None:
        """Drop a database and end whoever is still connected to it."""
        await self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    async def drop_role(self, name: str) -> None:
        """Drop a role that owns nothing any more."""
        await self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    async def grant(self, role: str, account: str) -> None:
        """Let an account become a role."""
        grant = sql.SQL("GRANT {} TO {}")
        await self._execute(grant.format(sql.Identifier(role), sql.Identifier(account)))

    async def drop_templates(self) -> None:
        if self.template:
            await self.drop(self.template)

    async def _execute(self, statement: sql.Composed) -> None:
        async with await psycopg.AsyncConnection.connect(self.server, autocommit=True) as connection:
            await connection.execute(statement)


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """Take away how a test set logs up: what is left would write to a stream that ends with its test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()
