"""Users, sessions, keys and memberships, and the audit log of what is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.identity import Principal, Role
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.identity import Identity
from phoenix.engine.upkeep import tidy
from phoenix.errors import Conflict, Forbidden, NotFound, Unauthenticated
from phoenix.storage import audit, idempotency, identity
from phoenix.storage.database import connect, transaction
from phoenix.storage.tables import organisations

PASSWORD = "correct horse battery"
EMAIL = "ann@example.org"


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return an engine over a database with Phoenix's schema."""
    engine = connect(migrated_database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def people(database: AsyncEngine) -> Identity:
    """Return the use cases."""
    return Identity(database)


async def admin(people: Identity) -> Principal:
    """Return the first administrator."""
    key = await people.first_admin(DEFAULT_ORGANISATION, "root@example.org")
    assert key is not None
    return await people.of_key(key)


async def member(people: Identity, role: Role = "developer", email: str = EMAIL) -> Principal:
    """Return a member with a password, signed in."""
    root = await admin(people)
    await people.add_member(root, email=email, name="Ann", role=role, password=PASSWORD)
    return await people.of_session((await people.sign_in(email, PASSWORD)).session_id)


async def test_there_is_one_first_administrator(people: Identity) -> None:
    """The key is given once."""
    assert (await admin(people)).may("administer")
    assert await people.first_admin(DEFAULT_ORGANISATION, "other@example.org") is None


async def test_of_replicas_that_start_at_once_one_makes_the_administrator(people: Identity) -> None:
    """One key is given, however many start."""
    starts = [people.first_admin(DEFAULT_ORGANISATION, "root@example.org") for _ in range(6)]
    assert sum(key is not None for key in await asyncio.gather(*starts)) == 1


async def test_a_member_signs_in_and_out(people: Identity) -> None:
    """A session is good until its end."""
    who = await member(people)
    assert (who.email, who.role, who.via) == (EMAIL, "developer", "token")
    await people.sign_out(who)
    with pytest.raises(Unauthenticated):
        await people.of_session(who.credential_id)


@pytest.mark.parametrize(
    ("email", "password"),
    [(EMAIL, "wrong"), ("nobody@example.org", PASSWORD), ("root@example.org", PASSWORD)],
)
async def test_whatever_is_wrong_sounds_the_same(people: Identity, email: str, password: str) -> None:
    """Nobody learns which addresses have an account."""
    await member(people)
    with pytest.raises(Unauthenticated, match=r"The e-mail address or the password is wrong\."):
        await people.sign_in(email, password)


async def test_a_refresh_token_is_good_once(people: Identity) -> None:
    """A token that comes twice ends the session, for the thief and for the owner."""
    await member(people)
    opened = await people.sign_in(EMAIL, PASSWORD)
    renewed = await people.refresh(opened.refresh_token)
    assert renewed.session_id == opened.session_id
    with pytest.raises(Unauthenticated, match="stolen"):
        await people.refresh(opened.refresh_token)
    with pytest.raises(Unauthenticated, match="ended"):
        await people.refresh(renewed.refresh_token)
    with pytest.raises(Unauthenticated):
        await people.of_session(opened.session_id)


async def test_of_many_that_refresh_at_once_one_wins(people: Identity) -> None:
    """There are never two successors of one token."""
    await member(people)
    opened = await people.sign_in(EMAIL, PASSWORD)
    tries = [people.refresh(opened.refresh_token) for _ in range(8)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(r, Unauthenticated) for r in results) == 1


async def test_a_refresh_token_with_another_secret_is_refused(people: Identity) -> None:
    """Knowing the id is not enough, and ends nothing."""
    await member(people)
    opened = await people.sign_in(EMAIL, PASSWORD)
    with pytest.raises(Unauthenticated):
        await people.refresh(opened.refresh_token[:-4] + "AAAA")
    await people.of_session(opened.session_id)


async def test_who_is_removed_is_out_at_once(people: Identity) -> None:
    """Sessions and keys end with the membership, and do not come back with the next one."""
    who = await member(people)
    _, key = await people.make_key(who, name="ci", scopes=["read"], expires_at=None)
    root = await people.of_session((await _second_admin(people)).credential_id)
    await people.remove_member(root, who.user_id)
    for attempt in (people.of_session(who.credential_id), people.of_key(key)):
        with pytest.raises(Unauthenticated):
            await attempt
    await people.add_member(root, email=EMAIL, name="", role="viewer", password=None)
    with pytest.raises(Unauthenticated):
        await people.of_key(key)


async def _second_admin(people: Identity) -> Principal:
    async with transaction(people._database) as connection:
        found = await identity.user_of_email(connection, "root@example.org")
    assert found is not None
    return await people.of_session((await people.open_session(found[0].id)).session_id)


async def test_a_role_counts_from_the_next_request(people: Identity, database: AsyncEngine) -> None:
    """It is read from the database, not from the token."""
    who = await member(people)
    root = await _second_admin(people)
    await people.set_role(root, who.user_id, "viewer")
    assert (await people.of_session(who.credential_id)).role == "viewer"
    async with transaction(database) as connection:
        await identity.set_user(connection, who.user_id, is_active=False)
    with pytest.raises(Unauthenticated):
        await people.of_session(who.credential_id)


async def test_a_key_may_no_more_than_its_maker_and_its_scopes(people: Identity) -> None:
    """Scopes narrow a role and never widen it."""
    who = await member(people)
    with pytest.raises(Forbidden):
        await people.make_key(who, name="x", scopes=["administer"], expires_at=None)
    key, text_ = await people.make_key(who, name="x", scopes=["read"], expires_at=None)
    by_key = await people.of_key(text_)
    assert by_key.may("read")
    assert not by_key.may("develop")
    assert [k.id for k in (await people.keys(who))[0]] == [key.id]


@pytest.mark.parametrize("is_joined", [False, True], ids=["for many requests", "within a request's own"])
async def test_the_use_of_a_key_is_noted_once_a_minute(
    people: Identity, database: AsyncEngine, is_joined: bool
) -> None:
    """The first use and one a minute later are; those between cost no statement."""
    key, text_ = await people.make_key(await admin(people), name="ci", scopes=["read"], expires_at=None)
    noted: list[str] = []

    def note(*said: object) -> None:
        noted.extend(s for s in said if isinstance(s, str) and s.startswith("UPDATE api_keys"))

    async def use() -> int:
        noted.clear()
        if is_joined:
            async with transaction(database) as connection:
                await people.of_key(text_, within=connection)
        else:
            await people.of_key(text_)
        return len(noted)

    event.listen(database.sync_engine, "before_cursor_execute", note)
    assert [await use(), await use(), await use()] == [1, 0, 0]
    async with transaction(database) as connection:
        ago = text("UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds' WHERE id = :id")
        await connection.execute(ago, {"id": key.id})
    assert [await use(), await use()] == [1, 0]
    event.remove(database.sync_engine, "before_cursor_execute", note)


async def test_a_key_ends(people: Identity) -> None:
    """By its date, or by being revoked; another user's key cannot be revoked."""
    who = await member(people)
    past = datetime.now(UTC) - timedelta(seconds=1)
    _, expired = await people.make_key(who, name="old", scopes=["read"], expires_at=past)
    with pytest.raises(Unauthenticated, match="expired"):
        await people.of_key(expired)
    key, text_ = await people.make_key(who, name="ci", scopes=["read"], expires_at=None)
    root = await _second_admin(people)
    await people.add_member(root, email="bob@example.org", name="", role="developer", password=PASSWORD)
    bob = await people.of_session((await people.sign_in("bob@example.org", PASSWORD)).session_id)
    with pytest.raises(NotFound):
        await people.revoke_key(bob, key.id)
    await people.revoke_key(who, key.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        await people.of_key(text_)


async def test_an_organisation_keeps_an_administrator(people: Identity) -> None:
    """The last one neither leaves nor steps down."""
    root = await admin(people)
    with pytest.raises(Conflict):
        await people.remove_member(root, root.user_id)
    with pytest.raises(Conflict):
        await people.set_role(root, root.user_id, "viewer")
    with pytest.raises(NotFound):
        await people.remove_member(root, uuid4())


async def test_an_account_is_not_changed_by_another_organisation(
    people: Identity, database: AsyncEngine
) -> None:
    """Who invites an existing user does not set their password."""
    await member(people)
    other = UUID(int=7)
    async with transaction(database) as connection:
        await connection.execute(insert(organisations).values(id=other, name="other"))
    root = (await _second_admin(people)).model_copy(update={"organisation_id": other})
    await people.add_member(root, email=EMAIL, name="X", role="admin", password="another password")
    with pytest.raises(Unauthenticated):
        await people.sign_in(EMAIL, "another password")
    here = await people.of_session((await people.sign_in(EMAIL, PASSWORD)).session_id)
    there = await people.sign_in(EMAIL, PASSWORD, organisation_id=other)
    assert here.organisation_id == DEFAULT_ORGANISATION
    assert (await people.of_session(there.session_id)).role == "admin"


async def test_a_grant_is_a_role_in_one_project() -> None:
    """It widens or narrows what the role in the organisation allows, there and nowhere else."""
    one, two = uuid4(), uuid4()
    who = Principal(
        user_id=uuid4(),
        organisation_id=uuid4(),
        email=EMAIL,
        role="viewer",
        via="token",
        credential_id=uuid4(),
        grants={one: "approver"},
    )
    assert who.may("approve", one)
    assert not who.may("approve", two)
    assert not who.may("approve")
    assert who.may_somewhere("approve")
    assert not who.model_copy(update={"scopes": ["read"]}).may_somewhere("approve")


# --- audit -----------------------------------------------------------------------------------


async def test_what_is_done_is_noted_and_chained(people: Identity, database: AsyncEngine) -> None:
    """Rows are chained in order; a check finds them whole."""
    root = await admin(people)
    for n in range(5):
        await people.add_member(root, email=f"u{n}@example.org", name="", role="viewer", password=None)
    async with transaction(database) as connection:
        assert (await audit.verify(connection, DEFAULT_ORGANISATION)).unchained == 5
        assert await audit.chain(connection, limit=3) == 3
    async with transaction(database) as connection:
        assert await audit.chain(connection) == 2
        verdict = await audit.verify(connection, DEFAULT_ORGANISATION)
        found = await audit.entries(connection, DEFAULT_ORGANISATION, action="member.add", limit=2)
    assert (verdict.checked, verdict.unchained, verdict.broken_at) == (5, 0, None)
    assert len(verdict.last_hash) == 64
    assert [e.data["email"] for e in found] == ["u4@example.org", "u3@example.org"]


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit SET actor = 'somebody' WHERE position = 2", 2),
        ("UPDATE audit SET at = at + interval '1 second' WHERE position = 3", 3),
        ("DELETE FROM audit WHERE position = 2", 2),
    ],
)
async def test_a_changed_row_is_found(
    people: Identity, database: AsyncEngine, statement: str, broken_at: int
) -> None:
    """Whoever gets past the trigger does not get past the chain."""
    root = await admin(people)
    for n in range(4):
        await people.add_member(root, email=f"u{n}@example.org", name="", role="viewer", password=None)
    async with transaction(database) as connection:
        await audit.chain(connection)
    with pytest.raises(DBAPIError, match="only added to"):
        async with transaction(database) as connection:
            await connection.execute(text(statement))
    async with transaction(database) as connection:
        await connection.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
        await connection.execute(text(statement))
        verdict = await audit.verify(connection, DEFAULT_ORGANISATION)
    assert verdict.broken_at == broken_at


async def test_upkeep_chains_the_log_and_forgets_old_answers(people: Identity, database: AsyncEngine) -> None:
    """A row is chained without being asked for; an answer of today stays, one of two days ago goes."""
    root = await admin(people)
    await people.add_member(root, email=EMAIL, name="", role="viewer", password=None)
    async with transaction(database) as connection:
        for key in ("new", "old"):
            assert await idempotency.begin(connection, root, key, b"x") is None
        aged = "UPDATE idempotency SET created_at = now() - interval '2 days' WHERE key = 'old'"
        await connection.execute(text(aged))
    await tidy(database)
    async with transaction(database) as connection:
        assert (await audit.verify(connection, DEFAULT_ORGANISATION)).unchained == 0
        assert list((await connection.execute(text("SELECT key FROM idempotency"))).scalars()) == ["new"]
