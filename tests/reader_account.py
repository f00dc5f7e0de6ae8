"""An account of the tests' server for dashboards, as an operator makes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.conftest import Databases
from tests.integration.api.test_wall import let_in


@asynccontextmanager
async def account(url: str) -> AsyncIterator[tuple[str, str]]:
    """Make an account; yield its name, and the URL by which it reaches a database. It goes at the end."""
    await let_in(Databases(url))
    name = f"plain_reader_{uuid4().hex[:12]}"
    make = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'plain'")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(make.format(sql.Identifier(name)))
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        yield name, urlunsplit(parts._replace(netloc=f"{name}:plain@{host}"))
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
            await connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
