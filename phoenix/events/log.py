"""The event log over PostgreSQL: stored rows are the truth, notifications only say when to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol
from uuid import UUID, uuid4

import psycopg
import structlog
from psycopg import sql

from phoenix.domain.run import Event
from phoenix.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

BATCH = 500


class ReadEvents(Protocol):
    """Reads stored events of a project in order."""

    def __call__(
        self, project_id: UUID, *, after: int, limit: int, kinds: Collection[str] = ()
    ) -> Awaitable[list[Event]]: ...


@dataclass(eq=False)
class Follower:
    """One who waits for news of a project; no kinds are all."""

    kinds: frozenset[str]
    news: asyncio.Event = field(default_factory=asyncio.Event)


class PostgresEventLog:
    """The port `EventLog`. One connection listens for all followers of this process.

    Args:
        conninfo: The database as libpq reads it.
        read: Reads stored events.
        channel: Where writers notify, with the project's id and the events' kinds as payload.
        poll_seconds: How often followers look without being notified.
        linger_seconds: How long the connection is kept when nobody follows.
    """

    def __init__(
        self,
        conninfo: str,
        read: ReadEvents,
        *,
        channel: str = "phoenix_events",
        poll_seconds: float = 1.0,
        linger_seconds: float = 10.0,
    ) -> None:
        self._conninfo = conninfo
        self._read = read
        self._channel = channel
        self._poll_seconds = poll_seconds
        self._linger_seconds = linger_seconds
        self._leaving: asyncio.TimerHandle | None = None
        self._waiting: dict[UUID, set[Follower]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._application = f"phoenix-events-{uuid4().hex[:12]}"

    async def __aenter__(self) -> PostgresEventLog:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening. Followers go on by polling."""
        self._stay()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            await asyncio.wait([listener])

    async def read(self, project_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        return await self._read(project_id, after=after, limit=limit)

    async def follow(
        self, project_id: UUID, *, after: int = 0, kinds: Collection[str] = ()
    ) -> AsyncIterator[Event]:
        with self._following(project_id, kinds) as follower:
            while True:
                # Cleared before reading: what is committed after the read sets it again.
                follower.news.clear()
                events = await self._read_or_none(project_id, after, follower.kinds)
                for event in events:
                    yield event
                    after = event.seq
                if len(events) < BATCH:
                    await self._news(follower.news)

    @asynccontextmanager
    async def watch(
        self, project_id: UUID, *, kinds: Collection[str] = ()
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        with self._following(project_id, kinds) as follower:

            async def news() -> None:
                await self._news(follower.news)
                follower.news.clear()

            yield news

    @contextmanager
    def _following(self, project_id: UUID, kinds: Collection[str]) -> Iterator[Follower]:
        self._stay()
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="event listener")
        follower = Follower(frozenset(kinds))
        self._waiting.setdefault(project_id, set()).add(follower)
        try:
            yield follower
        finally:
            self._waiting[project_id].discard(follower)
            if not self._waiting[project_id]:
                del self._waiting[project_id]
            if not self._waiting:
                # The next follower is often not far; later the connection is not kept for its own sake.
                self._stay()
                self._leaving = asyncio.get_running_loop().call_later(self._linger_seconds, self._leave)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _leave(self) -> None:
        if self._listener is not None and not self._waiting:
            self._listener.cancel()
            self._listener = None

    async def _read_or_none(self, project_id: UUID, after: int, kinds: frozenset[str]) -> list[Event]:
        try:
            return await self._read(project_id, after=after, limit=BATCH, kinds=kinds)
        except DatabaseUnavailable as error:
            log.info("events_unreadable", project_id=str(project_id), error=str(error))
            return []

    async def _news(self, news: asyncio.Event) -> None:
        # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the news.
        try:
            async with asyncio.timeout(self._poll_seconds):
                await news.wait()
        except TimeoutError:
            return

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except psycopg.OperationalError as error:
                log.info("event_listener_lost", error=str(error).strip())
            await asyncio.sleep(self._poll_seconds)

    async def _listen_once(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, application_name=self._application
        )
        async with connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            # What was committed while nobody listened was not notified.
            for project_id in list(self._waiting):
                self._wake(project_id)
            async for notice in connection.notifies():
                about, *kinds = notice.payload.split()
                self._wake(UUID(about), kinds)

    def _wake(self, project_id: UUID, kinds: Collection[str] = ()) -> None:
        for follower in self._waiting.get(project_id, ()):
            if not kinds or not follower.kinds or not follower.kinds.isdisjoint(kinds):
                follower.news.set()
