"""Projects and approvals over HTTP, in one organisation and beside another."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from phoenix.engine.launch import Launch
from phoenix.storage.database import transaction
from tests.integration.api.conftest import Front
from tests.integration.engine.engine_toy import Words

NEW = {"requirement": "# Rename photos\nBy the date they were taken.", "model": "openai:gpt"}


async def launched(front: Front, flow: str = "gate") -> str:
    """Launch a toy flow as the API's own launch would, and return the project's id."""
    given = Words(text="hello", folder=str(front.system.folder)).model_dump(mode="json")
    order = Launch(requirement="Do it.", model="none", flow=flow, input=given)
    return str((await front.system.engine.launch(order)).id)


async def waiting(front: Front, token: str) -> dict[str, Any]:
    """Return the one approval that waits, once it does."""
    async with front.client(token) as http, asyncio.timeout(20):
        while not (found := (await http.get("/api/v1/approvals")).json()["items"]):
            await asyncio.sleep(0.05)
        (approval,) = found
        return dict(approval)


async def test_a_launch_is_stored_with_run_job_event_and_audit(front: Front) -> None:
    """One answer, one of each row, and where to find it."""
    async with front.client(await front.member("developer")) as http:
        answer = await http.post("/api/v1/projects", json=NEW)
        assert answer.status_code == 202, answer.text
        project = answer.json()
        assert project["title"] == "Rename photos"
        read = await http.get(answer.headers["location"])
    assert read.json()["run"]["status"] == "pending"
    async with transaction(front.system.database) as connection:
        for query in (
            "SELECT count(*) FROM projects WHERE id::text = :id AND created_by IS NOT NULL",
            "SELECT count(*) FROM runs WHERE project_id::text = :id",
            "SELECT count(*) FROM events WHERE project_id::text = :id",
            "SELECT count(*) FROM audit WHERE object_id = :id AND action = 'project.launch'",
            "SELECT count(*) FROM procrastinate_jobs j JOIN runs r ON j.lock = r.thread_id::text"
            " WHERE r.project_id::text = :id",
        ):
            assert (await connection.execute(text(query), {"id": project["id"]})).scalar_one() == 1, query


async def test_a_launch_that_is_refused_leaves_nothing(front: Front) -> None:
    """Each wrong member is named, and no row is written."""
    cases = {
        "body.requirement": NEW | {"requirement": ""},
        "requirement": NEW | {"requirement": "   "},
        "body.model": NEW | {"model": "gpt"},
        "body.budget_usd": NEW | {"budget_usd": 0},
        "approvals": NEW | {"approvals": " , "},
        "body.repository": NEW | {"repository": "/etc"},
        "body.organisation_id": NEW | {"organisation_id": str(uuid4())},
    }
    async with front.client(await front.member("developer")) as http:
        for field, body in cases.items():
            answer = await http.post("/api/v1/projects", json=body)
            assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
        assert (await http.get("/api/v1/projects")).json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    "repository",
    [
        "file:///etc",
        "../up",
        "/var/lib",
        "ext::sh -c id",
        "http://plain.example.org/x",
        "https://a:b@example.org/x.git",
    ],
)
async def test_no_repository_of_the_services_machine_is_taken(front: Front, repository: str) -> None:
    """A launch over HTTP reads no file here, runs no helper, and stores no password."""
    async with front.client(await front.member("developer")) as http:
        answer = await http.post("/api/v1/projects", json=NEW | {"repository": repository})
    assert (answer.status_code, answer.json()["field"]) == (422, "body.repository")


async def test_a_recording_is_a_file_and_refused(front: Front) -> None:
    """So is a model that would read one."""
    async with front.client(await front.member("developer")) as http:
        answer = await http.post("/api/v1/projects", json=NEW | {"model": "recorded:/etc/passwd"})
    assert (answer.status_code, answer.json()["field"]) == (422, "body.model")


async def test_a_viewer_reads_and_does_nothing(front: Front) -> None:
    """Every change is refused, and the project is as it was."""
    project_id = await launched(front)
    async with front.client(await front.member("viewer")) as http:
        assert (await http.get(f"/api/v1/projects/{project_id}")).status_code == 200
        for method, path, body in (
            ("POST", "", NEW),
            ("PATCH", f"/{project_id}", {"title": "x"}),
            ("POST", f"/{project_id}/pause", {}),
            ("POST", f"/{project_id}/resume", {}),
            ("POST", f"/{project_id}/cancel", None),
        ):
            answer = await http.request(method, f"/api/v1/projects{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path


async def test_another_organisations_project_answers_as_none(front: Front) -> None:
    """Same status and same body as an id that nobody has, on every route."""
    project_id, nobody = await launched(front), str(uuid4())
    token = await front.member("admin", organisation_id=await front.organisation())
    routes = (
        ("GET", "", None),
        ("PATCH", "", {"title": "x"}),
        ("GET", "/tasks", None),
        ("GET", "/cost", None),
        ("GET", "/documents/spec", None),
        ("GET", "/events", None),
        ("GET", "/events/stream", None),
        ("POST", "/pause", {}),
        ("POST", "/resume", {}),
        ("POST", "/cancel", None),
    )
    async with front.client(token) as http:
        for method, path, body in routes:
            theirs = await http.request(method, f"/api/v1/projects/{project_id}{path}", json=body)
            none = await http.request(method, f"/api/v1/projects/{nobody}{path}", json=body)
            assert theirs.status_code == none.status_code == 404, path
            same = {
                k: str(v).replace(project_id, nobody) for k, v in theirs.json().items() if k != "request_id"
            }
            assert same == {k: str(v) for k, v in none.json().items() if k != "request_id"}
        assert (await http.get("/api/v1/projects")).json()["items"] == []


async def test_a_grant_opens_one_project(front: Front) -> None:
    """A viewer with a grant may change that project and no other."""
    first, second = await launched(front), await launched(front)
    token = await front.member("viewer")
    async with front.client(token) as http:
        user_id = (await http.get("/api/v1/auth/me")).json()["user_id"]
        path = f"/api/v1/projects/{first}/grants/{user_id}"
        assert (await http.put(path, json={"role": "developer"})).status_code == 403
        async with front.client(await front.member("admin")) as root:
            assert (await root.put(path, json={"role": "developer"})).status_code == 204
        assert (await http.patch(f"/api/v1/projects/{first}", json={"title": "Mine"})).status_code == 200
        assert (await http.patch(f"/api/v1/projects/{second}", json={"title": "Mine"})).status_code == 403
        async with front.client(await front.member("admin")) as root:
            assert (await root.delete(path)).status_code == 204
        assert (await http.patch(f"/api/v1/projects/{first}", json={"title": "Mine"})).status_code == 403


async def test_a_change_to_an_old_version_is_refused(front: Front) -> None:
    """If-Match protects from overwriting what somebody else has changed."""
    path = f"/api/v1/projects/{await launched(front)}"
    async with front.client(await front.member("developer")) as http:
        seen = (await http.get(path)).headers["etag"]
        changed = await http.patch(path, json={"title": "New", "archived": True}, headers={"If-Match": seen})
        assert (changed.status_code, changed.json()["title"]) == (200, "New")
        late = await http.patch(path, json={"title": "Newer"}, headers={"If-Match": seen})
        assert (late.status_code, late.json()["code"]) == (412, "version_conflict")
        wrong = await http.patch(path, json={"title": "x"}, headers={"If-Match": "nonsense"})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "header.if-match")
        assert (await http.get("/api/v1/projects")).json()["items"] == []
        archived = (await http.get("/api/v1/projects", params={"archived": True})).json()["items"]
        assert [item["project"]["title"] for item in archived] == ["New"]


async def test_a_list_goes_on_where_a_page_ended(front: Front) -> None:
    """Pages hold each project once, newest first, also while others are launched."""
    async with front.client(await front.member("developer")) as http:
        for n in range(5):
            await http.post("/api/v1/projects", json=NEW | {"title": f"P{n}"})
        seen, cursor = [], ""
        while True:
            page = (await http.get("/api/v1/projects", params={"limit": 2, "cursor": cursor})).json()
            seen += [item["project"]["title"] for item in page["items"]]
            await http.post("/api/v1/projects", json=NEW | {"title": "later"})
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == ["P4", "P3", "P2", "P1", "P0"]
        wrong = await http.get("/api/v1/projects", params={"cursor": "x"})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "query.cursor")


async def test_projects_are_found_by_words_and_status(front: Front) -> None:
    """As in a search engine, in any language; operators that do not fit are words."""
    async with front.client(await front.member("developer")) as http:
        await http.post("/api/v1/projects", json={"requirement": "Fotos nach Datum benennen", "model": "a:b"})
        await http.post("/api/v1/projects", json=NEW)

        async def titles(**query: Any) -> list[str]:
            items = (await http.get("/api/v1/projects", params=query)).json()["items"]
            return [item["project"]["title"] for item in items]

        assert await titles(q="datum fotos") == ["Fotos nach Datum benennen"]
        assert await titles(q="photos") == ["Rename photos"]
        assert await titles(q='"taken photos"') == []
        assert await titles(q="photos & ) ! (") == ["Rename photos"]
        assert len(await titles(status="pending")) == 2
        assert await titles(status=["success", "failed"]) == []
        assert (await http.get("/api/v1/projects", params={"status": "odd"})).status_code == 422


async def test_the_search_uses_its_index(front: Front) -> None:
    """With many projects, words are looked up and not scanned for."""
    async with transaction(front.system.database) as connection:
        await connection.execute(
            text(
                "INSERT INTO projects (id, title, requirement, model, approvals, path)"
                " SELECT gen_random_uuid(), 'T' || n, 'word' || n, 'm', 'ask', 'auto'"
                " FROM generate_series(1, 5000) n"
            )
        )
        await connection.execute(text("ANALYZE projects"))
        query = "EXPLAIN SELECT id FROM projects WHERE words @@ websearch_to_tsquery('simple', 'word77')"
        plan = "\n".join((await connection.execute(text(query))).scalars())
    assert "ix_projects_words" in plan


# --- approvals -------------------------------------------------------------------------------


async def test_of_many_that_decide_at_once_one_wins(front: Front) -> None:
    """The others get 409; the run goes on once; who decided is kept."""
    async with front.system.engine.worker():
        project_id = await launched(front)
        token = await front.member("approver")
        approval = await waiting(front, token)
        body = {"verdict": "approve", "digest": approval["request"]["value_digest"]}
        async with front.client(token) as http:
            path = f"/api/v1/approvals/{approval['id']}"
            answers = await asyncio.gather(*(http.post(f"{path}/decision", json=body) for _ in range(8)))
            assert sorted(a.status_code for a in answers) == [200] + [409] * 7
            decided = (await http.get(path)).json()
            assert decided["decided_by"].startswith("approver-")
            async with asyncio.timeout(20):
                while (await http.get(f"/api/v1/projects/{project_id}")).json()["run"]["status"] != "success":
                    await asyncio.sleep(0.05)
    assert front.system.marks().count("last") == 1


async def test_a_decision_is_bound_to_what_was_shown(front: Front) -> None:
    """Another digest is refused and decides nothing; so is a verdict without what it needs."""
    async with front.system.engine.worker():
        await launched(front)
        token = await front.member("approver")
        approval = await waiting(front, token)
        digest = approval["request"]["value_digest"]
        async with front.client(token) as http:
            path = f"/api/v1/approvals/{approval['id']}/decision"
            other = await http.post(path, json={"verdict": "approve", "digest": "sha256:" + "0" * 64})
            assert (other.status_code, other.json()["code"]) == (409, "decision_conflict")
            bare = await http.post(path, json={"verdict": "reject", "digest": digest})
            assert bare.status_code == 422
            unfit = await http.post(path, json={"verdict": "edit", "digest": digest, "value": {"x": 1}})
            assert unfit.status_code == 422
            assert len((await http.get("/api/v1/approvals")).json()["items"]) == 1


async def test_only_who_may_approve_decides(front: Front) -> None:
    """A developer sees the approval and is refused; another organisation does not see it."""
    async with front.system.engine.worker():
        await launched(front)
        approval = await waiting(front, await front.member("viewer"))
        body = {"verdict": "approve", "digest": approval["request"]["value_digest"]}
        path = f"/api/v1/approvals/{approval['id']}"
        async with front.client(await front.member("developer")) as http:
            assert (await http.get(path)).status_code == 200
            assert (await http.post(f"{path}/decision", json=body)).status_code == 403
        other = await front.member("admin", organisation_id=await front.organisation())
        async with front.client(other) as http:
            assert (await http.get("/api/v1/approvals")).json()["items"] == []
            assert (await http.get(path)).status_code == 404
            assert (await http.post(f"{path}/decision", json=body)).status_code == 404


# --- steering --------------------------------------------------------------------------------


async def test_a_project_is_paused_resumed_and_cancelled(front: Front) -> None:
    """Each is told in the audit log and seen in the project."""
    project_id = await launched(front)
    async with front.client(await front.member("developer")) as http:
        path = f"/api/v1/projects/{project_id}"
        assert (await http.post(f"{path}/pause", json={"reason": "lunch"})).status_code == 202
        paused = (await http.get(path)).json()["project"]
        assert paused["pause_reason"] == "lunch"
        assert (await http.post(f"{path}/resume", json={})).status_code == 202
        assert (await http.get(path)).json()["project"]["paused_at"] is None
        assert (await http.post(f"{path}/cancel")).status_code == 202
        assert (await http.get(path)).json()["run"]["status"] == "cancelled"
        again = await http.post(f"{path}/resume", json={})
        assert (again.status_code, again.json()["code"]) == (409, "resume_refused")
        kinds = [e["kind"] for e in (await http.get(f"{path}/events")).json()]
    assert kinds[0] == "project_created"
    assert "project_paused" in kinds
