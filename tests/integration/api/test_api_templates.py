"""Templates, quotas, limits of routes, and workflows over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from phoenix.api.app import ApiOptions
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.domain.template import FILLED, Parameter, Template, check_places, filled
from phoenix.errors import DomainInvalid
from phoenix.storage.database import transaction
from tests.integration.api.conftest import UNCOUNTED, Front, open_front
from tests.integration.api.test_api_projects import NEW, launched
from tests.integration.api.world import key_of, member

API = "/api/v1"
TEMPLATE = {
    "name": "counter",
    "launch": {
        "requirement": "A tool in {{ language }} that counts {{what}}.",
        "title": "{{ language }} counter",
        "model": "openai:gpt",
        "budget_usd": 5,
    },
    "parameters": [
        {"name": "language", "default": "Python", "choices": ["Python", "Go"]},
        {"name": "what", "description": "What is counted."},
    ],
}


# --- templates -------------------------------------------------------------------------------


async def test_a_project_from_a_template(wide_front: Front) -> None:
    """Made, listed, launched with parameters; what is launched has them in its texts."""
    async with wide_front.client(await wide_front.member("developer")) as http:
        made = await http.post(f"{API}/templates", json=TEMPLATE)
        assert made.status_code == 201, made.text
        place = f"{API}/templates/{made.json()['id']}"
        assert [t["name"] for t in (await http.get(f"{API}/templates")).json()["items"]] == ["counter"]
        answer = await http.post(f"{place}/projects", json={"parameters": {"what": "{{ language }} words"}})
        assert answer.status_code == 202, answer.text
        project = answer.json()
        # A value is put in as it is.
        assert project["requirement"] == "A tool in Python that counts {{ language }} words."
        assert (project["title"], float(project["budget_usd"])) == ("Python counter", 5)
        assert (await http.get(answer.headers["location"])).status_code == 200
        for wrong in ({}, {"what": "x", "language": "C"}, {"what": "x", "other": "y"}):
            refused = await http.post(f"{place}/projects", json={"parameters": wrong})
            assert (refused.status_code, refused.json()["code"]) == (422, "domain_invalid"), wrong
        assert (await http.delete(place)).status_code == 204
        assert (await http.get(place)).status_code == 404
        assert len((await http.get(f"{API}/projects")).json()["items"]) == 1


async def test_a_template_is_edited_by_one_at_a_time(wide_front: Front) -> None:
    """If-Match protects it; names are used once; places and parameters stay the same."""
    async with wide_front.client(await wide_front.member("developer")) as http:
        made = await http.post(f"{API}/templates", json=TEMPLATE)
        place, seen = f"{API}/templates/{made.json()['id']}", {"If-Match": made.headers["etag"]}
        changed = await http.patch(place, json={"description": "New"}, headers=seen)
        assert (changed.status_code, changed.json()["version"]) == (200, 2)
        late = await http.patch(place, json={"description": "Newer"}, headers=seen)
        assert late.status_code == 412
        orphan = await http.patch(place, json={"parameters": []})
        assert (orphan.status_code, orphan.json()["code"]) == (422, "domain_invalid")
        assert (await http.get(place)).json()["parameters"][0]["name"] == "language"
        assert (await http.post(f"{API}/templates", json=TEMPLATE)).status_code == 409
        other = await http.post(f"{API}/templates", json=TEMPLATE | {"name": "second"})
        taken = await http.patch(f"{API}/templates/{other.json()['id']}", json={"name": "counter"})
        assert (taken.status_code, taken.json()["code"]) == (409, "already_there")


async def test_templates_come_in_pages(wide_front: Front) -> None:
    """By name, each once."""
    async with wide_front.client(await wide_front.member("developer")) as http:
        for name in ("b", "d", "a", "c", "e"):
            await http.post(f"{API}/templates", json=TEMPLATE | {"name": name})
        seen, cursor = [], ""
        while cursor is not None:
            page = (await http.get(f"{API}/templates", params={"limit": 2, "cursor": cursor})).json()
            seen += [item["name"] for item in page["items"]]
            cursor = page["next"]
    assert seen == ["a", "b", "c", "d", "e"]


VALUES = st.text(st.characters(codec="utf-8"), max_size=50)


@given(value=VALUES, other=VALUES)
def test_values_are_put_in_and_nothing_else_happens(value: str, other: str) -> None:
    """Whatever a value holds: it stands in its place, and is looked at no further."""
    launch = {"requirement": "<{{a}}|{{ b }}|{{a}}>"}
    parameters = [Parameter(name="a"), Parameter(name="b")]
    check_places(launch, parameters)
    template = Template.model_construct(launch=launch, parameters=parameters)
    assert filled(template, {"a": value, "b": other})["requirement"] == f"<{value}|{other}|{value}>"


@pytest.mark.parametrize(
    ("requirement", "names"),
    [("{{ a }}", []), ("x", ["a"]), ("{{ a }}", ["a", "a"]), ("{{ A }}", ["a"])],
)
def test_places_and_parameters_are_the_same(requirement: str, names: list[str]) -> None:
    """What has no place, or no parameter, is a mistake."""
    assert "requirement" in FILLED
    with pytest.raises(DomainInvalid):
        check_places({"requirement": requirement}, [Parameter(name=name) for name in names])


# --- quotas ----------------------------------------------------------------------------------


async def test_fifty_launches_at_once_pass_no_quota(wide_front: Front) -> None:
    """As many as are allowed are launched; the others read when to come again."""
    front = wide_front
    async with front.client(await front.member("admin")) as http:
        assert (await http.patch(f"{API}/organisation", json={"max_projects": 7})).status_code == 200
        asked = [http.post(f"{API}/projects", json=NEW) for _ in range(50)]
        answers = await asyncio.gather(*asked)
        codes = sorted(a.status_code for a in answers)
        assert codes == [202] * 7 + [429] * 43
        refused = next(a for a in answers if a.status_code == 429)
        assert (refused.json()["code"], refused.json()["field"]) == ("quota_reached", "max_projects")
        assert int(refused.headers["retry-after"]) >= 1
        standing = (await http.get(f"{API}/organisation")).json()
        assert (standing["used"]["projects"], standing["organisation"]["max_projects"]) == (7, 7)
        # One that is over makes room for one.
        first = next(a.json()["id"] for a in answers if a.status_code == 202)
        assert (await http.post(f"{API}/projects/{first}/cancel")).status_code == 202
        assert (await http.post(f"{API}/projects", json=NEW)).status_code == 202
        assert (await http.post(f"{API}/projects", json=NEW)).status_code == 429
        assert (await http.patch(f"{API}/organisation", json={"max_projects": None})).status_code == 200
        assert (await http.post(f"{API}/projects", json=NEW)).status_code == 202
    # Another organisation has its own.
    other = await member(front, "developer", await front.organisation())
    async with front.client(other.token()) as http:
        assert (await http.post(f"{API}/projects", json=NEW)).status_code == 202


async def spent(front: Front, project_id: str, cost: float, ago: str = "0") -> None:
    """Let a project's model call have cost so much."""
    async with transaction(front.system.database) as connection:
        await connection.execute(
            text(
                "INSERT INTO model_calls (project_id, run_id, agent, model, input_tokens, output_tokens,"
                " cost_usd, at) SELECT project_id, id, 'coder', 'm:' || :cost, 10, 1, CAST(:cost AS numeric),"
                " now() - CAST(:ago AS interval) FROM runs WHERE project_id = CAST(:project AS uuid)"
            ),
            {"project": project_id, "cost": str(cost), "ago": ago},
        )


async def test_a_day_that_is_spent_takes_no_launch(wide_front: Front) -> None:
    """What others spent, or was spent before today, does not count."""
    front = wide_front
    async with front.client(await front.member("admin")) as http:
        project_id = await launched(front)
        await spent(front, project_id, 3)
        await spent(front, project_id, 100, "1 day")
        assert (await http.patch(f"{API}/organisation", json={"max_usd_day": "5"})).status_code == 200
        assert (await http.post(f"{API}/projects", json=NEW)).status_code == 202
        await spent(front, project_id, 2)
        refused = await http.post(f"{API}/projects", json=NEW)
        assert (refused.status_code, refused.json()["field"]) == (429, "max_usd_day")
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400
        assert float((await http.get(f"{API}/organisation")).json()["used"]["usd_today"]) == 5


async def test_only_an_administrator_sets_quotas(wide_front: Front) -> None:
    """With If-Match, so that two do not overwrite each other; what is no quota is refused."""
    async with wide_front.client(await wide_front.member("approver")) as http:
        assert (await http.patch(f"{API}/organisation", json={"max_projects": 1})).status_code == 403
    async with wide_front.client(await wide_front.member("admin")) as http:
        seen = (await http.get(f"{API}/organisation")).headers["etag"]
        first = await http.patch(f"{API}/organisation", json={"max_projects": 1}, headers={"If-Match": seen})
        late = await http.patch(f"{API}/organisation", json={"max_projects": 2}, headers={"If-Match": seen})
        assert (first.status_code, late.status_code) == (200, 412)
        for wrong in ({"max_projects": -1}, {"max_usd_day": -1}, {"max_runs": 1}, {"id": "x"}):
            assert (await http.patch(f"{API}/organisation", json=wrong)).status_code == 422, wrong


# --- limits of routes ------------------------------------------------------------------------


async def test_a_route_may_have_a_limit_of_its_own(migrated_database_url: str, tmp_path: Path) -> None:
    """Counted by user and by key; other routes go on; Retry-After says when to come again."""
    options = ApiOptions(rate_limit=UNCOUNTED, route_limits={"launch": "3/minute"})
    async with open_front(migrated_database_url, tmp_path, options) as front:
        who = await member(front, "developer", DEFAULT_ORGANISATION)
        key = await key_of(front, who)
        async with front.client(who.token()) as http:
            codes = [(await http.post(f"{API}/projects", json=NEW)).status_code for _ in range(4)]
            assert codes == [202, 202, 202, 429]
            refused = await http.post(f"{API}/projects", json=NEW)
            assert (refused.json()["code"], int(refused.headers["retry-after"]) > 0) == ("rate_limited", True)
            assert (await http.get(f"{API}/projects")).status_code == 200
        async with front.client(**{"X-API-Key": key}) as http:
            assert (await http.post(f"{API}/projects", json=NEW)).status_code == 202
        async with front.client(await front.member("developer")) as http:
            assert (await http.post(f"{API}/projects", json=NEW)).status_code == 202


# --- usage and workflows ---------------------------------------------------------------------


async def test_usage_is_told_by_project_agent_model_and_day(wide_front: Front) -> None:
    """In pages, within a time, and of one's own organisation only."""
    front = wide_front
    project_id = await launched(front)
    for cost, ago in ((1, "0"), (2, "1 day"), (4, "2 days")):
        await spent(front, project_id, cost, ago)
    async with front.client(await front.member("viewer")) as http:

        async def lines(**query: Any) -> list[Any]:
            return list((await http.get(f"{API}/usage", params=query)).json()["items"])

        assert [line["key"] for line in await lines(by="project")] == [project_id]
        assert [float(line["usage"]["cost_usd"]) for line in await lines(by="agent")] == [7]
        assert [line["key"] for line in await lines(by="model")] == ["m:1", "m:2", "m:4"]
        assert [float(line["usage"]["cost_usd"]) for line in await lines(by="day")] == [4, 2, 1]
        page = (await http.get(f"{API}/usage", params={"by": "model", "limit": 2})).json()
        assert page["next"] == "m:2"
        assert [line["key"] for line in await lines(by="model", cursor="m:2")] == ["m:4"]
        assert [line["key"] for line in await lines(by="task", project=project_id)] == ["-"]
        assert (await http.get(f"{API}/usage", params={"by": "task"})).status_code == 422
        assert await lines(until="2020-01-01T00:00:00Z") == []
        assert (await http.get(f"{API}/usage", params={"since": "2020-01-01T00:00:00"})).status_code == 422
    other = await member(front, "admin", await front.organisation())
    async with front.client(other.token()) as http:
        assert (await http.get(f"{API}/usage", params={"by": "project"})).json()["items"] == []
        theirs = await http.get(f"{API}/usage", params={"by": "task", "project": project_id})
        assert theirs.status_code == 404


async def test_workflows_are_listed_drawn_and_described(wide_front: Front) -> None:
    """By the name under which they are loaded; another one is not found."""
    async with wide_front.client(await wide_front.member("viewer")) as http:
        names = [w["name"] for w in (await http.get(f"{API}/workflows")).json()]
        assert names == sorted(names)
        assert {"develop", "gate"} <= set(names)
        assert (await http.get(f"{API}/workflows/gate/graph")).json()["mermaid"].startswith("flowchart")
        schemas = (await http.get(f"{API}/workflows/gate/schemas")).json()
        assert schemas["input"]["title"] == schemas["output"]["title"] == "Words"
        assert {"first", "last"} <= set(schemas["steps"])
        assert (await http.get(f"{API}/workflows/none/graph")).status_code == 404


# --- grants ----------------------------------------------------------------------------------


async def test_a_grant_in_a_project_is_none_in_the_organisation(wide_front: Front) -> None:
    """An administrator of one project manages no members, and who develops one launches no other."""
    front = wide_front
    project_id = await launched(front)
    viewer = await member(front, "viewer", DEFAULT_ORGANISATION)
    user_id = viewer.opened.user_id
    async with front.client(await front.member("admin")) as root:
        path = f"{API}/projects/{project_id}/grants/{user_id}"
        assert (await root.put(path, json={"role": "admin"})).status_code == 204
    async with front.client(viewer.token()) as http:
        assert (await http.patch(f"{API}/projects/{project_id}", json={"title": "Mine"})).status_code == 200
        for method, where, body in (
            ("PUT", f"/members/{user_id}/role", {"role": "admin"}),
            ("POST", "/members", {"email": "x@example.org", "role": "admin"}),
            ("PATCH", "/organisation", {"max_projects": 9}),
            ("GET", "/audit", None),
            ("POST", "/projects", NEW),
            ("POST", "/templates", TEMPLATE),
        ):
            answer = await http.request(method, f"{API}{where}", json=body)
            assert answer.status_code == 403, (method, where, answer.text)
    assert isinstance(user_id, UUID)
