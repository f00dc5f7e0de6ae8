"""Why this process takes no runs for now: no space, or a schema that has gone past it. It goes on by itself.

Running steps come to their end in a pause; what they gave is kept, and their runs go back to the queue.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.errors import DiskFull, SchemaTooNew, SchemaTooOld
from phoenix.storage import migrate, schema

log = structlog.get_logger(__name__)

MB = 1024**2
FIRST_SECONDS, LONGEST_SECONDS = 5.0, 600.0
"""How long a pause lasts at least that a failed write began; each further one that soon follows doubles."""

SCHEMA_SECONDS = 3.0
"""How often it is seen whether the schema has changed under a running process."""

_PROBE = text(
    "CREATE TEMPORARY TABLE phoenix_probe ON COMMIT DROP AS"
    " SELECT repeat(md5(n::text), 30) AS filler FROM generate_series(1, 8000) n"
)
"""About 8 MB: more than what the server holds back in memory for a temporary table."""


@dataclass(frozen=True)
class Space:
    """The folder whose free space is watched. Work pauses below `least` and goes on from `enough` bytes."""

    folder: Path
    least: int
    enough: int

    @property
    def free(self) -> int:
        """Bytes that this process may still write there."""
        return shutil.disk_usage(self.folder).free


def is_full(error: BaseException) -> bool:
    """Tell whether an error comes from a disk or a database that has no space left."""
    return any(
        isinstance(e, (DiskFull, psycopg.errors.DiskFull))
        or (isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT))
        for e in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    passed: set[int] = set()
    seen: BaseException | None = error
    # An error may be raised from one that was raised from it.
    while seen is not None and id(seen) not in passed:
        passed.add(id(seen))
        yield seen
        seen = seen.__cause__ or (seen.orig if isinstance(seen, DBAPIError) else None)


class Pauses:
    """Whether this process may work. `look` is called about once a second."""

    def __init__(self, space: Space | None = None) -> None:
        self._space = space
        self._reasons: dict[str, str] = {}
        self.reason = ""
        """Why nothing is begun now, for people; empty when all is well. Other threads may read it."""
        self.begun: Callable[[], None] = lambda: None
        """Called when a pause begins."""
        self._revision: str | None = None
        self._schema_at = 0.0
        self._seconds = FIRST_SECONDS
        self._until = 0.0

    def because_of(self, error: BaseException) -> None:
        """Pause after a write that found no space, wherever that was."""
        now = time.monotonic()
        if now < self._until:
            return  # many runs find the same disk full at once
        soon = now < self._until + self._seconds
        self._seconds = min(self._seconds * 2, LONGEST_SECONDS) if soon and self._until else FIRST_SECONDS
        self._until = now + self._seconds
        said = str(error).strip() or os.strerror(errno.ENOSPC)
        self._set("write", f"No space is left: {said} Work goes on by itself when there is some.")

    def look_at_disk(self) -> None:
        """Pause below the least space, and go on with enough of it."""
        if self._space is None:
            return
        bound = self._space.enough if "disk" in self._reasons else self._space.least
        try:
            free = self._space.free
        except OSError as error:
            self._set("disk", f"The data folder {self._space.folder} cannot be looked at: {error.strerror}.")
            return
        if free >= bound:
            self._clear("disk")
            return
        self._set(
            "disk",
            f"Less than {self._space.least // MB} MB are free at {self._space.folder}; "
            f"work goes on by itself with {self._space.enough // MB} MB.",
        )

    @property
    def asks_database(self) -> bool:
        """Whether `look` has something to look at now."""
        return time.monotonic() >= self._schema_at or self._may_write

    @property
    def _may_write(self) -> bool:
        return "write" in self._reasons and "disk" not in self._reasons and time.monotonic() >= self._until

    async def look(self, connection: AsyncConnection) -> None:
        """See whether a reason has come or gone, in the database or, by writing to it, of its disk."""
        await self._look_at_schema(connection)
        if self._may_write:
            await self._try_to_write(connection)

    async def _look_at_schema(self, connection: AsyncConnection) -> None:
        if time.monotonic() < self._schema_at:
            return
        self._schema_at = time.monotonic() + SCHEMA_SECONDS
        revision = await schema.revision_of(connection)
        if revision == self._revision:
            return
        try:
            await migrate.check_on(connection)
        except (SchemaTooNew, SchemaTooOld) as error:
            self._set("schema", str(error))
        else:
            self._clear("schema")
        self._revision = revision

    async def _try_to_write(self, connection: AsyncConnection) -> None:
        """Let the database write a little: its disk may be another machine's."""
        try:
            await connection.execute(_PROBE)
        except DBAPIError as error:
            if is_full(error):
                self.because_of(error)
                return
            if not isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                raise
        self._clear("write")

    def _set(self, source: str, reason: str) -> None:
        if source not in self._reasons:
            log.warning("worker_paused", source=source, reason=reason)
        self._reasons[source] = reason
        self._choose()

    def _clear(self, source: str) -> None:
        if self._reasons.pop(source, None) is not None and not self._reasons:
            log.warning("worker_resumed", source=source)
        self._choose()

    def _choose(self) -> None:
        before, self.reason = self.reason, next(iter(self._reasons.values()), "")
        if self.reason and not before:
            self.begun()
