"""Events of all runs of a process, written many at a time: one statement and one commit for what waits.

Each project's numbers stay gapless and in the order of commits, as `events.append` has them: the statement
holds the rows of the projects it numbers. A row that another transaction holds is skipped, and its events
wait for the next batch, so that one project never delays the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg

from phoenix.domain.cleaning import clean_dump
from phoenix.errors import DatabaseUnavailable, NotFound, PhoenixError, StorageError
from phoenix.storage.bounded import BoundedConnection, connect_bounded
from phoenix.storage.events import CHANNEL
from phoenix.telemetry.metrics import EVENT_SECONDS
from phoenix.telemetry.observing import observe
from phoenix.telemetry.redaction import mask_json

FULL = 200
"""Events of one statement."""
TURNS = 2
"""Turns of the event loop that a batch waits for more: runs that go on together write together."""
HELD_SECONDS = 0.005
"""Pause before rows are tried again that other transactions hold."""
IDLE_SECONDS = 1.0
"""A connection unused for so long may have been lost unseen."""
CONNECT_SECONDS = 10
STOP_SECONDS = 5.0
"""How long the end waits for what is not yet written."""

_APPEND = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb)
        AS g (n integer, project_id uuid, run_id uuid, kind text, data jsonb)
), counted AS (
    SELECT project_id, count(*) AS events, string_agg(DISTINCT kind, ' ') AS kinds FROM given GROUP BY 1
), held AS (
    SELECT id FROM projects WHERE id = ANY (SELECT project_id FROM counted)
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), raised AS (
    UPDATE projects p SET last_event = p.last_event + c.events FROM counted c
    WHERE p.id = c.project_id AND p.id IN (SELECT id FROM held)
    RETURNING p.id, p.last_event - c.events AS before, c.kinds
), stored AS (
    INSERT INTO events (project_id, seq, run_id, kind, data)
    SELECT g.project_id, r.before + row_number() OVER (PARTITION BY g.project_id ORDER BY g.n),
        g.run_id, g.kind, g.data
    FROM given g JOIN raised r ON r.id = g.project_id
    ORDER BY g.n
)
SELECT id, pg_notify(%s, id || CASE WHEN length(kinds) < 7000 THEN ' ' || kinds ELSE '' END) FROM raised
"""

_MISSING = "SELECT g FROM unnest(%s::uuid[]) AS g WHERE NOT EXISTS (SELECT FROM projects WHERE id = g)"


@dataclass(slots=True, eq=False)
class _Given:
    """One event that waits; `done` is answered once it is committed."""

    project_id: UUID
    run_id: UUID | None
    kind: str
    data: bytes
    """JSON, clean."""
    done: asyncio.Future[None]
    since: float
    """When it was given, on the event loop's clock."""


class EventBatches:
    """Appends events of any project; use it within `open`.

    Args:
        conninfo: The database as libpq reads it.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self.application = f"phoenix-batches-{uuid4().hex[:12]}"
        self._waiting: deque[_Given] = deque()
        self._unwritten: set[asyncio.Future[None]] = set()
        self._news = asyncio.Event()
        self._connection: BoundedConnection | None = None
        self._used = 0.0
        self._writer: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[EventBatches]:
        """Write within the body; what still waits at its end is written first."""
        self._writer = asyncio.create_task(self._write_all(), name="event writer")
        try:
            yield self
        finally:
            if self._unwritten:
                await asyncio.wait(self._unwritten, timeout=STOP_SECONDS)
            self._writer.cancel()
            await asyncio.wait([self._writer])
            await self._hang_up()

    def append(
        self, project_id: UUID, kind: str, data: dict[str, Any], *, run_id: UUID | None = None
    ) -> asyncio.Future[None]:
        """Append an event after all that were appended before; the future is done once it is committed.

        Raises:
            NotFound: by the future: there is no such project.
            DatabaseUnavailable: by the future: nobody can tell whether it was written.
            StorageError: by the future: the database refuses it.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        observe(kind, data)
        if self._writer is None or self._writer.done():
            done.set_exception(DatabaseUnavailable("Events are not written now: this worker has stopped."))
            return done
        self._unwritten.add(done)
        done.add_done_callback(self._written)
        self._waiting.append(_Given(project_id, run_id, kind, mask_json(clean_dump(data)), done, loop.time()))
        self._news.set()
        return done

    def _written(self, done: asyncio.Future[None]) -> None:
        self._unwritten.discard(done)
        # A step that is cancelled never asks what became of its first event.
        if not done.cancelled():
            done.exception()

    async def _write_all(self) -> None:
        held: list[_Given] = []
        try:
            while True:
                if held:
                    await asyncio.sleep(HELD_SECONDS)
                else:
                    await self._news.wait()
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                # What was held comes first, so that the order within its project stays.
                count = min(FULL, len(self._waiting))
                batch = [*held, *(self._waiting.popleft() for _ in range(count))]
                if not self._waiting:
                    self._news.clear()
                held = await self._write(batch)
        finally:
            _fail(list(self._waiting), DatabaseUnavailable("The worker stopped before it was written."))
            self._waiting.clear()

    async def _write(self, batch: Sequence[_Given]) -> list[_Given]:
        """Write a batch and return what is held back, because its project's row is."""
        try:
            return await self._send(batch)
        except (psycopg.OperationalError, psycopg.InterfaceError, OSError) as error:
            await self._hang_up()
            _fail(batch, DatabaseUnavailable(f"The database cannot be reached: {str(error).strip()}"))
        except psycopg.Error as error:
            if len(batch) == 1:
                _fail(batch, StorageError(f"An event cannot be stored: {error}"))
                return []
            # One of them spoils the statement for all: each goes alone.
            return [held for given in batch for held in await self._write([given])]
        return []

    async def _send(self, batch: Sequence[_Given]) -> list[_Given]:
        connection = await self._connected()
        rows = await connection.execute(_APPEND, (_rows(batch), CHANNEL))
        written = {row[0] for row in await rows.fetchall()}
        left: list[_Given] = []
        now = asyncio.get_running_loop().time()
        for given in batch:
            if given.project_id not in written:
                left.append(given)
                continue
            EVENT_SECONDS.observe(now - given.since)
            if not given.done.done():
                given.done.set_result(None)
        if not left:
            return []
        asked = await connection.execute(_MISSING, [list({given.project_id for given in left})])
        missing = {row[0] for row in await asked.fetchall()}
        for project_id in missing:
            gone = [given for given in left if given.project_id == project_id]
            _fail(gone, NotFound(f"There is no project {project_id}."))
        return [given for given in left if given.project_id not in missing]

    async def _connected(self) -> BoundedConnection:
        """Return the connection; one that was idle is asked first whether it still lives."""
        now = asyncio.get_running_loop().time()
        if self._connection is not None and now - self._used > IDLE_SECONDS:
            try:
                await self._connection.execute("SELECT 1")
            except (psycopg.Error, OSError):
                await self._hang_up()
        if self._connection is None:
            self._connection = await connect_bounded(
                self._conninfo,
                autocommit=True,
                prepare_threshold=0,
                connect_timeout=CONNECT_SECONDS,
                application_name=self.application,
            )
        self._used = now
        return self._connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _rows(batch: Sequence[_Given]) -> str:
    rows = [
        {
            "n": n,
            "project_id": given.project_id,
            "run_id": given.run_id,
            "kind": given.kind,
            "data": orjson.Fragment(given.data),
        }
        for n, given in enumerate(batch)
    ]
    return orjson.dumps(rows).decode()


def _fail(batch: Iterable[_Given], error: PhoenixError) -> None:
    for given in batch:
        if not given.done.done():
            given.done.set_exception(error)


class RunEvents:
    """The port `Events` of one run."""

    def __init__(self, batches: EventBatches, project_id: UUID, run_id: UUID) -> None:
        self._batches = batches
        self._project_id = project_id
        self._run_id = run_id

    async def emit(self, kind: str, **data: Any) -> None:
        await self._batches.append(self._project_id, kind, data, run_id=self._run_id)
