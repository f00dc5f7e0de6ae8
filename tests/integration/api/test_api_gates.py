"""Rules of gates over HTTP: who decides what, what waits, and changes while projects run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from phoenix.domain.gates import GateRules
from phoenix.domain.identity import Role
from phoenix.engine.launch import Launch
from phoenix.storage.database import transaction
from tests.integration.api.conftest import Front
from tests.integration.engine.engine_toy import Words

Rules = Mapping[str, Any]
ROLES: tuple[Role, ...] = ("viewer", "developer", "approver", "admin")


async def launched(front: Front, rules: Rules | None = None, flow: str = "gate", **options: Any) -> str:
    """Launch a toy flow with rules, and return the project's id."""
    given = Words(text="hello", folder=str(front.system.folder)).model_dump(mode="json")
    gates = GateRules.model_validate({"gates": rules or {}})
    order = Launch(requirement="Do it.", model="none", flow=flow, input=given, gate_rules=gates, **options)
    return str((await front.system.engine.launch(order)).id)


async def waiting(front: Front, token: str, project_id: str, gate: str = "spec") -> dict[str, Any]:
    """Return the open approval of a project's gate, once it is there."""
    async with front.client(token) as http, asyncio.timeout(30):
        while True:
            for found in (await http.get("/api/v1/approvals")).json()["items"]:
                if found["project_id"] == project_id and found["request"]["name"] == gate:
                    return dict(found)
            await asyncio.sleep(0.05)


async def decide(
    front: Front, token: str, approval: Mapping[str, Any], verdict: str = "approve", **more: Any
) -> Any:
    """Send a decision on what was read, and return the answer."""
    body = {"verdict": verdict, "digest": approval["request"]["value_digest"], **more}
    async with front.client(token) as http:
        return await http.post(f"/api/v1/approvals/{approval['id']}/decision", json=body)


async def noted(front: Front, action: str, object_id: str) -> list[dict[str, Any]]:
    """Return the audit rows of an action on something."""
    async with front.client(await front.member("admin")) as http:
        answer = await http.get("/api/v1/audit", params={"action": action, "object_id": object_id})
        return list(answer.json())


@pytest.mark.parametrize("needed", ["approver", "admin"])
async def test_each_role_may_what_the_rule_says(front: Front, needed: str) -> None:
    """403 and an audit row below the role that a gate asks for; at or above it the run goes on."""
    tokens = {role: await front.member(role) for role in ROLES}
    async with front.system.engine.worker():
        for role in ROLES:
            project_id = await launched(front, {"spec": {"role": needed}})
            approval = await waiting(front, tokens["viewer"], project_id)
            may = ROLES.index(role) >= ROLES.index(needed)  # type: ignore[arg-type]
            async with front.client(tokens[role]) as http:
                read = (await http.get(f"/api/v1/approvals/{approval['id']}")).json()
                mine = (await http.get("/api/v1/approvals", params={"mine": True})).json()["items"]
            assert (read["may_decide"], bool(read["why_not"])) == (may, not may)
            assert (approval["id"] in {a["id"] for a in mine}) is may
            answer = await decide(front, tokens[role], approval)
            rows = await noted(front, "approval.refused", approval["id"])
            if may:
                assert (answer.status_code, answer.json()["decided_how"], rows) == (200, "person", [])
                await front.system.until(UUID(project_id), "success")
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text
                assert [r["actor"].partition("-")[0] for r in rows] == [role]
                assert (await waiting(front, tokens["viewer"], project_id))["votes"] == []


async def test_whoever_launched_it_is_refused_where_four_eyes_are_asked(front: Front) -> None:
    """403 and an audit row, though they are an administrator; somebody else decides."""
    token = await front.member("admin")
    async with front.client(token) as http:
        me = (await http.get("/api/v1/auth/me")).json()
        project_id = await launched(front, {"*": {"four_eyes": True}}, created_by=UUID(me["user_id"]))
        async with front.system.engine.worker():
            approval = await waiting(front, token, project_id)
            assert approval["may_decide"] is False
            assert "Four eyes" in approval["why_not"]
            answer = await decide(front, token, approval)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            (row,) = await noted(front, "approval.refused", approval["id"])
            assert (row["actor"], row["data"]["gate"]) == (me["email"], "spec")
            assert await noted(front, "approval.decide", approval["id"]) == []
            done = await decide(front, await front.member("approver"), approval)
            assert done.status_code == 200
            await front.system.until(UUID(project_id), "success")


async def test_votes_are_seen_and_counted(front: Front) -> None:
    """Who has voted, how many are missing, and whose list it is on."""
    one, two = await front.member("approver"), await front.member("approver")
    project_id = await launched(front, {"spec": {"quorum": 2, "deadline_seconds": 3600}})
    async with front.system.engine.worker():
        approval = await waiting(front, one, project_id)
        assert approval["needed"] == {"role": "approver", "users": [], "votes": 2}
        assert approval["deadline_at"] is not None
        first = await decide(front, one, approval, reason="Fine.")
        assert (first.status_code, first.json()["decision"], first.json()["needed"]["votes"]) == (
            200,
            None,
            1,
        )
        assert (await decide(front, one, approval)).status_code == 409
        seen = await waiting(front, two, project_id)
        assert [(v["verdict"], v["reason"]) for v in seen["votes"]] == [("approve", "Fine.")]
        for token, lists in ((one, 0), (two, 1)):
            async with front.client(token) as http:
                assert (
                    len((await http.get("/api/v1/approvals", params={"mine": True})).json()["items"]) == lists
                )
        refused = await decide(front, two, approval, "edit", value=approval["request"]["value"])
        assert refused.status_code == 422
        assert (await decide(front, two, approval)).json()["decision"]["verdict"] == "approve"
        assert (await decide(front, two, approval)).status_code == 409
        rows = await noted(front, "approval.decide", approval["id"])
        assert [row["data"]["decided"] for row in rows] == [True, False]
        await front.system.until(UUID(project_id), "success")


async def test_a_digest_counts_what_waits(front: Front) -> None:
    """By project and gate, with the oldest age and the next deadline; another organisation sees none."""
    token = await front.member("viewer")
    gates = {"left": {"deadline_seconds": 3600}, "right": {"deadline_seconds": 60}}
    both = await launched(front, gates, "two_gates")
    alone = await launched(front)
    async with front.system.engine.worker():
        for project_id, gate in ((both, "left"), (both, "right"), (alone, "spec")):
            await waiting(front, token, project_id, gate)
    async with transaction(front.system.database) as connection:
        moved = "UPDATE approvals SET created_at = created_at - interval '1 day' WHERE project_id = :id"
        await connection.execute(text(moved), {"id": alone})
    async with front.client(token) as http:
        found = (await http.get("/api/v1/approvals/digest")).json()
    assert found["count"] == 3
    assert 86_400 <= found["oldest_seconds"] < 87_000
    piles = {(p["project_id"], p["gate"]): p for p in found["waiting"]}
    assert {place: pile["count"] for place, pile in piles.items()} == {
        (both, "left"): 1,
        (both, "right"): 1,
        (alone, "spec"): 1,
    }
    assert found["next_deadline_at"] == piles[both, "right"]["next_deadline_at"]
    assert found["waiting"][0]["project_id"] == alone
    async with front.client(await front.member("admin", organisation_id=await front.organisation())) as http:
        nothing = {"count": 0, "oldest_seconds": 0.0, "next_deadline_at": None, "waiting": []}
        assert (await http.get("/api/v1/approvals/digest")).json() == nothing


async def test_the_level_changes_while_a_project_runs(front: Front) -> None:
    """For what is asked from then on; what waits already stays. It takes who may approve, and their ETag."""
    project_id = await launched(front)
    path = f"/api/v1/projects/{project_id}"
    approver = await front.member("approver")
    async with front.system.engine.worker():
        approval = await waiting(front, approver, project_id)
        async with front.client(await front.member("developer")) as http:
            assert (await http.patch(path, json={"approvals": "auto"})).status_code == 403
            assert (await http.patch(path, json={"gate_rules": {"gates": {}}})).status_code == 403
            assert (await http.patch(path, json={"title": "Mine"})).status_code == 200
        async with front.client(approver) as http:
            etag = (await http.get(path)).headers["etag"]
            wrong = await http.patch(path, json={"approvals": "auto,spec"})
            assert (wrong.status_code, wrong.json()["field"]) == (422, "approvals")
            done = await http.patch(path, json={"approvals": "auto"}, headers={"If-Match": etag})
            assert (done.status_code, done.json()["approvals"]) == (200, "auto")
            late = await http.patch(path, json={"approvals": "ask"}, headers={"If-Match": etag})
            assert late.status_code == 412
        assert (await waiting(front, approver, project_id))["id"] == approval["id"]
        no = await decide(front, approver, approval, "reject", reason="Again.")
        assert no.status_code == 200
        # The gate is visited again, and nobody is asked.
        await front.system.until(UUID(project_id), "success")
    (row,) = [r for r in await noted(front, "project.change", project_id) if "approvals" in r["data"]]
    assert row["data"]["approvals"] == "auto"
    (changed,) = [e.data for e in await front.system.events(UUID(project_id)) if e.kind == "gates_changed"]
    assert (changed["from"], changed["approvals"]) == ("ask", "auto")


async def test_rules_are_set_at_launch_and_by_patch(front: Front) -> None:
    """A rule that does not hold together is refused with its place."""
    new = {"requirement": "x", "model": "openai:gpt", "approvals": "guarded"}
    rule = {"gates": {"delivery": {"quorum": 2, "four_eyes": True}}}
    async with front.client(await front.member("approver")) as http:
        project = (await http.post("/api/v1/projects", json=new | {"gate_rules": rule})).json()
        assert (project["approvals"], project["gate_rules"]["gates"]["delivery"]["quorum"]) == ("guarded", 2)
        for wrong in (
            {"spec": {"quorum": 0}},
            {"spec": {"quorum": "2"}},
            {"spec": {"role": "viewer"}},
            {"spec": {"when_over": "approve"}},
            {"spec": {"deadline_seconds": 60, "remind_seconds": [60]}},
            {"spec": {"deadline_seconds": 60, "escalation": {"after_seconds": 61}}},
            {"questions": {"deadline_seconds": 60, "when_over": "approve"}},
            {"spec": {"votes": 2}},
            {"": {}},
        ):
            answer = await http.post("/api/v1/projects", json=new | {"gate_rules": {"gates": wrong}})
            assert answer.status_code == 422, wrong
            assert answer.json()["field"].startswith("body.gate_rules"), answer.text
        path = f"/api/v1/projects/{project['id']}"
        changed = await http.patch(path, json={"gate_rules": {"gates": {"plan": {"quorum": 3}}}})
        assert list(changed.json()["gate_rules"]["gates"]) == ["plan"]
        for nothing in ({"title": None}, {"approvals": None}, {"gate_rules": None}):
            assert (await http.patch(path, json=nothing)).status_code == 200


async def test_an_organisations_rules_are_its_projects_defaults(front: Front) -> None:
    """An administrator sets them; a project's own come first, but for one that is fixed."""
    token = await front.member("admin")
    rules = {"gates": {"spec": {"role": "admin", "fixed": True}, "left": {"quorum": 2}}}
    async with front.client(await front.member("approver")) as http:
        assert (await http.put("/api/v1/approvals/rules", json=rules)).status_code == 403
    async with front.client(token) as http:
        before = await http.get("/api/v1/approvals/rules")
        assert before.json() == {"gates": {}}
        etag = {"If-Match": before.headers["etag"]}
        assert (await http.put("/api/v1/approvals/rules", json=rules, headers=etag)).status_code == 200
        late = await http.put("/api/v1/approvals/rules", json={"gates": {}}, headers=etag)
        assert late.status_code == 412
        found = (await http.get("/api/v1/approvals/rules")).json()["gates"]
        assert (found["spec"]["role"], found["left"]["quorum"]) == ("admin", 2)
    weaker = await launched(front, {"spec": {"ask": False}}, approvals="auto")
    own = await launched(front, {"left": {"quorum": 3}}, "two_gates")
    theirs = await launched(front, None, "two_gates")
    async with front.system.engine.worker():
        assert (await waiting(front, token, weaker))["needed"]["role"] == "admin"
        assert (await waiting(front, token, own, "left"))["needed"]["votes"] == 3
        assert (await waiting(front, token, theirs, "left"))["needed"]["votes"] == 2
        assert (await waiting(front, token, theirs, "right"))["needed"]["votes"] == 1


async def test_another_organisations_approval_is_not_there(front: Front) -> None:
    """For reading and deciding alike, and nothing is noted of it there."""
    project_id = await launched(front)
    async with front.system.engine.worker():
        approval = await waiting(front, await front.member("viewer"), project_id)
    there = await front.organisation()
    for role in ("viewer", "admin"):
        token = await front.member(role, organisation_id=there)
        answer = await decide(front, token, approval)
        assert answer.status_code == (403 if role == "viewer" else 404)
    async with front.client(token) as http:
        assert (await http.get(f"/api/v1/approvals/{approval['id']}")).status_code == 404
        assert (await http.get("/api/v1/audit", params={"action": "approval.refused"})).json() == []
    assert await noted(front, "approval.refused", approval["id"]) == []
