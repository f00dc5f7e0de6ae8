"""Turns: bounded concurrency in which no organisation and no project waits behind another's crowd."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Line = tuple[str, str]
"""Organisation and project."""


class Turns:
    """Gives so many places at once: to organisations in turn, and within each to its projects in turn."""

    def __init__(self, places: int) -> None:
        self.places = places
        """How many there are; a change counts from the next place that is given."""
        self._taken = 0
        self._waiting: OrderedDict[str, OrderedDict[str, deque[asyncio.Future[None]]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, line: Line) -> AsyncIterator[None]:
        """Hold a place; wait for it in the line's turn."""
        if self._taken < self.places and not self._waiting:
            self._taken += 1
        else:
            await self._wait(line)
        try:
            yield
        finally:
            self._taken -= 1
            self._give()

    async def _wait(self, line: Line) -> None:
        organisation, project = line
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        projects = self._waiting.setdefault(organisation, OrderedDict())
        projects.setdefault(project, deque()).append(mine)
        self._give()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                # The place was given at the same moment: somebody else has it now.
                self._taken -= 1
                self._give()
            raise

    def _give(self) -> None:
        while self._taken < self.places and self._waiting:
            waiter = self._next()
            if not waiter.done():
                self._taken += 1
                waiter.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        """Take the first of the project whose turn it is, and send project and organisation to the end."""
        organisation, projects = self._waiting.popitem(last=False)
        project, waiters = projects.popitem(last=False)
        waiter = waiters.popleft()
        if waiters:
            projects[project] = waiters
        if projects:
            self._waiting[organisation] = projects
        return waiter
