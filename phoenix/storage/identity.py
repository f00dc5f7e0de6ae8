"""Queries on users, memberships, sessions and keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, Text, and_, func, insert, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.identity import ApiKey, Member, Principal, Role, User
from phoenix.errors import AlreadyThere, NotFound
from phoenix.storage.tables import CLOCK, projects
from phoenix.storage.tables_identity import (
    api_keys,
    grants,
    memberships,
    refresh_tokens,
    sessions,
    users,
)

USER = [users.c[name] for name in User.model_fields]
KEY = [api_keys.c[name] for name in ApiKey.model_fields]


@dataclass(frozen=True)
class Credential:
    """What a token or key belongs to, as the database has it now."""

    principal: Principal
    is_valid: bool
    """Not revoked, not expired, of an active user who is still a member."""
    secret_hash: bytes = b""
    """Of an API key."""
    is_stale: bool = False
    """An API key whose last use was noted longer than a minute ago, or never."""


async def add_user(
    connection: AsyncConnection,
    user: User,
    *,
    password_hash: str | None = None,
    external_id: str | None = None,
) -> None:
    """Insert a user.

    Raises:
        AlreadyThere: the e-mail address has an account.
    """
    row = {**user.model_dump(), "password_hash": password_hash, "external_id": external_id}
    stored = upsert(users).values(row).on_conflict_do_nothing(index_elements=["email"])
    if (await connection.execute(stored.returning(users.c.id))).scalar_one_or_none() is None:
        raise AlreadyThere("There is an account of this e-mail address.", field="email")


async def user_of_email(connection: AsyncConnection, email: str) -> tuple[User, str | None] | None:
    """Return a user and the hash of the password."""
    query = select(*USER, users.c.password_hash).where(users.c.email == email)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (_user(row), row.password_hash)


async def account_of(connection: AsyncConnection, email: str) -> User | None:
    """Return the user of an address, without what requests may not read."""
    row = (await connection.execute(select(*USER).where(users.c.email == email))).one_or_none()
    return None if row is None else _user(row)


async def user_of_external(connection: AsyncConnection, external_id: str) -> User | None:
    """Return the user whom an identity provider knows by this id."""
    row = (await connection.execute(select(*USER).where(users.c.external_id == external_id))).one_or_none()
    return None if row is None else _user(row)


async def link(connection: AsyncConnection, user_id: UUID, external_id: str) -> bool:
    """Let an account be the one that an identity provider knows; False when it is another one's already."""
    free = update(users).where(users.c.id == user_id, users.c.external_id.is_(None))
    return (await connection.execute(free.values(external_id=external_id))).rowcount == 1


async def set_user(connection: AsyncConnection, user_id: UUID, **values: Any) -> None:
    """Change a user."""
    await connection.execute(update(users).where(users.c.id == user_id).values(**values))


async def any_user(connection: AsyncConnection) -> bool:
    """Tell whether there is any user."""
    return (await connection.execute(select(users.c.id).limit(1))).first() is not None


def _user(row: Any) -> User:
    return User(**{name: row._mapping[name] for name in User.model_fields})


# --- memberships -----------------------------------------------------------------------------


async def put_member(connection: AsyncConnection, organisation_id: UUID, user_id: UUID, role: Role) -> None:
    """Make a user a member in this role, or change the role."""
    row = {"organisation_id": organisation_id, "user_id": user_id, "role": role}
    await connection.execute(
        upsert(memberships)
        .values(row)
        .on_conflict_do_update(index_elements=["organisation_id", "user_id"], set_={"role": role})
    )


async def members(
    connection: AsyncConnection, organisation_id: UUID, *, after: str = "", limit: int
) -> list[Member]:
    """Return members of an organisation in the order of their addresses, those after an address."""
    query = (
        select(*USER, memberships.c.role)
        .join(memberships, memberships.c.user_id == users.c.id)
        .where(memberships.c.organisation_id == organisation_id, users.c.email > after)
        .order_by(users.c.email)
        .limit(limit)
    )
    return [Member(user=_user(row), role=row.role) for row in await connection.execute(query)]


async def lock_admins(connection: AsyncConnection, organisation_id: UUID) -> list[UUID]:
    """Lock the memberships of an organisation's administrators, and return those users."""
    query = (
        select(memberships.c.user_id)
        .where(memberships.c.organisation_id == organisation_id, memberships.c.role == "admin")
        .order_by(memberships.c.user_id)
        .with_for_update()
    )
    return list((await connection.execute(query)).scalars())


async def remove_member(connection: AsyncConnection, organisation_id: UUID, user_id: UUID) -> bool:
    """End a membership, with its sessions and keys; return False when there was none."""
    gone = memberships.delete().where(
        memberships.c.organisation_id == organisation_id, memberships.c.user_id == user_id
    )
    if (await connection.execute(gone)).rowcount == 0:
        return False
    of_user = (sessions.c.user_id == user_id, sessions.c.organisation_id == organisation_id)
    await _revoke(connection, *of_user, why="removed")
    await connection.execute(
        update(api_keys)
        .where(api_keys.c.user_id == user_id, api_keys.c.organisation_id == organisation_id)
        .where(api_keys.c.revoked_at.is_(None))
        .values(revoked_at=CLOCK)
    )
    return True


async def organisations_of(connection: AsyncConnection, user_id: UUID) -> list[UUID]:
    """Return the organisations that a user is a member of, the first joined first."""
    query = (
        select(memberships.c.organisation_id)
        .where(memberships.c.user_id == user_id)
        .order_by(memberships.c.created_at, memberships.c.organisation_id)
    )
    return list((await connection.execute(query)).scalars())


async def is_member(connection: AsyncConnection, organisation_id: UUID, user_id: UUID) -> bool:
    """Tell whether a user belongs to an organisation."""
    return organisation_id in await organisations_of(connection, user_id)


async def put_grant(connection: AsyncConnection, project_id: UUID, user_id: UUID, role: Role | None) -> None:
    """Give a user a role of its own in a project; None takes it away."""
    if role is None:
        mine = (grants.c.project_id == project_id, grants.c.user_id == user_id)
        await connection.execute(grants.delete().where(*mine))
        return
    row = {"project_id": project_id, "user_id": user_id, "role": role}
    await connection.execute(
        upsert(grants)
        .values(row)
        .on_conflict_do_update(index_elements=["project_id", "user_id"], set_={"role": role})
    )


# --- sessions and keys -----------------------------------------------------------------------


async def add_session(
    connection: AsyncConnection,
    session_id: UUID,
    *,
    user_id: UUID,
    organisation_id: UUID,
    expires_at: datetime,
) -> None:
    """Insert a session."""
    row = {
        "id": session_id,
        "user_id": user_id,
        "organisation_id": organisation_id,
        "expires_at": expires_at,
    }
    await connection.execute(insert(sessions).values(row))


async def add_refresh(
    connection: AsyncConnection, token_id: UUID, session_id: UUID, secret_hash: bytes
) -> None:
    """Insert a refresh token."""
    row = {"id": token_id, "session_id": session_id, "secret_hash": secret_hash}
    await connection.execute(insert(refresh_tokens).values(row))


async def lock_refresh(connection: AsyncConnection, token_id: UUID) -> Mapping[str, Any] | None:
    """Lock a refresh token's session, and return both."""
    query = (
        select(
            refresh_tokens.c.session_id,
            refresh_tokens.c.secret_hash,
            refresh_tokens.c.used_at,
            sessions.c.user_id,
            sessions.c.organisation_id,
            sessions.c.revoked_at,
            (sessions.c.expires_at <= CLOCK).label("is_expired"),
        )
        .join(sessions, sessions.c.id == refresh_tokens.c.session_id)
        .where(refresh_tokens.c.id == token_id)
        .with_for_update()
    )
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else {str(name): value for name, value in row.items()}


async def use_refresh(connection: AsyncConnection, token_id: UUID) -> None:
    """Mark a refresh token as exchanged."""
    used = update(refresh_tokens).where(refresh_tokens.c.id == token_id).values(used_at=CLOCK)
    await connection.execute(used)


async def revoke_session(connection: AsyncConnection, session_id: UUID, *, why: str) -> None:
    """End a session. Idempotent."""
    await _revoke(connection, sessions.c.id == session_id, why=why)


async def _revoke(connection: AsyncConnection, *where: ColumnElement[bool], why: str) -> None:
    await connection.execute(
        update(sessions)
        .where(*where, sessions.c.revoked_at.is_(None))
        .values(revoked_at=CLOCK, revoked_for=why)
    )


async def add_key(connection: AsyncConnection, key: ApiKey, secret_hash: bytes) -> None:
    """Insert an API key."""
    await connection.execute(insert(api_keys).values({**key.model_dump(), "secret_hash": secret_hash}))


async def keys(
    connection: AsyncConnection,
    organisation_id: UUID,
    *,
    user_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[ApiKey]:
    """Return API keys of an organisation, or of one of its users, newest first, those after a place."""
    query = select(*KEY).where(api_keys.c.organisation_id == organisation_id)
    if user_id is not None:
        query = query.where(api_keys.c.user_id == user_id)
    if after is not None:
        query = query.where(tuple_(api_keys.c.created_at, api_keys.c.id) < after)
    query = query.order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()).limit(limit)
    rows = await connection.execute(query)
    return [ApiKey(**row._mapping) for row in rows]


async def revoke_key(
    connection: AsyncConnection, organisation_id: UUID, key_id: UUID, *, user_id: UUID | None = None
) -> None:
    """Revoke an API key. Idempotent.

    Raises:
        NotFound: this organisation, or this user, has none of that id.
    """
    where = [api_keys.c.organisation_id == organisation_id, api_keys.c.id == key_id]
    where += [api_keys.c.user_id == user_id] if user_id is not None else []
    revoked = update(api_keys).where(*where).values(revoked_at=func.coalesce(api_keys.c.revoked_at, CLOCK))
    if (await connection.execute(revoked)).rowcount == 0:
        raise NotFound(f"There is no API key {key_id}.")


_STALE = func.coalesce(api_keys.c.last_used_at < CLOCK - text("interval '1 minute'"), True)


async def touch_keys(connection: AsyncConnection, key_ids: Collection[UUID]) -> None:
    """Note that keys were used, at most once a minute. Requests of one key do not wait for each other."""
    free = select(api_keys.c.id).where(api_keys.c.id.in_(key_ids), _STALE).with_for_update(skip_locked=True)
    await connection.execute(update(api_keys).where(api_keys.c.id.in_(free)).values(last_used_at=CLOCK))


# --- who makes a request ---------------------------------------------------------------------


def _credentials(table: Any, ids: Collection[UUID], *more: ColumnElement[Any]) -> Select[Any]:
    """Return the query for sessions or keys with their users, roles and grants."""
    granted = (
        select(func.jsonb_object_agg(grants.c.project_id, grants.c.role))
        .join(projects, projects.c.id == grants.c.project_id)
        .where(grants.c.user_id == table.c.user_id, projects.c.organisation_id == table.c.organisation_id)
        .scalar_subquery()
        .label("grants")
    )
    is_valid = and_(
        users.c.is_active,
        table.c.revoked_at.is_(None),
        func.coalesce(table.c.expires_at > CLOCK, True),
        memberships.c.role.is_not(None),
    )
    member = and_(
        memberships.c.user_id == table.c.user_id, memberships.c.organisation_id == table.c.organisation_id
    )
    return (
        select(
            table.c.id,
            table.c.user_id,
            table.c.organisation_id,
            users.c.email,
            memberships.c.role,
            granted,
            is_valid.label("is_valid"),
            *more,
        )
        .join(users, users.c.id == table.c.user_id)
        .outerjoin(memberships, member)
        .where(table.c.id.in_(ids))
    )


def _entering(table: Any) -> ColumnElement[Any]:
    """Let the transaction enter the organisation: what follows sees nothing else."""
    return func.phoenix_enter(table.c.organisation_id, type_=Text).label("entered")


async def session_credential(connection: AsyncConnection, session_id: UUID) -> Credential | None:
    """Return who a session belongs to, whose the transaction is from then on: one round trip a request."""
    query = _credentials(sessions, [session_id], _entering(sessions))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _of_session(row)


async def session_credentials(
    connection: AsyncConnection, session_ids: Collection[UUID]
) -> dict[UUID, Credential]:
    """Return who sessions belong to."""
    return {row.id: _of_session(row) for row in await connection.execute(_credentials(sessions, session_ids))}


async def key_credential(connection: AsyncConnection, key_id: UUID) -> Credential | None:
    """Return who an API key belongs to, whose the transaction is from then on: one round trip a request."""
    query = _credentials(api_keys, [key_id], *_OF_KEYS, _entering(api_keys))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _of_key(row)


async def key_credentials(connection: AsyncConnection, key_ids: Collection[UUID]) -> dict[UUID, Credential]:
    """Return who API keys belong to."""
    rows = await connection.execute(_credentials(api_keys, key_ids, *_OF_KEYS))
    return {row.id: _of_key(row) for row in rows}


_OF_KEYS = (api_keys.c.scopes, api_keys.c.secret_hash, _STALE.label("is_stale"))


def _of_session(row: Row[Any]) -> Credential:
    return Credential(_principal(row, "token"), bool(row.is_valid))


def _of_key(row: Row[Any]) -> Credential:
    principal = _principal(row, "key", scopes=row.scopes)
    return Credential(principal, bool(row.is_valid), bytes(row.secret_hash), bool(row.is_stale))


def _principal(row: Row[Any], via: str, *, scopes: Sequence[str] | None = None) -> Principal:
    return Principal.model_validate(
        {
            "user_id": row.user_id,
            "organisation_id": row.organisation_id,
            "email": row.email,
            "role": row.role or "viewer",
            "via": via,
            "credential_id": row.id,
            "scopes": None if scopes is None else list(scopes),
            "grants": row.grants or {},
        }
    )
