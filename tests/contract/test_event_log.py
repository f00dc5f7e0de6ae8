"""The port EventLog: replay, then live, without gap or repeat."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
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
from phoenix.events.shared import KEPT, SharedEventLog
from phoenix.ports import EventLog
from phoenix.storage import events, projects
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.event_batch import EventBatches
from phoenix.storage.events import EventRows

LINGER_SECONDS = 0.1

Append = Callable[[UUID, str, dict[str, Any]], Awaitable[object]]


class Rig:
    """A log, its writers, and projects to write about."""

    def __init__(self, database: AsyncEngine, log: EventLog, append: Append | None = None) -> None:
        self.database = database
        self.log = log
        self.rows = EventRows(database)
        self._append = append or self.rows.append

    @property
    def tail(self) -> PostgresEventLog:
        """The log that reads the database, below a shared one."""
        if isinstance(self.log, SharedEventLog):
            assert self.log._tails == {}
        return self.tail_of()

    def tail_of(self) -> PostgresEventLog:
        """Return the log that reads the database, whoever reads a shared one."""
        log = self.log._log if isinstance(self.log, SharedEventLog) else self.log
        assert isinstance(log, PostgresEventLog)
        return log

    async def project(self) -> UUID:
        project = Project(id=uuid4(), title="T", requirement="R", model="m", created_at=datetime.now(UTC))
        async with transaction(self.database) as connection:
            await projects.add(connection, project)
        return project.id

    async def write(self, project_id: UUID, *numbers: int) -> None:
        for n in numbers:
            await self._append(project_id, "thing_happened", {"n": n})

    async def take(
        self,
        project_id: UUID,
        count: int,
        *,
        after: int = 0,
        seconds: float = 5,
        kinds: Collection[str] = (),
    ) -> list[int]:
        """Follow until there are so many events, and return their numbers."""
        seen: list[int] = []
        async with (
            asyncio.timeout(seconds),
            aclosing(cast("Any", self.log.follow(project_id, after=after, kinds=kinds))) as found,
        ):
            async for event in found:
                seen.append(event.seq)
                if len(seen) == count:
                    break
        return seen


@asynccontextmanager
async def open_rig(
    url: str, *, poll_seconds: float, listen: str = "", batches: bool = False, shared: bool = False
) -> AsyncIterator[Rig]:
    database = connect(url)
    rows = EventRows(database)
    opened = PostgresEventLog(
        listen or conninfo(url), rows.read, poll_seconds=poll_seconds, linger_seconds=LINGER_SECONDS
    )
    async with opened as log, EventBatches(conninfo(url)).open() as written:
        read = SharedEventLog(log, batch=3) if shared else log
        yield Rig(database, read, written.append if batches else None)
    await database.dispose()


@pytest.fixture(params=["listening", "polling", "listening-batches", "polling-batches", "listening-shared"])
async def rig(request: pytest.FixtureRequest, migrated_database_url: str) -> AsyncIterator[Rig]:
    """Return a log that is notified, must poll, or is shared, with events written singly or in batches."""
    how = request.param.split("-")
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    listens = how[0] == "listening"
    async with open_rig(
        migrated_database_url,
        poll_seconds=30 if listens else 0.05,
        listen="" if listens else nowhere,
        batches="batches" in how,
        shared="shared" in how,
    ) as rig:
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


async def test_who_watches_is_woken_and_misses_nothing_from_entering_on(rig: Rig) -> None:
    """An event between entering and waiting counts; other kinds wake nobody who listens."""
    project_id, other = await rig.project(), await rig.project()
    async with rig.log.watch(project_id, kinds={"thing_happened"}) as news, asyncio.timeout(10):
        await rig.write(project_id, 0)
        await news()
        # A listener that has just begun wakes once for what it missed, and the event may come after that.
        await asyncio.sleep(0.3)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await news()
        waiting = asyncio.ensure_future(news())
        await rig.write(other, 0)
        await rig._append(project_id, "other_happened", {})
        await asyncio.sleep(0.3)
        # Whoever cannot listen looks every now and then.
        assert waiting.done() is (rig.tail_of()._poll_seconds < 1)
        await rig.write(project_id, 1)
        await waiting


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

    async def read(project_id: UUID, *, after: int, limit: int, kinds: Collection[str] = ()) -> Any:
        if next(failures, False):
            raise DatabaseUnavailable
        return await rows.read(project_id, after=after, limit=limit, kinds=kinds)

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
    assert rig.tail._waiting == {}
    await asyncio.sleep(2 * LINGER_SECONDS)
    assert rig.tail._listener is None
    assert await rig.take(project_id, 1) == [1]


async def test_the_listener_stays_for_the_next_follower(rig: Rig) -> None:
    """Followers that come one after the other share its connection."""
    project_id = await rig.project()
    await rig.write(project_id, 1)
    await rig.take(project_id, 1)
    listener = rig.tail._listener
    await rig.take(project_id, 1)
    # A shared log reads what is stored without following anything.
    assert (listener is not None) is isinstance(rig.log, PostgresEventLog)
    assert rig.tail._listener is listener


async def test_a_follower_of_some_kinds_sees_only_those(rig: Rig) -> None:
    """Others are left out, from what is stored and from what comes."""
    project_id = await rig.project()
    await rig.rows.append(project_id, "run_finished", {})
    await rig.write(project_id, 1)
    reading = asyncio.create_task(rig.take(project_id, 2, kinds=["run_finished", "run_failed"]))
    await asyncio.sleep(0.2)
    await rig.write(project_id, 2, 3)
    await rig.rows.append(project_id, "run_failed", {})
    assert await reading == [1, 5]


async def test_other_kinds_wake_no_follower(migrated_database_url: str) -> None:
    """Waiting for a run's end costs nothing while its steps leave events."""
    async with open_rig(migrated_database_url, poll_seconds=30) as rig:
        project_id = await rig.project()
        reads = 0
        read = rig.log._read

        async def counted(*given: Any, **named: Any) -> list[Event]:
            nonlocal reads
            reads += 1
            return await read(*given, **named)

        rig.log._read = cast("Any", counted)
        reading = asyncio.create_task(rig.take(project_id, 1, kinds=["run_finished"]))
        await asyncio.sleep(0.3)
        before = reads
        await rig.write(project_id, *range(10))
        await asyncio.sleep(0.2)
        assert reads == before
        await rig.rows.append(project_id, "run_finished", {})
        assert await reading == [11]


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


async def test_a_reader_far_behind_misses_nothing(migrated_database_url: str) -> None:
    """What is no longer kept for all is read from the log."""
    async with open_rig(migrated_database_url, poll_seconds=30, shared=True) as rig:
        project_id = await rig.project()
        await rig.write(project_id, 0)
        followed = cast("Any", rig.log.follow(project_id))
        slow = [(await anext(followed)).seq]
        pending = asyncio.ensure_future(anext(followed))
        await asyncio.sleep(0.1)
        count = KEPT + 50
        async with transaction(rig.database) as connection:
            for n in range(count):
                await events.append(connection, project_id, "thing_happened", {"n": n})
        assert len(await rig.take(project_id, count + 1, seconds=30)) == count + 1
        async with asyncio.timeout(20):
            slow.append((await pending).seq)
            slow += [(await anext(followed)).seq for _ in range(count - 1)]
        await followed.aclose()
    assert slow == list(range(1, count + 2))
