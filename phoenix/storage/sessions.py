"""Which processes of Phoenix are connected: each connection says its versions in its application's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

from packaging.version import InvalidVersion, Version
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix import __version__

_NAME = re.compile(r"phoenix/(\S+) queue/(\S+)")


def application_name() -> str:
    """Return the name under which this process's connections show in `pg_stat_activity`."""
    return f"phoenix/{__version__} queue/{metadata.version('procrastinate')}"


@dataclass(frozen=True)
class Session:
    """A connection of some process: its version of Phoenix, and that of the queue's library."""

    phoenix: Version
    queue: str


async def others(connection: AsyncConnection) -> list[Session]:
    """Return the connections of Phoenix to this database, but for the one that asks."""
    query = text(
        "SELECT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name LIKE 'phoenix/%'"
    )
    found = (session_of(name) for name in (await connection.execute(query)).scalars())
    return [session for session in found if session is not None]


def session_of(name: str) -> Session | None:
    """Return what an application's name says; None when it is not Phoenix's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return Session(Version(match[1]), match[2])
    except InvalidVersion:
        return None
