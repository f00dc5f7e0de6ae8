"""A connection that waits for the server only so long.

TCP keeps a connection to a hung server, or through a hung proxy, open for ever: neither
`statement_timeout`, which that server would have to act on, nor keepalives, which its kernel answers, help.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg import Notify
from psycopg.abc import PQGen

ANSWER_SECONDS = 30.0
"""How long one statement may take."""

FRESH_SECONDS = 1.0
"""A connection that was unused for longer may have been lost unseen."""

SIGNAL_SECONDS = 60.0
"""How often the driver looks for Ctrl-C while it waits, ten times a second by itself: asyncio's cancelling
interrupts a wait at once, so that an idle worker need not turn for each connection that listens."""

T = TypeVar("T")


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """Raises OperationalError when a statement is not answered in time, and is broken then."""

    answer_seconds = ANSWER_SECONDS
    _listens = False
    _is_given_up = False
    _answered_at = 0.0

    @property
    def has_just_answered(self) -> bool:
        """Whether the server has answered so short a time ago that it need not be asked again."""
        now = asyncio.get_running_loop().time()
        return not self.closed and now - self._answered_at < FRESH_SECONDS

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = SIGNAL_SECONDS,
        timeout: float | None = None,
    ) -> T:
        """Wait as the driver does, but not for ever; only `notifies` has no limit of its own."""
        if timeout is not None or self._listens:
            return await super().wait(gen, interval, timeout)
        loop = asyncio.get_running_loop()
        given_up = loop.call_later(self.answer_seconds, self._give_up)
        try:
            result = await super().wait(gen, interval)
        except psycopg.OperationalError as error:
            if self._is_given_up:
                raise psycopg.OperationalError(
                    f"the server has not answered for {self.answer_seconds:g} s"
                ) from error
            raise
        finally:
            given_up.cancel()
        self._answered_at = loop.time()
        return result

    def _give_up(self) -> None:
        """Break the connection: a cancel would have to be answered by the same server."""
        self._is_given_up = True
        with socket.socket(fileno=os.dup(self.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)

    async def notifies(
        self,
        *,
        timeout: float | None = None,
        stop_after: int | None = None,
    ) -> AsyncGenerator[Notify]:
        """Wait for notifications, however long none comes."""
        self._listens = True
        try:
            async for notice in super().notifies(timeout=timeout, stop_after=stop_after):
                yield notice
        finally:
            self._listens = False


async def connect_bounded(
    conninfo: str = "", *, answer_seconds: float = ANSWER_SECONDS, **options: Any
) -> BoundedConnection:
    """Return a connection whose statements take at most so long."""
    connection = await BoundedConnection.connect(conninfo, **options)
    connection.answer_seconds = answer_seconds
    return connection


def creator(answer_seconds: float) -> partial[Any]:
    """Return what SQLAlchemy makes its connections with."""
    return partial(connect_bounded, answer_seconds=answer_seconds)
