"""Who makes a request: looked up in the request's own transaction, or for many requests at once."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.identity import Principal
from phoenix.errors import Unauthenticated
from phoenix.storage import identity
from phoenix.storage.database import transaction
from phoenix.storage.direct import Together
from phoenix.storage.identity import Credential

Key = tuple[UUID, bytes]
"""An API key's id, and the hash of its secret."""


class Callers:
    """Finds principals by what their requests carry."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database
        self._sessions: Together[UUID, Principal] = Together(self._of_sessions)
        self._keys: Together[Key, Principal] = Together(self._of_keys)

    async def of_session(self, session_id: UUID, *, within: AsyncConnection | None = None) -> Principal:
        """Return who a session belongs to; a transaction that is given is theirs from then on.

        Raises:
            Unauthenticated: it has ended, or its user may no longer come in.
        """
        if within is None:
            return await self._sessions(session_id)
        return _known(_session_or_error(await identity.session_credential(within, session_id)))

    async def of_key(self, key: Key, *, within: AsyncConnection | None = None) -> Principal:
        """Return who an API key belongs to; a transaction that is given is theirs from then on.

        Raises:
            Unauthenticated: it is unknown, revoked or expired, or its user may no longer come in.
        """
        if within is None:
            return await self._keys(key)
        found = await identity.key_credential(within, key[0])
        principal = _known(_key_or_error(found, key[1]))
        if found is not None and found.is_stale:
            await identity.touch_keys(within, [key[0]])
        return principal

    async def _of_sessions(self, some: list[UUID]) -> Sequence[Principal | Exception]:
        async with transaction(self._database) as connection:
            found = await identity.session_credentials(connection, some)
        return [_session_or_error(found.get(one)) for one in some]

    async def _of_keys(self, some: list[Key]) -> Sequence[Principal | Exception]:
        async with transaction(self._database) as connection:
            found = await identity.key_credentials(connection, [key_id for key_id, _ in some])
            outcomes = [_key_or_error(found.get(key_id), secret) for key_id, secret in some]
            known = {o.credential_id for o in outcomes if isinstance(o, Principal)}
            stale = {key_id for key_id in known if found[key_id].is_stale}
            if stale:
                await identity.touch_keys(connection, stale)
        return outcomes


def _session_or_error(found: Credential | None) -> Principal | Unauthenticated:
    if found is None or not found.is_valid:
        return Unauthenticated("This session has ended.", hint="Sign in again.")
    return found.principal


def _key_or_error(found: Credential | None, secret_hash: bytes) -> Principal | Unauthenticated:
    if found is None or not hmac.compare_digest(found.secret_hash, secret_hash):
        return Unauthenticated("This API key is unknown.", hint="Ask an administrator for one.")
    if not found.is_valid:
        return Unauthenticated("This API key is revoked or expired.", hint="Make a new one.")
    return found.principal


def _known(found: Principal | Unauthenticated) -> Principal:
    if isinstance(found, Unauthenticated):
        raise found
    return found
