"""Row-level security: what a query of a request forgets to filter, the database does not show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.api.app import ApiOptions
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine import projects as module
from phoenix.errors import NotFound
from phoenix.storage import projects, tenancy
from phoenix.storage.database import transaction
from phoenix.storage.migrate import upgrade
from phoenix.storage.tables_identity import users
from tests.conftest import GIVEN_SERVER, Databases
from tests.integration.api.asgi import call
from tests.integration.api.conftest import UNCOUNTED, Front, open_front
from tests.integration.api.world import member, things

TABLES = users.metadata.tables
SEEN = """
SELECT 'projects', count(*) FROM projects UNION ALL SELECT 'runs', count(*) FROM runs
UNION ALL SELECT 'events', count(*) FROM events UNION ALL SELECT 'approvals', count(*) FROM approvals
UNION ALL SELECT 'artifacts', count(*) FROM artifacts UNION ALL SELECT 'audit', count(*) FROM audit
UNION ALL SELECT 'memberships', count(*) FROM memberships UNION ALL SELECT 'api_keys', count(id) FROM api_keys
UNION ALL SELECT 'organisations', count(*) FROM organisations
"""
"""Queries that filter nothing."""

RULE = 'local all "/^plain_" trust\n'
ACCOUNTS = ("superuser", "plain")


@pytest.fixture(params=ACCOUNTS)
async def walled(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path
) -> AsyncIterator[tuple[Front, str]]:
    """Return a front door over a database of an account that may do everything, and of one that may not."""
    databases = Databases(postgres_url)
    account = f"plain_{uuid4().hex[:12]}"
    name = await databases.create()
    url = databases.url(name)
    await upgrade(url)  # as the first: the role is there before the plain account comes
    if request.param == "plain":
        await databases.drop(name)
        name, url = await owned(databases, account)
        await upgrade(url)
    options = ApiOptions(rate_limit=UNCOUNTED)
    async with open_front(url, tmp_path, options) as front:
        yield front, "role" if request.param == "superuser" else "forced"
    await databases.drop(name)
    if request.param == "plain":
        await databases.drop_role(account)


async def let_in(databases: Databases) -> None:
    """Let such accounts in at the tests' own server, which knows its owner only."""
    if GIVEN_SERVER:
        return
    async with await psycopg.AsyncConnection.connect(databases.server, autocommit=True) as connection:
        row = await (await connection.execute("SHOW hba_file")).fetchone()
        assert row is not None
        rules = Path(str(row[0]))
        if RULE not in rules.read_text():
            rules.write_text(RULE + rules.read_text())
            await connection.execute("SELECT pg_reload_conf()")
            await asyncio.sleep(0.5)


async def owned(databases: Databases, account: str, *rights: str) -> tuple[str, str]:
    """Make a database that belongs to an account which may make no roles, with more rights of these names."""
    await let_in(databases)
    name = f"test_{uuid4().hex}"
    identifier, password = sql.Identifier(account), "plain"
    more = sql.SQL(" ").join(map(sql.SQL, rights))  # type: ignore[arg-type]
    make = sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEROLE {} PASSWORD {}")
    await databases._execute(make.format(identifier, more, password))
    make = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' OWNER {}")
    await databases._execute(make.format(sql.Identifier(name), identifier))
    parts = urlsplit(databases.url(name))
    host = parts.netloc.rpartition("@")[2]
    return name, urlunsplit(parts._replace(netloc=f"{account}:{password}@{host}"))


async def seen(connection: AsyncConnection) -> dict[str, int]:
    """Return how many rows of each table are seen without any filter."""
    return {row[0]: row[1] for row in await connection.execute(text(SEEN))}


async def test_an_unfiltered_query_sees_one_organisation(walled: tuple[Front, str]) -> None:
    """Whatever the account of the database may do; a worker sees all."""
    front, kind = walled
    other = await front.organisation()
    await things(front, DEFAULT_ORGANISATION)
    async with transaction(front.system.database) as connection:
        assert await tenancy.standing(connection) == kind
        assert (await call(front.app, "GET", "/readyz")).json["wall"] == kind
        everything = await seen(connection)
        await tenancy.enter(connection, other)
        assert await seen(connection) == dict.fromkeys(everything, 0) | {"organisations": 1}
    async with transaction(front.system.database) as connection:
        await tenancy.enter(connection, DEFAULT_ORGANISATION)
        own = await seen(connection)
    assert own == everything | {"organisations": 1}
    assert all(own.values())


async def test_requests_work_behind_the_wall(walled: tuple[Front, str]) -> None:
    """Launched, read, steered, its key made and revoked, by whatever account the database is reached."""
    front, _ = walled
    who = await member(front, "admin", DEFAULT_ORGANISATION)
    launched = await call(
        front.app, "POST", "/api/v1/projects", who.header, {"requirement": "x", "model": "a:b"}
    )
    assert launched.status == 202, launched.body
    path = f"/api/v1/projects/{launched.json['id']}"
    for method, where, body, status in (
        ("GET", path, None, 200),
        ("PATCH", path, {"title": "y"}, 200),
        ("POST", f"{path}/pause", {}, 202),
        ("POST", f"{path}/resume", {}, 202),
        ("POST", f"{path}/cancel", None, 202),
        ("DELETE", path, None, 204),
        ("POST", "/api/v1/members", {"email": "new@example.org", "role": "viewer"}, 201),
        ("POST", "/api/v1/api-keys", {"name": "ci", "scopes": ["read"]}, 201),
        ("PATCH", "/api/v1/organisation", {"max_projects": 3}, 200),
        ("GET", "/api/v1/audit", None, 200),
        ("GET", "/api/v1/audit/verify", None, 200),
    ):
        answer = await call(front.app, method, where, who.header, body)
        assert answer.status == status, (method, where, answer.body)


async def test_nothing_of_others_is_changed(walled: tuple[Front, str]) -> None:
    """Neither updated, nor deleted, nor put beside what is theirs."""
    front, _ = walled
    other = await front.organisation()
    ids = (await things(front, DEFAULT_ORGANISATION)).ids
    project_id = ids["project_id"]
    async with transaction(front.system.database) as connection:
        await tenancy.enter(connection, other)
        for statement in (
            "UPDATE projects SET title = 'mine'",
            "DELETE FROM projects",
            "UPDATE approvals SET decided_by = 'me'",
            "DELETE FROM events",
            "UPDATE api_keys SET revoked_at = now()",
        ):
            assert (await connection.execute(text(statement))).rowcount == 0, statement
    for statement in (
        "INSERT INTO events (project_id, seq, kind, data) VALUES (:project, 99, 'x', '{}')",
        "INSERT INTO projects (id, organisation_id, title, requirement, model, approvals, path)"
        " VALUES (gen_random_uuid(), :own, 't', 'r', 'm', 'ask', 'auto')",
    ):
        given = {"project": project_id, "own": DEFAULT_ORGANISATION}
        values = {name: value for name, value in given.items() if f":{name}" in statement}
        with pytest.raises(DBAPIError, match="row-level security"):
            await entered(front, other, statement, values)


async def entered(front: Front, organisation_id: UUID, statement: str, values: dict[str, Any]) -> None:
    """Execute a statement as a request of an organisation."""
    async with front.system.database.begin() as connection:
        await tenancy.enter(connection, organisation_id)
        await connection.execute(text(statement), values)


async def forgetful(
    connection: AsyncConnection, _who: Any, project_id: UUID, _permission: str = "read"
) -> Any:
    """Stand for `visible`, and forget to compare the organisation."""
    return await projects.get(connection, project_id)


@pytest.mark.parametrize("stands", [True, False])
async def test_a_request_that_forgets_its_filter_finds_nothing(
    wide_front: Front, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    """Another organisation's project is not found by it; where the wall is taken down, it is."""
    monkeypatch.setattr(module, "visible", forgetful)
    front = wide_front
    ids = (await things(front, DEFAULT_ORGANISATION)).ids
    stranger = await member(front, "admin", await front.organisation())
    if not stands:
        async with transaction(front.system.database) as connection:
            await connection.execute(text("ALTER TABLE projects DISABLE ROW LEVEL SECURITY"))
    path = f"/api/v1/projects/{ids['project_id']}/cost"
    answer = await call(front.app, "GET", path, stranger.header)
    assert answer.status == (404 if stands else 200), answer.body
    events = await call(front.app, "GET", f"/api/v1/projects/{ids['project_id']}/events", stranger.header)
    assert events.status == (404 if stands else 200)


async def test_every_table_has_its_policy_or_its_reason(
    migrated_database_url: str, wide_front: Front
) -> None:
    """A new table belongs to organisations by a column, or is named as one that does not."""
    query = text("SELECT relname FROM pg_class WHERE relrowsecurity")
    async with transaction(wide_front.system.database) as connection:
        secured = set((await connection.execute(query)).scalars())
    exempt = {*tenancy.SHARED, *tenancy.CLOSED}
    assert {*TABLES} - secured == exempt
    assert not secured & exempt


async def test_the_role_sees_nothing_before_it_enters(wide_front: Front) -> None:
    """Fail-closed: without an organisation there are no rows."""
    await things(wide_front, DEFAULT_ORGANISATION)
    async with transaction(wide_front.system.database) as connection:
        await connection.execute(text(f"SET LOCAL ROLE {tenancy.ROLE}"))
        assert not any((await seen(connection)).values())


@pytest.mark.parametrize(
    "query",
    [
        "SELECT secret FROM signing_keys",
        "SELECT password_hash FROM users",
        "SELECT secret_hash FROM api_keys",
        "SELECT * FROM refresh_tokens",
        "SELECT * FROM checkpoints",
        "DELETE FROM audit",
        "UPDATE audit SET actor = 'nobody'",
    ],
)
async def test_a_request_cannot_read_secrets(wide_front: Front, query: str) -> None:
    """Once it is known whose a request is, it has no more to do with them."""
    async with wide_front.system.database.connect() as connection:
        await tenancy.enter(connection, DEFAULT_ORGANISATION)
        with pytest.raises(DBAPIError, match="permission denied"):
            await connection.execute(text(query))


async def test_a_transaction_leaves_nothing_to_the_next(wide_front: Front) -> None:
    """Connections are shared with workers: role and organisation end with the transaction."""
    async with wide_front.system.database.connect() as connection:
        await tenancy.enter(connection, DEFAULT_ORGANISATION)
        await connection.commit()
        query = text("SELECT current_user, coalesce(current_setting('phoenix.organisation', true), '')")
        row = (await connection.execute(query)).one()
    assert row[0] != tenancy.ROLE
    assert row[1] == ""


async def test_the_wall_is_mended(migrated_database_url: str) -> None:
    """A restored database lacks the grants of the role: the next start gives them; one more changes none."""
    async with await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as connection:
        await connection.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {tenancy.ROLE}")
        granted = f"SELECT has_table_privilege('{tenancy.ROLE}', 'projects', 'SELECT')"
        rows = "SELECT max(xmin::text::bigint) FROM pg_policy"
        await upgrade(migrated_database_url)
        assert await (await connection.execute(granted)).fetchone() == (True,)
        before = await (await connection.execute(rows)).fetchone()
        await upgrade(migrated_database_url)
        assert await (await connection.execute(rows)).fetchone() == before


async def test_many_requests_need_no_more_than_a_connection_each(wide_front: Front) -> None:
    """More at once than the pool has connections: each waits for its turn, and none for itself."""
    ids = (await things(wide_front, DEFAULT_ORGANISATION)).ids
    who = await member(wide_front, "viewer", DEFAULT_ORGANISATION)
    paths = ["/projects", f"/projects/{ids['project_id']}", "/approvals", "/members", "/api-keys"] * 20
    async with asyncio.timeout(20):
        answers = await asyncio.gather(
            *(call(wide_front.app, "GET", f"/api/v1{path}", who.header) for path in paths)
        )
    assert {answer.status for answer in answers} == {200}


async def test_visible_is_the_first_wall(wide_front: Front) -> None:
    """It refuses by itself, before the second has to."""
    ids = (await things(wide_front, DEFAULT_ORGANISATION)).ids
    stranger = await member(wide_front, "admin", await wide_front.organisation())
    principal = await wide_front.identity.of_session(stranger.opened.session_id)
    async with transaction(wide_front.system.database) as connection:
        with pytest.raises(NotFound):
            await module.visible(connection, principal, UUID(ids["project_id"]))
