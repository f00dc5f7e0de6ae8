"""An organisation's administrator removes what its finished projects no longer need; nobody else's."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text

from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.launch import Launch
from phoenix.storage.database import transaction
from tests.integration.api.conftest import Front
from tests.integration.engine.engine_toy import Words

PRUNE = "/api/v1/organisation/prune"


async def ended(front: Front, *organisations: UUID) -> list[str]:
    """Return finished projects, one in each organisation, in the order in which they ended."""
    given = Words(text="hello", folder=str(front.system.folder)).model_dump(mode="json")
    found = []
    async with front.system.engine.worker():
        for organisation in organisations:
            order = Launch(
                requirement="x", model="none", flow="plain", input=given, organisation_id=organisation
            )
            project = await front.system.engine.launch(order)
            await front.system.until(project.id, "success")
            found.append(str(project.id))
    return found


async def checkpoints(front: Front) -> set[str]:
    """Return the projects that still have checkpoints."""
    query = (
        "SELECT DISTINCT r.project_id::text FROM runs r JOIN checkpoints c ON c.thread_id = r.thread_id::text"
    )
    async with transaction(front.system.database) as connection:
        return set((await connection.execute(text(query))).scalars())


async def test_an_administrator_prunes_the_own_organisation(front: Front) -> None:
    """A rehearsal changes nothing; each request does so many at most; others' projects stay as they are."""
    other = await front.organisation()
    first, theirs, second = await ended(front, DEFAULT_ORGANISATION, other, DEFAULT_ORGANISATION)
    async with front.client(await front.member("approver")) as http:
        assert (await http.post(PRUNE, json={"older_than_days": 0})).status_code == 403
    async with front.client(await front.member("admin")) as http:
        # The setting of this service keeps all, so that without a time of one's own nothing is due.
        assert (await http.post(PRUNE, json={})).json()["projects"] == []
        dry = (await http.post(PRUNE, json={"older_than_days": 0, "dry_run": True})).json()
        assert ([p["project_id"] for p in dry["projects"]], dry["has_more"]) == ([first, second], False)
        assert (await http.post(PRUNE, json={"older_than_days": 1})).json()["projects"] == []
        assert await checkpoints(front) == {first, theirs, second}
        for project_id, has_more in ((first, True), (second, False)):
            done = (await http.post(PRUNE, json={"older_than_days": 0, "limit": 1})).json()
            assert ([p["project_id"] for p in done["projects"]], done["has_more"]) == ([project_id], has_more)
        assert await checkpoints(front) == {theirs}
        assert (await http.get(f"/api/v1/projects/{first}")).status_code == 200
        entries = (await http.get("/api/v1/audit", params={"action": "organisation.prune"})).json()
        assert [e["data"]["projects"] for e in entries] == [[second], [first], [], []]
        for wrong in ({"older_than_days": -1}, {"older_than_days": 1e9}, {"limit": 0}, {"all": True}):
            assert (await http.post(PRUNE, json=wrong)).status_code == 422, wrong
