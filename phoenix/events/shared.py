"""One tail of the log for all who read the same project in this process.

Each reader of `PostgresEventLog` reads the database for itself. With hundreds of readers on one project
that is hundreds of equal queries an event; here one reader reads, and the rest take what it has read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, cast
from uuid import UUID

from phoenix.domain.run import Event
from phoenix.ports import EventLog

KEPT = 500
"""Events of a project that are kept for readers who are a little behind; older ones are read from the log."""


class _Tail:
    """The last events of one project, and the one task that reads them."""

    def __init__(self, log: EventLog, project_id: UUID, after: int) -> None:
        self.start = after
        """The ring holds every event after this number, up to `end`."""
        self.end = after
        self.readers = 0
        self._ring: deque[Event] = deque()
        self._news = asyncio.Event()
        self._log = log
        self._task = asyncio.create_task(self._read(project_id), name=f"events of {project_id}")
        self._task.add_done_callback(lambda _: self._news.set())

    async def _read(self, project_id: UUID) -> None:
        # The port declares no more than an iterator; what follows a project can be closed.
        followed = cast("Any", self._log.follow(project_id, after=self.end))
        async with aclosing(followed) as events:
            async for event in events:
                self._ring.append(event)
                self.end = event.seq
                if len(self._ring) > KEPT:
                    self.start = self._ring.popleft().seq
                self._news.set()

    def after(self, seq: int) -> list[Event] | None:
        """Return the events after a number; None when they are older than what is kept."""
        if seq < self.start:
            return None
        if seq >= self.end:
            return []
        # Numbers have no gap, so the place of an event in the ring is known.
        return [self._ring[n] for n in range(seq - self.start, len(self._ring))]

    async def news(self, seq: int) -> None:
        """Wait until there is an event after a number.

        Raises:
            Exception: what the reading task failed with.
        """
        while self.end <= seq:
            if self._task.done():
                self._task.result()
                return
            # Everybody waits at the same event, which is another one after each waking.
            if self._news.is_set():
                self._news = asyncio.Event()
            await self._news.wait()

    async def aclose(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.wait([self._task])


class SharedEventLog:
    """The port `EventLog` over another one; the readers of a project share one tail."""

    def __init__(self, log: EventLog, *, batch: int = 200) -> None:
        self._log = log
        self._batch = batch
        self._tails: dict[UUID, _Tail] = {}

    async def read(self, project_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        return await self._log.read(project_id, after=after, limit=limit)

    def watch(
        self, project_id: UUID, *, kinds: Collection[str] = ()
    ) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        return self._log.watch(project_id, kinds=kinds)

    async def follow(
        self, project_id: UUID, *, after: int = 0, kinds: Collection[str] = ()
    ) -> AsyncIterator[Event]:
        # Whoever waits for a few kinds is woken by those alone, which a tail of everything is not.
        found = (
            self._log.follow(project_id, after=after, kinds=kinds) if kinds else self._all(project_id, after)
        )
        async with aclosing(cast("Any", found)) as events:
            async for event in events:
                yield event

    async def _all(self, project_id: UUID, after: int) -> AsyncIterator[Event]:
        while True:
            stored = await self._log.read(project_id, after=after, limit=self._batch)
            for event in stored:
                yield event
                after = event.seq
            if len(stored) < self._batch:
                break
        async with aclosing(cast("Any", self._live(project_id, after))) as events:
            async for event in events:
                yield event

    async def _live(self, project_id: UUID, after: int) -> AsyncIterator[Event]:
        tail = self._tails.get(project_id)
        if tail is None:
            tail = self._tails[project_id] = _Tail(self._log, project_id, after)
        tail.readers += 1
        try:
            while True:
                fresh = tail.after(after)
                if fresh is None:
                    fresh = await self._log.read(project_id, after=after, limit=self._batch)
                for event in fresh:
                    yield event
                    after = event.seq
                if not fresh:
                    await tail.news(after)
        finally:
            tail.readers -= 1
            if not tail.readers:
                self._tails.pop(project_id, None)
                await tail.aclose()
