"""The secrets that access tokens are signed with, shared by all replicas through the database."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.tables_identity import signing_keys

MAKING = 0x70686F656E697804
"""Advisory lock of whoever makes the first key."""
SECRET_BYTES = 64


@dataclass(frozen=True)
class StoredKeys:
    """Secrets by id; `current` signs, the others are still accepted."""

    current: str
    secrets: Mapping[str, bytes]


async def stored_keys(connection: AsyncConnection) -> StoredKeys:
    """Return the keys, the newest that is not retired first to sign; one is made where there is none."""
    found = await _read(connection)
    if not found:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING})
        found = await _read(connection)
    if not found:
        made = {"id": secrets.token_hex(8), "secret": secrets.token_bytes(SECRET_BYTES)}
        await connection.execute(insert(signing_keys).values(made))
        found = await _read(connection)
    return StoredKeys(next(iter(found)), found)


async def _read(connection: AsyncConnection) -> dict[str, bytes]:
    query = select(signing_keys.c.id, signing_keys.c.secret).order_by(
        func.coalesce(signing_keys.c.retired_at, text("'infinity'")).desc(), signing_keys.c.created_at.desc()
    )
    return {row.id: bytes(row.secret) for row in await connection.execute(query)}
