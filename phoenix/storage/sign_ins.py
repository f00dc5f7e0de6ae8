"""Queries on sign-ins that have begun at an identity provider."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.storage.tables import CLOCK
from phoenix.storage.tables_door import sign_ins

GOOD_FOR = timedelta(minutes=10)


@dataclass(frozen=True)
class Begun:
    """What is compared when the browser comes back."""

    nonce: str
    verifier: str


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


async def begin(connection: AsyncConnection, *, state: str, browser: str, nonce: str, verifier: str) -> None:
    """Keep a sign-in that begins, and forget those that nobody came back from."""
    await connection.execute(delete(sign_ins).where(sign_ins.c.created_at < CLOCK - GOOD_FOR))
    row = {
        "state_hash": _hash(state),
        "browser_hash": _hash(browser),
        "nonce": nonce,
        "verifier": verifier,
    }
    await connection.execute(insert(sign_ins).values(row))


async def take(connection: AsyncConnection, *, state: str, browser: str) -> Begun | None:
    """Take a sign-in away and return it; None when there is none, it is too old, or another browser's."""
    gone = delete(sign_ins).where(sign_ins.c.state_hash == _hash(state))
    columns = sign_ins.c
    is_good = (columns.browser_hash == _hash(browser)) & (columns.created_at >= CLOCK - GOOD_FOR)
    row = (
        await connection.execute(gone.returning(columns.nonce, columns.verifier, is_good.label("is_good")))
    ).one_or_none()
    return Begun(row.nonce, row.verifier) if row is not None and row.is_good else None
