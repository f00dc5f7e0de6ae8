"""Bring a database's schema up to date, or take it away.

Everything happens in one transaction under an advisory lock: a killed migration leaves nothing behind, and
of several processes that start at once one migrates while the others wait. What old processes still need
is removed only once none of them is connected.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from packaging.version import Version
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.upkeep import Migrated
from phoenix.errors import NotFound, SchemaInUse
from phoenix.storage import queue_schema, readers, schema, tenancy
from phoenix.storage.database import connect, transaction
from phoenix.storage.schema import Revision
from phoenix.storage.sessions import Session, others

log = structlog.get_logger(__name__)

MIGRATE = 0x70686F656E697802
"""Advisory lock of whoever changes the schema."""

MIGRATION_SECONDS = 3600.0
LOCK_SECONDS = 10
"""How long a migration waits for a table: while it waits, whoever comes after it waits as well."""


async def upgrade(url: str, *, to: str = "head", strict: bool = False, reader: str = "") -> Migrated:
    """Create or update the schema of Phoenix and of its queue. Idempotent.

    Args:
        url: The database.
        to: The last revision to apply.
        strict: Fail when old processes keep a contracting migration from being applied; all before it is
            applied all the same. Otherwise it is left for later: it is not needed to work.
        reader: The role that dashboards read with; empty for none.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        SchemaTooNew: it was migrated beyond what this Phoenix can work with.
        SchemaInUse: old processes stand in the way of what this Phoenix needs, or a table stays locked.
        NotFound: there is no such revision.
        SettingInvalid: the role of dashboards is not there, or may do too much.
    """
    names = _checked(to)
    async with _locked(url) as connection:
        found = await schema.read(connection)
        if found.revision is not None and found.revision not in names:
            schema.check(found)
            return Migrated(before=found.revision, after=found.revision)
        sessions = await others(connection)
        queue = await queue_schema.upgrade(connection, alone=_same_queue(sessions))
        due = [] if _is_past(names, found.revision, to) else schema.missing(found.revision, to=to)
        apply, waiting = _split(due, sessions)
        after = apply[-1].name if apply else found.revision
        if apply:
            await connection.run_sync(_alembic, lambda config: command.upgrade(config, str(after)))
        await schema.record(connection, after)
        if _has_wall(names, after):
            await tenancy.ensure(connection)
        if reader and after == names[-1]:
            await readers.grant(connection, reader)
        left = (await queue_schema.read(connection)).lacks
    reason = _refusal(waiting[0], sessions) if waiting else ""
    if waiting and (strict or any(not r.contracts for r in waiting)):
        raise SchemaInUse(reason, hint="Stop or upgrade them, then run `phoenix migrate`.")
    if reason:
        log.warning("schema_contract_waits", revision=waiting[0].name, reason=reason)
    names_left = [*(r.name for r in waiting), *left]
    if left and not reason:
        reason = "processes with another procrastinate are connected"
    return Migrated(before=found.revision, after=after, queue=queue, waiting=names_left, reason=reason)


async def downgrade(url: str, revision: str = "base") -> Migrated:
    """Undo migrations down to a revision; at `base` the queue goes as well. What they added is lost.

    Raises:
        SchemaInUse: another process of Phoenix is connected.
        NotFound: there is no such revision.
    """
    if revision != "base":
        _checked(revision)
    async with _locked(url) as connection:
        found = await schema.read(connection)
        schema.check(found) if found.revision not in {None, *_names()} else None
        if sessions := await others(connection):
            raise SchemaInUse(
                f"{_said(sessions)} connected, and would lose what they work with.",
                hint="Stop them first.",
            )
        await tenancy.remove(connection)
        await readers.remove(connection)
        await connection.run_sync(_alembic, lambda config: command.downgrade(config, revision))
        after = await schema.revision_of(connection)
        await schema.record(connection, after)
        if _has_wall(_names(), after):
            await tenancy.ensure(connection)
        if revision == "base":
            await queue_schema.drop(connection)
            await connection.execute(text("DROP TABLE phoenix_schema"))
    return Migrated(before=found.revision, after=after)


async def status(url: str) -> Migrated:
    """Return how the schema stands, changing nothing: `waiting` is what `upgrade` would apply.

    Raises:
        SchemaTooNew: it was migrated beyond what this Phoenix can work with.
    """
    engine = connect(url, pool_size=1)
    try:
        async with transaction(engine) as connection:
            found = await schema.read(connection)
            if found.revision is not None and found.revision not in _names():
                schema.check(found)
                return Migrated(before=found.revision, after=found.revision)
            missing = schema.missing(found.revision)
            files: tuple[str, ...] = ()
            if await schema.exists(connection, "procrastinate_jobs"):
                queue = await queue_schema.read(connection)
                queue.check()
                files = queue.lacks
    finally:
        await engine.dispose()
    needed = [r.name for r in missing if not r.contracts]
    needed += [name for name in files if not queue_schema.is_post(name)]
    waiting = [*(r.name for r in missing), *files]
    return Migrated(before=found.revision, after=found.revision, waiting=waiting, is_needed=bool(needed))


async def check(engine: AsyncEngine) -> None:
    """Check that this Phoenix can work with a database as it is.

    Raises:
        SchemaTooNew, SchemaTooOld: it cannot.
    """
    async with transaction(engine) as connection:
        await check_on(connection)


async def check_on(connection: AsyncConnection) -> None:
    """Do as `check`, on a connection."""
    schema.check(await schema.read(connection))
    (await queue_schema.read(connection)).check()


def _names() -> list[str]:
    return [r.name for r in schema.known()]


def _checked(revision: str) -> list[str]:
    names = _names()
    if revision not in {"head", *names}:
        raise NotFound(f"There is no revision {revision}.", hint=f"Known are {', '.join(names)}.")
    return names


def _has_wall(names: Sequence[str], revision: str | None) -> bool:
    return revision is not None and names.index(revision) >= names.index(tenancy.REVISION)


def _is_past(names: Sequence[str], revision: str | None, to: str) -> bool:
    return revision is not None and to != "head" and names.index(revision) >= names.index(to)


def _split(due: list[Revision], sessions: Sequence[Session]) -> tuple[list[Revision], list[Revision]]:
    """Return what may be applied now, and what must wait for old processes to go."""
    for n, revision in enumerate(due):
        if revision.contracts and _older(sessions, revision.contracts):
            return due[:n], due[n:]
    return due, []


def _older(sessions: Sequence[Session], version: str) -> list[Session]:
    return [s for s in sessions if s.phoenix < Version(version)]


def _same_queue(sessions: Sequence[Session]) -> bool:
    return all(s.queue == queue_schema.version() for s in sessions)


def _refusal(revision: Revision, sessions: Sequence[Session]) -> str:
    old = _older(sessions, revision.contracts)
    return (
        f"Revision {revision.name} removes what Phoenix before {revision.contracts} needs, and "
        f"{_said(old)} connected."
    )


def _said(sessions: Sequence[Session]) -> str:
    versions = ", ".join(sorted({str(s.phoenix) for s in sessions}))
    one = len(sessions) == 1
    return f"{len(sessions)} session{'' if one else 's'} of Phoenix {versions} {'is' if one else 'are'}"


@asynccontextmanager
async def _locked(url: str) -> AsyncIterator[AsyncConnection]:
    engine = connect(url, pool_size=1, answer_seconds=MIGRATION_SECONDS)
    try:
        async with transaction(engine) as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATE})
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            try:
                yield connection
            except (psycopg.errors.LockNotAvailable, OperationalError) as error:
                if isinstance(getattr(error, "orig", error), psycopg.errors.LockNotAvailable):
                    raise SchemaInUse(
                        f"A table has been locked by another transaction for {LOCK_SECONDS} s; nothing was "
                        "changed.",
                        hint="Try again; pg_stat_activity shows who holds it.",
                    ) from error
                raise
    finally:
        await engine.dispose()


def _alembic(connection: Connection, run: Callable[[Config], None]) -> None:
    config = schema.config()
    config.attributes["connection"] = connection
    run(config)
