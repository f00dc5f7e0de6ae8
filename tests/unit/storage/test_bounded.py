"""A database that hangs, or has no connection left, is given up in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from sqlalchemy import text

from phoenix.errors import DatabaseUnavailable
from phoenix.storage.bounded import connect_bounded
from phoenix.storage.database import connect, conninfo, transaction

LONGEST_SECONDS = 8.0


class Proxy:
    """A unix socket in front of the server's; it can stop passing anything on while all stays connected."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.flows = asyncio.Event()
        self.flows.set()

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._connected, self.folder / ".s.PGSQL.5432")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self.server)
        with suppress(ConnectionError):
            await asyncio.gather(self._pass(reader, server_writer), self._pass(server_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.fixture
async def proxy(database_url: str, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Return a proxy that listens in front of the test's database."""
    folder = parse_qs(urlsplit(database_url).query).get("host", [""])[0]
    if not folder:
        pytest.skip("the given server has no unix socket to stand in front of")
    made = Proxy(Path(folder) / ".s.PGSQL.5432", tmp_path)
    server = await made.serve()
    yield made
    made.flows.set()
    server.close()


def through(proxy: Proxy, url: str) -> str:
    """Return the URL of the same database by way of the proxy."""
    return f"{url.split('?', maxsplit=1)[0]}?host={quote(str(proxy.folder))}&port=5432"


async def test_a_hung_server_is_given_up(proxy: Proxy, database_url: str) -> None:
    """A statement that is never answered ends in the error that callers know, and the next one works."""
    engine = connect(through(proxy, database_url), answer_seconds=0.3)

    async def hang() -> None:
        async with transaction(engine) as connection:
            proxy.flows.clear()
            await connection.execute(text("SELECT 1"))

    async with asyncio.timeout(LONGEST_SECONDS):
        with pytest.raises(DatabaseUnavailable, match="not answered"):
            await hang()
    proxy.flows.set()
    async with transaction(engine) as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await engine.dispose()


async def test_a_server_that_hangs_between_transactions_is_given_up(proxy: Proxy, database_url: str) -> None:
    """A connection that hangs in the pool is noticed before it is used."""
    engine = connect(through(proxy, database_url), answer_seconds=0.3)
    async with transaction(engine) as connection:
        await connection.execute(text("SELECT 1"))
    proxy.flows.clear()
    asyncio.get_running_loop().call_later(1, proxy.flows.set)
    async with asyncio.timeout(LONGEST_SECONDS), transaction(engine) as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await engine.dispose()


async def test_an_exhausted_pool_is_no_crash(database_url: str) -> None:
    """Whoever finds no free connection for too long hears that the database is not available."""
    engine = connect(database_url, pool_size=1, pool_seconds=0.2)
    async with transaction(engine), transaction(engine):
        with pytest.raises(DatabaseUnavailable, match="in use"):
            async with transaction(engine):
                pass
    await engine.dispose()


async def test_waiting_for_notifications_has_no_limit(database_url: str) -> None:
    """A listener outlives the time that a statement may take."""
    listener = await connect_bounded(conninfo(database_url), answer_seconds=0.2, autocommit=True)
    teller = await connect_bounded(conninfo(database_url), autocommit=True)
    async with listener, teller:
        await listener.execute("LISTEN news")
        asyncio.get_running_loop().call_later(
            0.6, lambda: asyncio.ensure_future(teller.execute("NOTIFY news"))
        )
        async with asyncio.timeout(LONGEST_SECONDS):
            async for notice in listener.notifies(stop_after=1):
                assert notice.channel == "news"
