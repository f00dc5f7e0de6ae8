"""Connections of the checkpointer: few, opened when needed, thrown away when in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor

from phoenix.checkpoints.wire import prepare

CONNECT_TIMEOUT_SECONDS = 10

Connect = Callable[..., Awaitable[AsyncConnection[Any]]]
"""Opens a connection as `psycopg.AsyncConnection.connect` does."""

Row = tuple[Any, ...]


class Lines:
    """Up to `most` connections to one database, each statement of which is a transaction of its own.

    Args:
        url: A database, as libpq reads it.
        connect: Opens a connection; give one whose statements end in bounded time.
        most: Open at once; who asks for one more waits.
    """

    def __init__(self, url: str, connect: Connect, most: int) -> None:
        self._url = url
        self._connect = connect
        self._free: list[AsyncConnection[Any]] = []
        self._places = asyncio.Semaphore(most)

    @asynccontextmanager
    async def line(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection; after an error or a cancellation it is closed, since nobody knows its state.

        Raises:
            psycopg.OperationalError: the database does not answer.
        """
        async with self._places:
            connection = self._free.pop() if self._free else await self._open()
            try:
                yield connection
            except BaseException:
                await connection.close()
                raise
            self._free.append(connection)

    async def fetch(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run one statement in a transaction of its own, prepared once a connection; return its rows."""
        async with self.line() as connection:
            cursor = AsyncRawCursor(connection)
            await cursor.execute(statement, values, binary=True)
            return await cursor.fetchall()

    async def close(self) -> None:
        """Close what nobody uses."""
        while self._free:
            await self._free.pop().close()

    async def _open(self) -> AsyncConnection[Any]:
        connection = await self._connect(
            self._url, autocommit=True, prepare_threshold=0, connect_timeout=CONNECT_TIMEOUT_SECONDS
        )
        prepare(connection)
        # Arrays of thousands of ids would be planned anew with each batch, only to find the same plan.
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        return connection


def is_lost(error: psycopg.Error) -> bool:
    """Tell whether a statement may succeed when it is sent again, unchanged."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    # Class 54 is a value beyond PostgreSQL's limits: it would be refused for ever.
    return not (error.sqlstate or "").startswith("54")
