"""The port EventLog: replay, then live, without gap or repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.run import Event, Project
from phoenix.errors import DatabaseUnavailable
from phoenix.events.log import PostgresEventLog
from phoenix.storage import projects
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.events import EventRows


class Rig:
    """A log, its writers, and projects to write about."""

    def __init__(self, database: AsyncEngine, log: PostgresEventLog) -> None:
        self.database = database
        self.log = log
        self.rows = EventRows(database)

    async def project(self) -> UUID:
        project = Project(id=uuid4(), title="T", requirement="R", model="m", created_at=datetime.now(UTC))
        async with transaction(self.database) as connection:
            await projects.add(connection, project)
        return project.id

    async def write(self, project_id: UUID, *numbers: int) -> None:
        for n in numbers:
            await self.rows.append(project_id, "thing_happened", {"n": n})

    async def take(self, project_id: UUID, count: int, *, after: int = 0, seconds: float = 5) -> list[int]:
        """Follow until there are so many events, and return their numbers."""
        seen: list[int] = []
        async with (
            asyncio.timeout(seconds),
            aclosing(cast("Any", self.log.follow(project_id, after=after))) as found,
        ):
            async for event in found:
                seen.append(event.seq)
                if len(seen) == count:
                    break
        return seen


@asynccontextmanager
async def open_rig(url: str, *, poll_seconds: float, listen: str = "") -> AsyncIterator[Rig]:
    database = connect(url)
    rows = EventRows(database)
    async with PostgresEventLog(listen or conninfo(url), rows.read, poll_seconds=poll_seconds) as log:
        yield Rig(database, log)
    await database.dispose()


@pytest.fixture(params=["listening", "polling"])
async def rig(request: pytest.FixtureRequest, migrated_database_url: str) -> AsyncIterator[Rig]:
    """Return a log that is notified, or one that nobody notifies and that must poll."""
    if request.param == "listening":
        opened = open_rig(migrated_database_url, poll_seconds=30)
    else:
        opened = open_rig(
            migrated_database_url, poll_seconds=0.05, listen="postgresql://nobody@127.0.0.1:1/nothing"
        )
    async with opened as rig:
        yield rig


async def test_stored_events_are_replayed_in_order(rig: Rig) -> None:
    """A reader that comes late misses nothing."""
    project_id = await rig.project()
    await rig.write(project_id, *range(5))
    assert await rig.take(project_id, 5) == [1, 2, 3, 4, 5]
    assert await rig.take(project_id, 2, after=3) == [4, 5]
    assert [e.data["n"] for e in await rig.log.read(project_id, after=1, limit=2)] == [1, 2]


async def test_a_reader_goes_on_live(rig: Rig) -> None:
    """What is written while it reads arrives."""
    project_id = await rig.project()
    await rig.write(project_id, 0)
    reading = asyncio.create_task(rig.take(project_id, 4))
    await asyncio.sleep(0.2)
    await rig.write(project_id, 1, 2, 3)
    assert await reading == [1, 2, 3, 4]


async def test_readers_of_concurrent_writers_see_no_gap_and_no_repeat(rig: Rig) -> None:
    """Order and numbers are the same for every reader, wherever it begins."""
    project_id = await rig.project()
    readers = [asyncio.create_task(rig.take(project_id, 60 - n, after=n, seconds=15)) for n in (0, 7, 30)]
    await asyncio.gather(*(rig.write(project_id, *range(10)) for _ in range(6)))
    everything = list(range(1, 61))
    assert await asyncio.gather(*readers) == [everything, everything[7:], everything[30:]]


async def test_projects_do_not_see_each_others_events(rig: Rig) -> None:
    """A reader follows one project."""
    first, second = await rig.project(), await rig.project()
    reading = asyncio.create_task(rig.take(first, 2))
    await rig.write(second, 1, 2, 3)
    await rig.write(first, 8, 9)
    assert await reading == [1, 2]


async def test_a_lost_listener_connects_again(migrated_database_url: str) -> None:
    """Events written while nobody listened arrive, and later ones without polling."""
    async with open_rig(migrated_database_url, poll_seconds=0.3) as rig:
        project_id = await rig.project()
        reading = asyncio.create_task(rig.take(project_id, 3))
        await asyncio.sleep(0.2)
        await rig.write(project_id, 1)
        async with rig.database.begin() as connection:
            ended = await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'phoenix-events-%'"
                )
            )
            assert len(ended.all()) == 1
        await rig.write(project_id, 2, 3)
        assert await reading == [1, 2, 3]


async def test_a_follower_outlives_an_unreachable_database(migrated_database_url: str) -> None:
    """Reading again is tried until it works."""
    database = connect(migrated_database_url)
    rows = EventRows(database)
    failures = iter([True, True])

    async def read(project_id: UUID, *, after: int, limit: int) -> Any:
        if next(failures, False):
            raise DatabaseUnavailable
        return await rows.read(project_id, after=after, limit=limit)

    async with PostgresEventLog(conninfo(migrated_database_url), read, poll_seconds=0.05) as log:
        rig = Rig(database, log)
        project_id = await rig.project()
        await rig.write(project_id, 1)
        assert await rig.take(project_id, 1) == [1]
    await database.dispose()


async def test_an_ended_follower_leaves_nothing_behind(rig: Rig) -> None:
    """Followers that stop are forgotten."""
    project_id = await rig.project()
    await rig.write(project_id, 1)
    await rig.take(project_id, 1)
    assert rig.log._waiting == {}
    assert rig.log._listener is None
    assert await rig.take(project_id, 1) == [1]


async def test_a_follower_that_is_cancelled_together_with_news_ends() -> None:
    """The cancellation is not lost, or who waits for the follower's end would wait for ever."""

    async def nothing(*_: object, **__: object) -> list[Event]:
        return []

    async with PostgresEventLog("", nothing) as log:
        news = asyncio.Event()

        async def follow() -> None:
            while True:
                await log._news(news)
                news.clear()

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.01)
        news.set()
        await asyncio.sleep(0)
        following.cancel()
        await asyncio.wait([following], timeout=0.5)
        assert following.cancelled()
