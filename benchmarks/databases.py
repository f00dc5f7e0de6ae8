"""Databases for measurements: on the server given, or on one started for them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg

from phoenix.storage.embedded import EmbeddedPostgres


@asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    """Return the URL of the server given, or of one started for the measurement."""
    given = os.environ.get("PHOENIX_TEST_DATABASE_URL", "")
    if given:
        yield given
        return
    with TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder)) as url:
            yield url


async def cpu_seconds(server: str) -> float:
    """Return the processor time that a PostgreSQL server has used so far; 0 for one of another machine."""
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        found = await connection.execute("SELECT pg_read_file('postmaster.pid')")
        row = await found.fetchone()
    try:
        main = psutil.Process(int(str(row[0]).split()[0]) if row else 0)
        own = main.cpu_times()
        used = own.user + own.system + own.children_user + own.children_system
        for child in main.children():
            with suppress(psutil.NoSuchProcess):
                used += child.cpu_times().user + child.cpu_times().system
    except psutil.Error:
        return 0.0
    return float(used)


async def fresh(server: str, name: str) -> str:
    """Make an empty database and return its URL."""
    name = f"bench_{name.replace(' ', '_')}_{os.getpid()}".lower()
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        await connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def drop(server: str, url: str) -> None:
    """Drop a database of this measurement."""
    name = urlsplit(url).path[1:]
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
