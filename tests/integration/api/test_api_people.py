"""Messages, rules and decisions on tool calls over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from phoenix.domain.permissions import Rule, RuleSet
from phoenix.storage import permissions
from phoenix.storage.database import transaction
from tests.integration.api.conftest import Front
from tests.integration.api.test_api_projects import NEW, launched

RULES: dict[str, Any] = {"rules": [{"effect": "ask", "tool": "bash", "command": "make *", "reason": "Slow."}]}


async def test_a_message_is_stored_once_and_listed(front: Front) -> None:
    """The same key again gives the same answer; one row, one event, one line of the audit log."""
    project = await launched(front)
    path = f"/api/v1/projects/{project}/messages"
    body = {"text": "Keep the old option."}
    async with front.client(await front.member("developer")) as http:
        answers = [await http.post(path, json=body, headers={"Idempotency-Key": "one"}) for _ in range(3)]
        assert [a.status_code for a in answers] == [201, 201, 201], answers[0].text
        assert len({a.text for a in answers}) == 1
        other = await http.post(path, json={"text": "Other."}, headers={"Idempotency-Key": "one"})
        assert (other.status_code, other.json()["code"]) == (409, "key_reused")
        listed = (await http.get(path)).json()
        assert [(one["message"]["text"], one["reads"]) for one in listed] == [("Keep the old option.", [])]
        assert listed[0]["message"]["sent_by"].startswith("developer-")
        assert (await http.get(path, params={"after": listed[0]["message"]["seq"]})).json() == []
        events = (await http.get(f"/api/v1/projects/{project}/events")).json()
    sent = [e for e in events if e["kind"] == "message_sent"]
    assert [(e["seq"], e["data"]["text"]) for e in sent] == [(listed[0]["message"]["seq"], body["text"])]
    async with front.client(await front.member("admin")) as http:
        noted = (await http.get("/api/v1/audit", params={"action": "project.message"})).json()
    assert [n["object_id"] for n in noted] == [project]


async def test_messages_that_cannot_be_sent(front: Front) -> None:
    """Each wrong member is named; what is over takes none."""
    project = await launched(front)
    path = f"/api/v1/projects/{project}/messages"
    async with front.client(await front.member("developer")) as http:
        for body, field in (
            ({}, "body.text"),
            ({"text": ""}, "body.text"),
            ({"text": "  "}, "text"),
            ({"text": "x" * 20_001}, "body.text"),
            ({"text": "x", "task": "T1"}, "task"),
            ({"text": "x", "to": "T1"}, "body.to"),
        ):
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
        cancelled = await http.post(f"/api/v1/projects/{project}/cancel")
        assert (cancelled.status_code, cancelled.json()) == (202, {"kept": []})
        late = await http.post(path, json={"text": "x"})
        assert (late.status_code, late.json()["code"]) == (409, "conflict")
        assert (await http.get(path)).json() == []


async def test_who_may_speak_and_who_may_rule(front: Front) -> None:
    """Viewers read, developers and approvers speak, administrators set rules."""
    project = await launched(front)
    allowed = {"viewer": (403, 403), "approver": (201, 403), "developer": (201, 403), "admin": (201, 204)}
    for role, (message, rule) in allowed.items():
        async with front.client(await front.member(role)) as http:  # type: ignore[arg-type]
            sent = await http.post(f"/api/v1/projects/{project}/messages", json={"text": "Hello."})
            set_ = await http.put("/api/v1/rules", json={"rules": RULES})
            assert (sent.status_code, set_.status_code) == (message, rule), role
            for read in ("/rules", f"/projects/{project}/messages", f"/projects/{project}/tool-decisions"):
                assert (await http.get(f"/api/v1{read}")).status_code == 200, (role, read)


async def test_another_organisations_project_is_not_there(front: Front) -> None:
    """Same answer as for an id that nobody has; nothing is sent."""
    project, nobody = await launched(front), str(uuid4())
    async with front.client(await front.member("admin", organisation_id=await front.organisation())) as http:
        for method, place, body in (
            ("POST", "messages", {"text": "Hello."}),
            ("GET", "messages", None),
            ("GET", "tool-decisions", None),
        ):
            answers = [
                await http.request(method, f"/api/v1/projects/{one}/{place}", json=body)
                for one in (project, nobody)
            ]
            assert [a.status_code for a in answers] == [404, 404], place
            assert answers[0].json()["code"] == answers[1].json()["code"] == "not_found"
    async with front.client(await front.member("viewer")) as http:
        assert (await http.get(f"/api/v1/projects/{project}/messages")).json() == []


async def test_rules_are_the_organisations_own(front: Front) -> None:
    """They are read back as they were set, taken away by null, and seen by no other organisation."""
    token = await front.member("admin")
    other = await front.member("admin", organisation_id=await front.organisation())
    async with front.client(token) as http:
        assert (await http.put("/api/v1/rules", json={"rules": RULES})).status_code == 204
        found = (await http.get("/api/v1/rules")).json()
        assert found["organisation"]["rules"][0]["command"] == "make *"
        assert {rule["effect"] for rule in found["service"]["rules"]} == {"allow"}
    async with front.client(other) as http:
        assert (await http.get("/api/v1/rules")).json()["organisation"] is None
    async with front.client(token) as http:
        assert (await http.put("/api/v1/rules", json={"rules": None})).status_code == 204
        assert (await http.get("/api/v1/rules")).json()["organisation"] is None
        noted = (await http.get("/api/v1/audit", params={"action": "rules.set"})).json()
    assert [n["data"]["rules"] for n in noted] == [0, 1]


async def test_rules_that_cannot_be_used_are_refused(front: Front) -> None:
    """With the field, in the organisation's as in a project's."""
    async with front.client(await front.member("admin")) as http:
        for rule, field in (
            ({"effect": "permit"}, "rules.rules.0.effect"),
            ({"effect": "deny", "command": "a; b"}, "rules.rules.0.command"),
            ({"effect": "deny", "path": "../x"}, "rules.rules.0.path"),
            ({"effect": "deny", "user": "x"}, "rules.rules.0.user"),
        ):
            body = {"rules": {"rules": [rule]}}
            for answer in (
                await http.put("/api/v1/rules", json=body),
                await http.post("/api/v1/projects", json=NEW | body),
            ):
                assert (answer.status_code, answer.json()["field"]) == (422, f"body.{field}"), answer.text


async def test_a_project_is_launched_with_rules(front: Front) -> None:
    """They are the project's from its row on."""
    async with front.client(await front.member("developer")) as http:
        answer = await http.post("/api/v1/projects", json=NEW | {"rules": RULES})
        assert answer.status_code == 202, answer.text
        project = answer.json()
        assert project["rules"]["rules"][0]["effect"] == "ask"
        assert (await http.get(f"/api/v1/projects/{project['id']}/tool-decisions")).json() == []
    async with transaction(front.system.database) as connection:
        stored = await permissions.project_rules(connection, project["id"])
    assert stored == RuleSet(rules=[Rule(effect="ask", tool="bash", command="make *", reason="Slow.")])


async def test_of_many_at_once_each_message_is_one(front: Front) -> None:
    """Twenty posts with five keys: five messages, numbered as their events are."""
    project = await launched(front)
    path = f"/api/v1/projects/{project}/messages"
    async with front.client(await front.member("developer")) as http:
        answers = await asyncio.gather(
            *(
                http.post(path, json={"text": f"M{n % 5}"}, headers={"Idempotency-Key": f"k{n % 5}"})
                for n in range(20)
            )
        )
        assert {a.status_code for a in answers} == {201}
        listed = [one["message"] for one in (await http.get(path)).json()]
    assert sorted(m["text"] for m in listed) == [f"M{n}" for n in range(5)]
    assert [m["seq"] for m in listed] == sorted(m["seq"] for m in listed)
