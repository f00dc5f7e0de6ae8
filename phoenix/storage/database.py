"""Connections to PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from phoenix.errors import DatabaseUnavailable, DiskFull, SettingInvalid
from phoenix.storage.bounded import ANSWER_SECONDS, creator
from phoenix.storage.sessions import application_name
from phoenix.telemetry import tracing

IDLE_SECONDS = 15
"""A process that hangs within a transaction loses it after so long, and with it the locks it holds."""


def parse_url(url: str) -> URL:
    """Return a PostgreSQL URL with Phoenix's own driver, whatever spelling was given.

    Raises:
        SettingInvalid: it is no PostgreSQL URL.
    """
    hint = "Give one such as postgresql://user:password@host:5432/name."
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # The URL may hold a password: it is not repeated.
        raise SettingInvalid("This is no database URL.", field="DATABASE_URL", hint=hint) from error
    if parsed.drivername.split("+")[0] not in ("postgresql", "postgres"):
        raise SettingInvalid(
            f"Phoenix needs PostgreSQL, not {parsed.drivername}.", field="DATABASE_URL", hint=hint
        )
    return parsed.set(drivername="postgresql+psycopg")


def conninfo(url: str) -> str:
    """Return the URL as psycopg and libpq read it."""
    return parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def conninfo_of(database: AsyncEngine) -> str:
    """Return where an engine connects to, as psycopg and libpq read it."""
    return database.url.set(drivername="postgresql").render_as_string(hide_password=False)


POOL_SECONDS = 30.0
"""How long a transaction may wait for a connection of the pool."""


def connect(
    url: str,
    *,
    pool_size: int = 10,
    pool_seconds: float = POOL_SECONDS,
    answer_seconds: float = ANSWER_SECONDS,
) -> AsyncEngine:
    """Return an engine with a pool; it connects on first use. Dispose of it when done.

    Args:
        url: The database.
        pool_size: Connections that are kept; twice as many are opened at most.
        pool_seconds: How long a transaction may wait for one of them.
        answer_seconds: How long a statement may take.
    """
    return create_async_engine(
        parse_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=pool_seconds,
        pool_pre_ping=True,
        connect_args={
            "async_creator_fn": creator(answer_seconds),
            "connect_timeout": 10,
            "application_name": application_name(),
            "options": f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s",
        },
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction: committed at the end of the body, rolled back on an error.

    Raises:
        DatabaseUnavailable: the database cannot be reached, went away, hangs, or has no connection free.
        DiskFull: it has no space left.
    """
    try:
        with tracing.leaf("sql", "transaction", db__system__name="postgresql"):
            async with engine.begin() as connection:
                yield connection
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.DiskFull):
            raise DiskFull(
                f"The database is out of space: {str(error.orig).strip()}",
                hint="Free some there; work goes on by itself.",
            ) from error
        raise DatabaseUnavailable(
            f"The database cannot be reached: {str(error.orig).strip()}",
            hint="Check that it runs; work goes on by itself when it is back.",
        ) from error
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            "All connections to the database have been in use for too long.", hint="Try again in a moment."
        ) from error


async def raw(connection: AsyncConnection) -> psycopg.AsyncConnection[object]:
    """Return the psycopg connection below, for a library that joins this transaction."""
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, psycopg.AsyncConnection):
        raise TypeError("the engine does not run on psycopg")
    return driver
