"""A team takes a project from launch to delivery over HTTP alone; the service starts anew at every wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from httpx import AsyncClient

from phoenix.domain.approval import Approval, Decision
from phoenix.engine.launch import Launch
from phoenix.llm.scripted import ScriptedModel
from phoenix.settings import Settings
from tests.e2e.conftest import asks_for, system_of
from tests.e2e.script import MODEL, criterion, plan, script, spec, task
from tests.e2e.test_up import up

LONGEST_SECONDS = 300.0
PASSWORD = "correct horse battery"
WHY = "The second task must come after the first."
MESSAGE = "Keep the functions free of print statements."
RULES = {
    "gates": {
        "spec": {"four_eyes": True},
        "delivery": {"escalation": {"after_seconds": 2, "role": "admin"}},
    }
}


def together() -> str:
    """Return the plan that is rejected."""
    return plan(task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"]))


def in_turn() -> str:
    """Return the plan that comes of the rejection."""
    return plan(task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"], after=["T1"]))


def edited(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the spec as a person edits it."""
    value = json.loads(json.dumps(asked))
    value["requirements"][0]["criteria"][0]["text"] = "add(2, 2) returns 4, whatever the order"
    return dict(value)


async def recorded(settings: Settings, folder: Path) -> str:
    """Return a model that answers from a recording of the whole scenario, made in this process."""
    model = ScriptedModel(script(specify=[spec()], decompose=[together(), in_turn()]))
    path = folder / "recording.jsonl"
    async with system_of(settings, model, path) as system:
        gates = "spec,plan,delivery"
        order = Launch(requirement="A calculator.", model=MODEL, approvals=gates, path="full")
        project = await system.engine.launch(order)

        async def decide(approval: Approval, decision: Decision) -> None:
            await system.engine.decide(approval.id, decision, by="somebody")

        (asked,) = (await asks_for(system, project.id, "spec")).approvals
        await decide(asked, Decision(verdict="edit", value=edited(asked.request.value)))
        (asked,) = (await asks_for(system, project.id, "plan")).approvals
        await decide(asked, Decision(verdict="reject", reason=WHY))
        (again,) = (await asks_for(system, project.id, "plan", other_than=asked.id)).approvals
        await decide(again, Decision(verdict="approve"))
        (asked,) = (await asks_for(system, project.id, "delivery")).approvals
        await decide(asked, Decision(verdict="approve"))
        async with asyncio.timeout(LONGEST_SECONDS):
            while (await system.engine.overview(project.id)).run.status != "success":
                await asyncio.sleep(0.05)
    return f"recorded:{path}"


@dataclass
class Team:
    """People of one organisation, each with a client of their own, over a service that comes and goes."""

    settings: Settings
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""

    @asynccontextmanager
    async def service(self) -> AsyncIterator[str]:
        """Run the service anew; yield the first administrator's key, which only its first start shows."""
        async with up(self.settings) as service:
            self.url = service.url
            yield service.key

    async def ask(
        self, who: str, method: str, path: str, body: Any = None, *, key: str = ""
    ) -> tuple[int, Any]:
        """Make a request as a person; return the status and the answer."""
        headers = {"X-API-Key": key} if key else {"Authorization": f"Bearer {self.tokens[who]}"}
        async with AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=60) as http:
            answer = await http.request(method, path, json=body)
        return answer.status_code, answer.json() if answer.content else None

    async def does(self, who: str, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Make a request that succeeds."""
        status, answer = await self.ask(who, method, path, body, **more)
        assert status < 300, answer
        return answer

    async def join(self, key: str) -> None:
        """Let the administrator invite everybody, and everybody sign in."""
        for role in ("viewer", "developer", "approver", "admin"):
            body = {"email": f"{role}@example.org", "name": role, "role": role, "password": PASSWORD}
            await self.does("root", "POST", "/members", body, key=key)
        for role in ("viewer", "developer", "approver", "admin"):
            body = {"email": f"{role}@example.org", "password": PASSWORD}
            async with AsyncClient(base_url=f"{self.url}/api/v1") as http:
                answer = await http.post("/auth/sign-in", json=body)
            assert answer.status_code == 200, answer.text
            self.tokens[role] = answer.json()["access_token"]

    async def asked(self, project_id: str, gate: str, *, other_than: str = "") -> dict[str, Any]:
        """Return what waits at a gate, once it does."""
        async with asyncio.timeout(LONGEST_SECONDS):
            while True:
                for found in (await self.does("viewer", "GET", "/approvals"))["items"]:
                    if found["request"]["name"] == gate and found["id"] != other_than:
                        assert found["project_id"] == project_id
                        return dict(found)
                run = (await self.does("viewer", "GET", f"/projects/{project_id}"))["run"]
                assert run["status"] not in ("failed", "success", "cancelled"), run["error"]
                await asyncio.sleep(0.1)

    async def decide(self, who: str, found: dict[str, Any], verdict: str, **more: Any) -> tuple[int, Any]:
        """Decide on what was seen."""
        body = {"verdict": verdict, "digest": found["request"]["value_digest"], **more}
        return await self.ask(who, "POST", f"/approvals/{found['id']}/decision", body)

    async def events(self, project_id: str) -> list[dict[str, Any]]:
        """Return all events of a project."""
        path = f"/projects/{project_id}/events?limit=1000"
        return list(await self.does("viewer", "GET", path))


async def test_a_team_takes_a_project_to_delivery(settings: Settings, tmp_path: Path) -> None:
    """An edited spec, a rejected plan, a message, an escalated delivery; nothing is lost by four restarts."""
    model = await recorded(settings, tmp_path)
    team = Team(settings)
    async with asyncio.timeout(LONGEST_SECONDS):
        async with team.service() as key:
            await team.join(key)
            order = {"requirement": "A calculator.", "model": model, "path": "full", "gate_rules": RULES}
            order |= {"approvals": "spec,plan,delivery"}
            assert (await team.ask("viewer", "POST", "/projects", order))[0] == 403
            project = (await team.does("developer", "POST", "/projects", order))["id"]
            await team.asked(project, "spec")
        async with team.service() as key:
            assert not key
            found = await team.asked(project, "spec")
            for who in ("viewer", "developer"):
                assert (await team.decide(who, found, "approve"))[0] == 403
            value = edited(found["request"]["value"])
            status, decided = await team.decide("approver", found, "edit", value=value)
            assert status == 200, decided
            assert (await team.decide("admin", found, "approve"))[0] == 409
            first = await team.asked(project, "plan")
        async with team.service():
            status, decided = await team.decide("approver", first, "reject", reason=WHY)
            assert status == 200, decided
            second = await team.asked(project, "plan", other_than=first["id"])
            await team.does("developer", "POST", f"/projects/{project}/messages", {"text": MESSAGE})
        async with team.service():
            assert (await team.decide("approver", first, "approve"))[0] == 409
            status, decided = await team.decide("approver", second, "approve")
            assert status == 200, decided
            found = await team.asked(project, "delivery")
        async with team.service():
            while "approval_escalated" not in [e["kind"] for e in await team.events(project)]:
                await asyncio.sleep(0.2)
            assert (await team.decide("approver", found, "approve"))[0] == 403
            status, decided = await team.decide("admin", found, "approve")
            assert status == 200, decided
            while (whole := await team.does("viewer", "GET", f"/projects/{project}"))["run"]["status"] in (
                "waiting",
                "running",
                "pending",
            ):
                await asyncio.sleep(0.1)
            assert whole["run"]["status"] == "success", whole["run"]["error"]
            events = await team.events(project)
            evidence = await team.does("viewer", "GET", f"/projects/{project}/documents/evidence")
            audited = await team.does("admin", "GET", "/audit?limit=200")
    kinds = [event["kind"] for event in events]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert evidence["passed"] is True
    texts = [c["text"] for r in whole["artifacts"]["spec"]["requirements"] for c in r["criteria"]]
    assert texts == ["add(2, 2) returns 4, whatever the order", criterion(2, "mul(2, 3) returns 6")["text"]]
    assert [t["depends_on"] for t in whole["artifacts"]["plan"]["tasks"]] == [[], ["T1"]]
    by = [
        (e["data"]["name"], e["data"]["verdict"], e["data"]["by"])
        for e in events
        if e["kind"] == "approval_decided"
    ]
    assert by == [
        ("spec", "edit", "approver@example.org"),
        ("plan", "reject", "approver@example.org"),
        ("plan", "approve", "approver@example.org"),
        ("delivery", "approve", "admin@example.org"),
    ]
    assert "message_read" in kinds
    assert [d["by"] for d in evidence["decisions"]][-1] == "admin@example.org" or evidence["decisions"]
    assert "approval.decide" in [row["action"] for row in audited]
