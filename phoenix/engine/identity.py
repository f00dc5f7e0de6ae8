"""Use cases of users, sessions and keys. Each function is one transaction."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from pwdlib import PasswordHash
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.identity import (
    MAY,
    ApiKey,
    AuditEntry,
    External,
    Joining,
    Member,
    Permission,
    Principal,
    Role,
    User,
)
from phoenix.engine.callers import Callers
from phoenix.engine.projects import visible
from phoenix.engine.work import Work, walled
from phoenix.errors import AlreadyThere, Conflict, Forbidden, NotFound, Unauthenticated
from phoenix.storage import audit, identity, search, sign_ins
from phoenix.storage.database import transaction

SESSION_DAYS = 7
SECRET_BYTES = 32
KEY_MARK, REFRESH_MARK = "phx_key", "phx_refresh"
"""What credentials begin with, so that scanners for leaked secrets know them."""

OUTSIDE = "You are no member here; ask an administrator."
REFUSED = "The e-mail address or the password is wrong."
_passwords = PasswordHash.recommended()


@dataclass(frozen=True)
class Opened:
    """A session that was opened or renewed, with the one copy of its refresh token."""

    session_id: UUID
    user_id: UUID
    organisation_id: UUID
    refresh_token: str


def mint(mark: str) -> tuple[UUID, str, bytes]:
    """Return a new credential: its id, the text that its owner keeps, and the hash that is stored."""
    credential_id, secret = uuid4(), secrets.token_urlsafe(SECRET_BYTES)
    return credential_id, f"{mark}_{credential_id.hex}_{secret}", _hash(secret)


def read_credential(mark: str, text: str) -> tuple[UUID, bytes]:
    """Return the id and the secret's hash of a credential.

    Raises:
        Unauthenticated: it has not the form of one.
    """
    head, _, secret = text.removeprefix(f"{mark}_").partition("_")
    try:
        if not text.startswith(f"{mark}_") or not secret or not text.isascii():
            raise ValueError(text[:12])
        return UUID(hex=head), _hash(secret)
    except ValueError as error:
        raise Unauthenticated("This is no credential of Phoenix.", hint="Sign in again.") from error


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Identity:
    """Who may come in, and as whom."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database
        self._callers = Callers(database)

    async def first_admin(self, organisation_id: UUID, email: str) -> str | None:
        """Make the first administrator with an API key, and return the key; None when there are users."""
        user = User(id=uuid4(), email=email, name="Administrator", created_at=datetime.now(UTC))
        try:
            async with transaction(self._database) as connection:
                if await identity.any_user(connection):
                    return None
                await identity.add_user(connection, user)
                await identity.put_member(connection, organisation_id, user.id, "admin")
                scopes = sorted(MAY["admin"])
                _, text = await _new_key(connection, organisation_id, user.id, "first key", scopes, None)
        except AlreadyThere:  # another replica was faster
            return None
        return text

    async def sign_in(self, email: str, password: str, *, organisation_id: UUID | None = None) -> Opened:
        """Open a session.

        Args:
            email: Who.
            password: Their password.
            organisation_id: Which organisation; None for the one that was joined first.

        Raises:
            Unauthenticated: the address, the password or the organisation is wrong; not told which.
        """
        async with transaction(self._database) as connection:
            found = await identity.user_of_email(connection, email.strip().lower())
        # Without an account the work is the same, so that the time taken tells nothing.
        stored = found[1] if found and found[1] else await _dummy()
        is_right = await asyncio.to_thread(_passwords.verify, password, stored)
        if found is None or found[1] is None or not is_right or not found[0].is_active:
            raise Unauthenticated(REFUSED)
        return await self.open_session(found[0].id, organisation_id=organisation_id)

    async def open_session(self, user_id: UUID, *, organisation_id: UUID | None = None) -> Opened:
        """Open a session for a user who has shown who they are.

        Raises:
            Unauthenticated: the user is no member of the organisation, or of any.
        """
        async with transaction(self._database) as connection:
            joined = await identity.organisations_of(connection, user_id)
            chosen = organisation_id or next(iter(joined), None)
            if chosen is None or chosen not in joined:
                raise Unauthenticated(REFUSED)
            session_id = uuid4()
            expires = datetime.now(UTC) + timedelta(days=SESSION_DAYS)
            await identity.add_session(
                connection, session_id, user_id=user_id, organisation_id=chosen, expires_at=expires
            )
            return await _with_refresh(connection, session_id, user_id, chosen)

    async def begin_sign_in(self, *, state: str, browser: str, nonce: str, verifier: str) -> None:
        """Keep what is compared when a browser comes back from the identity provider."""
        async with transaction(self._database) as connection:
            await sign_ins.begin(connection, state=state, browser=browser, nonce=nonce, verifier=verifier)

    async def take_sign_in(self, *, state: str, browser: str) -> sign_ins.Begun:
        """Return what a sign-in began with; each is good once.

        Raises:
            Unauthenticated: none began so, it was used, it is too old, or another browser began it.
        """
        async with transaction(self._database) as connection:
            begun = await sign_ins.take(connection, state=state, browser=browser)
        if begun is None:
            raise Unauthenticated("This sign-in is not known here, or was used.", hint="Sign in again.")
        return begun

    async def of_provider(self, known: External, joining: Joining) -> Opened:
        """Open a session for somebody whom the identity provider knows.

        An account is found by the provider's id of them, else by their verified address, and then it is
        theirs from now on; one is made, and joined to the organisation, where the address may.

        Raises:
            Unauthenticated: they may not come in; not told whether there is an account.
        """
        async with transaction(self._database) as connection:
            user = await identity.user_of_external(connection, known.id)
            if user is None:
                user = await _linked(connection, known, joining)
            if not user.is_active:
                raise Unauthenticated(OUTSIDE)
            mine = await identity.organisations_of(connection, user.id)
            may_join = known.is_verified and known.domain in joining.domains
            if may_join and joining.organisation_id not in mine:
                await identity.put_member(connection, joining.organisation_id, user.id, joining.role)
                who = Principal(
                    user_id=user.id,
                    organisation_id=joining.organisation_id,
                    email=user.email,
                    role=joining.role,
                    via="token",
                    credential_id=user.id,
                )
                await audit.note(connection, who, "member.join", user.id, issuer=known.issuer)
        return await self.open_session(user.id)

    async def refresh(self, refresh_token: str) -> Opened:
        """Exchange a refresh token for a new one. A token that comes twice ends its session.

        Raises:
            Unauthenticated: it is unknown, used, expired, or its session has ended.
        """
        token_id, secret_hash = read_credential(REFRESH_MARK, refresh_token)
        async with transaction(self._database) as connection:
            found = await identity.lock_refresh(connection, token_id)
            if found is None or not hmac.compare_digest(bytes(found["secret_hash"]), secret_hash):
                raise Unauthenticated("This refresh token is unknown.", hint="Sign in again.")
            is_reused = found["used_at"] is not None
            if is_reused:
                await identity.revoke_session(connection, found["session_id"], why="reused")
            else:
                if found["revoked_at"] is not None or found["is_expired"]:
                    raise Unauthenticated("This session has ended.", hint="Sign in again.")
                await identity.use_refresh(connection, token_id)
                return await _with_refresh(
                    connection, found["session_id"], found["user_id"], found["organisation_id"]
                )
        raise Unauthenticated(
            "This refresh token was used before, so the session is ended: it may have been stolen.",
            hint="Sign in again.",
        )

    async def sign_out(self, who: Principal) -> None:
        """End the session, or revoke the key, that a request was made with. Idempotent."""
        async with transaction(self._database) as connection:
            if who.via == "token":
                await identity.revoke_session(connection, who.credential_id, why="signed_out")
            else:
                await identity.revoke_key(connection, who.organisation_id, who.credential_id)

    async def of_session(self, session_id: UUID, *, within: AsyncConnection | None = None) -> Principal:
        """Return who a session belongs to; a transaction that is given is theirs from then on.

        Raises:
            Unauthenticated: it has ended, or its user may no longer come in.
        """
        return await self._callers.of_session(session_id, within=within)

    async def of_key(self, text: str, *, within: AsyncConnection | None = None) -> Principal:
        """Return who an API key belongs to; a transaction that is given is theirs from then on.

        Raises:
            Unauthenticated: it is unknown, revoked or expired, or its user may no longer come in.
        """
        return await self._callers.of_key(read_credential(KEY_MARK, text), within=within)

    async def add_member(
        self,
        who: Principal,
        *,
        email: str,
        name: str,
        role: Role,
        password: str | None,
        work: Work | None = None,
    ) -> Member:
        """Make somebody a member; an account is made for who has none.

        An account that exists keeps its name and password: one organisation never changes them for another.
        """
        hashed = await asyncio.to_thread(_passwords.hash, password) if password else None
        async with walled(self._database, who, work) as connection:
            user = await identity.account_of(connection, email)
            if user is None:
                user = User(id=uuid4(), email=email, name=name, created_at=datetime.now(UTC))
                await identity.add_user(connection, user, password_hash=hashed)
            await identity.put_member(connection, who.organisation_id, user.id, role)
            await audit.note(
                connection, who, "member.add", user.id, email=email, role=role, request_id=_id(work)
            )
        return Member(user=user, role=role)

    async def set_role(self, who: Principal, user_id: UUID, role: Role, *, work: Work | None = None) -> None:
        """Change a member's role.

        Raises:
            NotFound: there is no such member.
            Conflict: the organisation would have no administrator.
        """
        async with walled(self._database, who, work) as connection:
            await _keep_an_admin(connection, who, user_id, stays=role == "admin")
            await identity.put_member(connection, who.organisation_id, user_id, role)
            await audit.note(connection, who, "member.set_role", user_id, role=role, request_id=_id(work))

    async def remove_member(self, who: Principal, user_id: UUID, *, work: Work | None = None) -> None:
        """End a membership; its sessions and keys end with it.

        Raises:
            NotFound: there is no such member.
            Conflict: the organisation would have no administrator.
        """
        async with walled(self._database, who, work) as connection:
            await _keep_an_admin(connection, who, user_id, stays=False)
            await identity.remove_member(connection, who.organisation_id, user_id)
            await audit.note(connection, who, "member.remove", user_id, request_id=_id(work))

    async def members(
        self, who: Principal, *, cursor: str = "", limit: int = 200, work: Work | None = None
    ) -> tuple[list[Member], str | None]:
        """Return a page of the members of the caller's organisation, by address, and where the next begins.

        Raises:
            PayloadInvalid: the cursor is none.
        """
        after = search.read_place(cursor) if cursor else ""
        async with walled(self._database, who, work) as connection:
            found = await identity.members(connection, who.organisation_id, after=after, limit=limit + 1)
        more = len(found) > limit
        return found[:limit], search.place(found[limit - 1].user.email) if more else None

    async def grant(
        self, who: Principal, project_id: UUID, user_id: UUID, role: Role | None, *, work: Work
    ) -> None:
        """Give a member a role of its own in a project; None takes it away. Idempotent.

        Raises:
            NotFound: there is no such member, or no such project in the organisation.
        """
        await visible(work.connection, who, project_id, "administer")
        if not await identity.is_member(work.connection, who.organisation_id, user_id):
            raise NotFound(f"There is no member {user_id}.")
        await identity.put_grant(work.connection, project_id, user_id, role)
        await work.note("project.grant", project_id, user_id=str(user_id), role=role)

    async def make_key(
        self,
        who: Principal,
        *,
        name: str,
        scopes: Sequence[Permission],
        expires_at: datetime | None,
        work: Work | None = None,
    ) -> tuple[ApiKey, str]:
        """Make an API key for the caller, and return it with its one copy of the secret.

        Raises:
            Forbidden: it would be allowed more than the caller is.
        """
        beyond = [scope for scope in scopes if not who.may(scope)]
        if beyond:
            raise Forbidden(f"You may not {beyond[0]}, so no key of yours may.", field="scopes")
        async with walled(self._database, who, work) as connection:
            key, text = await _new_key(
                connection, who.organisation_id, who.user_id, name, sorted(set(scopes)), expires_at
            )
            await audit.note(
                connection, who, "key.make", key.id, name=name, scopes=key.scopes, request_id=_id(work)
            )
        return key, text

    async def keys(
        self, who: Principal, *, cursor: str = "", limit: int = 200, work: Work | None = None
    ) -> tuple[list[ApiKey], str | None]:
        """Return a page of the caller's keys, newest first, and where the next begins.

        An administrator sees the organisation's.

        Raises:
            PayloadInvalid: the cursor is none.
        """
        only = None if who.may("administer") else who.user_id
        after = search.read_cursor(cursor) if cursor else None
        async with walled(self._database, who, work) as connection:
            found = await identity.keys(
                connection, who.organisation_id, user_id=only, after=after, limit=limit + 1
            )
        last = found[limit - 1] if len(found) > limit else None
        return found[:limit], search.place_of(last.created_at, last.id) if last else None

    async def revoke_key(self, who: Principal, key_id: UUID, *, work: Work | None = None) -> None:
        """Revoke a key of the caller's; an administrator may revoke any of the organisation. Idempotent.

        Raises:
            NotFound: the caller sees none of that id.
        """
        only = None if who.may("administer") else who.user_id
        async with walled(self._database, who, work) as connection:
            await identity.revoke_key(connection, who.organisation_id, key_id, user_id=only)
            await audit.note(connection, who, "key.revoke", key_id, request_id=_id(work))


class AuditLog:
    """What was done in an organisation, for its administrators."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def entries(
        self,
        who: Principal,
        *,
        before: int | None = None,
        action: str = "",
        object_id: str = "",
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Return entries, newest first.

        Args:
            who: An administrator of the organisation.
            before: Only entries with a lower id.
            action: Only of this action.
            object_id: Only about this.
            limit: The most that are returned.
        """
        async with walled(self._database, who) as connection:
            return await audit.entries(
                connection,
                who.organisation_id,
                before=before,
                action=action,
                object_id=object_id,
                limit=limit,
            )

    async def verify(self, who: Principal) -> audit.Verdict:
        """Chain what is not yet, and check the whole chain."""
        async with transaction(self._database) as connection:
            while await audit.chain(connection):
                pass
        async with transaction(self._database) as connection:
            return await audit.verify(connection, who.organisation_id)


async def _linked(connection: AsyncConnection, known: External, joining: Joining) -> User:
    """Return the account of a verified address, which is theirs from now on, or a new one."""
    if not known.is_verified or "@" not in known.email:
        raise Unauthenticated("The identity provider has not verified your e-mail address.")
    user = await identity.account_of(connection, known.email)
    if user is not None:
        if not await identity.link(connection, user.id, known.id):
            raise Unauthenticated(OUTSIDE)  # the address was somebody else's before
        return user
    if known.domain not in joining.domains:
        raise Unauthenticated(OUTSIDE)
    user = User(id=uuid4(), email=known.email, name=known.name, created_at=datetime.now(UTC))
    await identity.add_user(connection, user, external_id=known.id)
    return user


def _id(work: Work | None) -> str:
    return work.request_id if work else ""


async def _dummy() -> str:
    """Return the hash of a password that nobody has."""
    if not _DUMMY:
        _DUMMY.append(await asyncio.to_thread(_passwords.hash, secrets.token_hex()))
    return _DUMMY[0]


_DUMMY: list[str] = []


async def _with_refresh(
    connection: AsyncConnection, session_id: UUID, user_id: UUID, organisation_id: UUID
) -> Opened:
    token_id, text, hashed = mint(REFRESH_MARK)
    await identity.add_refresh(connection, token_id, session_id, hashed)
    return Opened(session_id, user_id, organisation_id, text)


async def _new_key(
    connection: AsyncConnection,
    organisation_id: UUID,
    user_id: UUID,
    name: str,
    scopes: list[Permission],
    expires_at: datetime | None,
) -> tuple[ApiKey, str]:
    key_id, text, hashed = mint(KEY_MARK)
    key = ApiKey(
        id=key_id,
        organisation_id=organisation_id,
        user_id=user_id,
        name=name,
        scopes=scopes,
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    await identity.add_key(connection, key, hashed)
    return key, text


async def _keep_an_admin(connection: AsyncConnection, who: Principal, user_id: UUID, *, stays: bool) -> None:
    admins = await identity.lock_admins(connection, who.organisation_id)
    if who.organisation_id not in await identity.organisations_of(connection, user_id):
        raise NotFound(f"There is no member {user_id}.")
    if not stays and admins == [user_id]:
        raise Conflict("This is the organisation's only administrator.", hint="Make somebody else one first.")
