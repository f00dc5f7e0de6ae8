"""Statements that are transactions of their own: one message to the server, one back.

They go through the driver, on the connections of the queue, which commit each statement and keep it
prepared. What needs several statements goes through `phoenix.storage.database.transaction`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import psycopg
from procrastinate import App, PsycopgConnector
from psycopg import AsyncRawCursor
from psycopg_pool import AsyncConnectionPool

from phoenix.errors import DatabaseUnavailable, DiskFull, PhoenixError
from phoenix.storage.bounded import BoundedConnection
from phoenix.telemetry import tracing

Row = tuple[Any, ...]
A = TypeVar("A")
R = TypeVar("R")

FULL = 100
"""Callers that one statement serves at most."""


async def is_fresh_or_lives(connection: psycopg.AsyncConnection[Any]) -> None:
    """Ask the server whether a connection lives, unless it has just shown that.

    Raises:
        OperationalError: it does not.
    """
    if not (isinstance(connection, BoundedConnection) and connection.has_just_answered):
        await connection.execute("")


async def commit_each(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let each statement of a connection be a transaction."""
    await connection.set_autocommit(True)


def make_pool(*_: Any, **options: Any) -> AsyncConnectionPool[Any]:
    """Return a pool whose statements commit by themselves, are prepared, and end in bounded time."""
    options |= {"check": is_fresh_or_lives, "configure": commit_each, "connection_class": BoundedConnection}
    return AsyncConnectionPool(**options)


class Direct:
    """Runs statements on the connections of a queue that is open."""

    def __init__(self, queue: App) -> None:
        self._queue = queue

    async def fetch(self, statement: str, values: Sequence[Any]) -> list[Row]:
        """Run a statement, whose parameters are `$1` and so on, and commit it.

        Raises:
            DatabaseUnavailable: the database does not answer, or nobody can tell whether it was done.
            DiskFull: it has no space left.
        """
        connector = self._queue.connector
        if not isinstance(connector, PsycopgConnector):
            raise TypeError("the queue does not run on psycopg")
        try:
            with tracing.leaf("sql", "statement", db__system__name="postgresql"):
                async with connector.pool.connection() as connection:
                    cursor = AsyncRawCursor(connection)
                    await cursor.execute(statement, values, binary=True)
                    return await cursor.fetchall()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise unavailable(error) from error


def unavailable(error: psycopg.Error) -> PhoenixError:
    """Return what Phoenix raises where the database cannot be used."""
    if isinstance(error, psycopg.errors.DiskFull):
        return DiskFull(
            f"The database is out of space: {str(error).strip()}",
            hint="Free some there; work goes on by itself.",
        )
    return DatabaseUnavailable(
        f"The database cannot be reached: {str(error).strip()}",
        hint="Check that it runs; work goes on by itself when it is back.",
    )


class Together(Generic[A, R]):
    """Does in one statement what several callers want at the same time: what comes while one is under way
    goes with the next.

    Args:
        send: Returns the answer to each item, in order; an exception is raised in the one caller.
        at_once: How many statements may be under way.
    """

    def __init__(
        self, send: Callable[[list[A]], Awaitable[Sequence[R | Exception]]], *, at_once: int = 1
    ) -> None:
        self._send = send
        self._at_once = at_once
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._sending = 0
        self._is_gathering = False

    async def __call__(self, item: A) -> R:
        """Return the answer to an item. It is done even when the caller is cancelled meanwhile."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, answer))
        if not self._is_gathering and self._sending < self._at_once:
            self._sending += 1
            self._is_gathering = True
            sender = loop.create_task(self._send_all(), name="together")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await answer

    async def _send_all(self) -> None:
        tracing.apart()
        try:
            while self._waiting:
                self._is_gathering = True
                try:
                    # Those that come in this turn of the loop go together.
                    await asyncio.sleep(0)
                finally:
                    self._is_gathering = False
                count = min(FULL, len(self._waiting))
                # Another sender may have taken them meanwhile.
                if count:
                    await self._serve([self._waiting.popleft() for _ in range(count)])
        finally:
            self._sending -= 1

    async def _serve(self, batch: list[tuple[A, asyncio.Future[R]]]) -> None:
        try:
            found = await self._send([item for item, _ in batch])
            if len(found) != len(batch):
                raise RuntimeError(f"{len(found)} answers to {len(batch)} questions")
        except psycopg.Error as error:
            if len(batch) > 1:
                # One of them spoils the statement for all: each goes alone.
                for one in batch:
                    await self._serve([one])
                return
            found = [error]
        except Exception as error:  # noqa: BLE001 whatever it is, whoever waits must hear of it
            found = [error] * len(batch)
        except asyncio.CancelledError:
            for _, answer in batch:
                answer.cancel()
            raise
        for (_, answer), outcome in zip(batch, found, strict=True):
            _answer(answer, outcome)


def _answer(answer: asyncio.Future[Any], outcome: Any) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
