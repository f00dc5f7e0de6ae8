"""Launches of one moment share a transaction, and each is its caller's alone."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from phoenix.domain.identity import Principal
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.launch import Launch
from phoenix.engine.launching import Behalf
from phoenix.storage.database import transaction
from tests.integration.api.conftest import Front
from tests.integration.api.world import member

API = "/api/v1"

STORED = text(
    "SELECT p.id, p.organisation_id, p.created_by, a.actor, a.organisation_id AS audited, a.data,"
    " (SELECT count(*) FROM runs r WHERE r.project_id = p.id) AS runs,"
    " (SELECT count(*) FROM events e WHERE e.project_id = p.id) AS events"
    " FROM projects p LEFT JOIN audit a ON a.object_id = p.id::text AND a.action = 'project.launch'"
)


async def test_launches_at_once_are_stored_together_each_as_its_callers(wide_front: Front) -> None:
    """Two organisations' requests at once: few commits, and every row says whose it is."""
    front = wide_front
    there = await front.organisation()
    people = [await member(front, "developer", where) for where in (DEFAULT_ORGANISATION, there)]
    commits: list[object] = []
    event.listen(front.system.database.sync_engine, "commit", commits.append)
    clients = [front.client(who.token()) for who in people]
    async with clients[0], clients[1]:
        new = {"requirement": "Count.", "model": "openai:m"}
        answers = await asyncio.gather(
            *(clients[n % 2].post(f"{API}/projects", json={**new, "title": f"{n}"}) for n in range(40))
        )
    assert [answer.status_code for answer in answers] == [202] * 40
    # Who asks is looked up, launches are stored and held runs looked at: each for many.
    assert len(commits) < 40
    async with transaction(front.system.database) as connection:
        rows = {str(row.id): row for row in await connection.execute(STORED)}
    for n, answer in enumerate(answers):
        where, row = (DEFAULT_ORGANISATION, there)[n % 2], rows[answer.json()["id"]]
        assert (row.organisation_id, row.audited, row.runs, row.events) == (where, where, 1, 1)
        assert row.created_by == people[n % 2].opened.user_id
        assert row.actor.startswith("developer-")
        assert row.data["title"] == answer.json()["title"] == f"{n}"
        assert answer.headers["location"] == f"{API}/projects/{answer.json()['id']}"
        assert answer.headers["etag"]


def launch(organisation_id: UUID, requirement: str = "Count.") -> Launch:
    """Return a launch."""
    return Launch(requirement=requirement, model="recorded:none", organisation_id=organisation_id)


def developer(organisation_id: UUID) -> Principal:
    """Return somebody who may launch in an organisation."""
    return Principal(
        user_id=uuid4(),
        organisation_id=organisation_id,
        email="dev@example.org",
        role="developer",
        via="token",
        credential_id=uuid4(),
    )


async def test_nobody_launches_behind_the_wall_of_another_organisation(wide_front: Front) -> None:
    """Whatever the code says: the database refuses the row, and the launches beside it are stored."""
    engine = wide_front.system.engine
    there = await wide_front.organisation()
    behalf = Behalf(developer(there))
    asked = [launch(there), launch(DEFAULT_ORGANISATION, "Not mine."), launch(there)]
    found = await asyncio.gather(
        *(engine.launch(one, behalf=behalf) for one in asked), return_exceptions=True
    )
    assert isinstance(found[1], Exception)
    assert "row-level security" in str(found[1])
    assert not isinstance(found[0], BaseException)
    assert not isinstance(found[2], BaseException)
    async with transaction(wide_front.system.database) as connection:
        rows = (await connection.execute(STORED)).all()
    assert {row.id for row in rows} == {found[0].id, found[2].id}
    assert {row.audited for row in rows} == {there}


async def test_with_quotas_the_wall_stands_too(wide_front: Front) -> None:
    """A launch that is counted alone is behind the same wall."""
    there = await wide_front.organisation()
    async with transaction(wide_front.system.database) as connection:
        limit = text("UPDATE organisations SET max_projects = 5")
        await connection.execute(limit)
    behalf = Behalf(developer(there))
    assert (await wide_front.system.engine.launch(launch(there), behalf=behalf)).organisation_id == there
    with pytest.raises(DBAPIError, match="row-level security"):
        await wide_front.system.engine.launch(launch(DEFAULT_ORGANISATION), behalf=behalf)
