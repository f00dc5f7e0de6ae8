"""Signing in, members and keys over HTTP."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import text

from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.storage.database import transaction
from tests.integration.api.conftest import PASSWORD, RATE, Front
from tests.integration.api.test_api_projects import launched

NEW = {"email": "ann@example.org", "role": "viewer", "password": PASSWORD}


async def test_a_session_over_http(front: Front) -> None:
    """Sign in, see who you are, refresh, sign out."""
    async with front.client(await front.member("admin")) as http:
        assert (await http.post("/api/v1/members", json=NEW)).status_code == 201
    async with front.client() as http:
        answer = await http.post("/api/v1/auth/sign-in", json={"email": NEW["email"], "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        session = answer.json()
        assert (session["token_type"], session["expires_in"]) == ("Bearer", 3600)
        renewed = await http.post("/api/v1/auth/refresh", json={"refresh_token": session["refresh_token"]})
        assert renewed.status_code == 200
    async with front.client(renewed.json()["access_token"]) as http:
        me = (await http.get("/api/v1/auth/me")).json()
        assert (me["email"], me["role"], me["may"]) == ("ann@example.org", "viewer", ["read"])
        assert (await http.post("/api/v1/auth/sign-out")).status_code == 204
        assert (await http.get("/api/v1/auth/me")).status_code == 401


async def test_nobody_gets_in_without_a_credential(front: Front) -> None:
    """Missing, doubled, or of another scheme: 401, and how to do it."""
    token = await front.member("viewer")
    async with front.client() as http:
        for headers in (
            {},
            {"Authorization": "Basic YTpi"},
            {"Authorization": "Bearer "},
            {"Authorization": f"Bearer {token}", "X-API-Key": "phx_key_x"},
        ):
            answer = await http.get("/api/v1/auth/me", headers=headers)
            assert answer.status_code == 401, headers
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_only_an_administrator_changes_members(front: Front) -> None:
    """Everybody else is refused, and nothing has happened."""
    for role in ("viewer", "developer", "approver"):
        async with front.client(await front.member(role)) as http:
            assert (await http.post("/api/v1/members", json=NEW)).status_code == 403
            emails = [m["user"]["email"] for m in (await http.get("/api/v1/members")).json()["items"]]
            assert NEW["email"] not in emails


async def test_members_of_another_organisation_are_not_there(front: Front) -> None:
    """Its list is empty of ours, and its administrator cannot touch them."""
    other = await front.member("admin", organisation_id=await front.organisation())
    async with front.client(other) as http:
        assert len((await http.get("/api/v1/members")).json()["items"]) == 1
        for user_id in (front.root.user_id, uuid4()):
            answer = await http.delete(f"/api/v1/members/{user_id}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_key_is_shown_once_and_works(front: Front) -> None:
    """Its secret is in no list, it acts within its scopes, and it can be revoked."""
    async with front.client(await front.member("developer")) as http:
        made = (await http.post("/api/v1/api-keys", json={"name": "ci", "scopes": ["read"]})).json()
        listed = (await http.get("/api/v1/api-keys")).text
        assert made["key"]["id"] in listed
        assert made["secret"] not in listed
        async with front.client(**{"X-API-Key": made["secret"]}) as by_key:
            assert (await by_key.get("/api/v1/auth/me")).json()["may"] == ["read"]
            assert (await http.delete(f"/api/v1/api-keys/{made['key']['id']}")).status_code == 204
            assert (await by_key.get("/api/v1/auth/me")).status_code == 401
        beyond = await http.post("/api/v1/api-keys", json={"name": "x", "scopes": ["administer"]})
        assert (beyond.status_code, beyond.json()["field"]) == (403, "scopes")


async def test_the_same_request_twice_is_done_once(front: Front) -> None:
    """Fifty at once with one key: one member, one audit row, one answer; another body is refused."""
    async with front.client(await front.member("admin"), **{"Idempotency-Key": "k1"}) as http:
        answers = await asyncio.gather(*(http.post("/api/v1/members", json=NEW) for _ in range(50)))
        assert {a.status_code for a in answers} == {201}
        assert len({a.text for a in answers}) == 1
        assert sum("idempotency-replayed" in a.headers for a in answers) == 49
        other = await http.post("/api/v1/members", json=NEW | {"role": "admin"})
        assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    async with transaction(front.system.database) as connection:
        query = text("SELECT count(*) FROM audit WHERE data->>'email' = 'ann@example.org'")
        assert (await connection.execute(query)).scalar_one() == 1


async def test_a_refused_request_leaves_its_key_free(front: Front) -> None:
    """What failed can be tried again under the same key."""
    async with front.client(await front.member("viewer"), **{"Idempotency-Key": "k1"}) as http:
        body = {"name": "ci", "scopes": ["develop"]}
        assert (await http.post("/api/v1/api-keys", json=body)).status_code == 403
        assert (await http.post("/api/v1/api-keys", json=body | {"scopes": ["read"]})).status_code == 201


async def test_an_unfit_idempotency_key_is_refused(front: Front) -> None:
    """An empty or endless key is named."""
    async with front.client(await front.member("viewer"), **{"Idempotency-Key": "x" * 201}) as http:
        answer = await http.post("/api/v1/api-keys", json={"name": "ci", "scopes": ["read"]})
    assert (answer.status_code, answer.json()["field"]) == (422, "header.idempotency-key")


@pytest.mark.parametrize("field", ["id", "is_active", "password_hash", "organisation_id"])
async def test_nothing_else_can_be_set(front: Front, field: str) -> None:
    """Members that a body does not have are refused by name."""
    async with front.client(await front.member("admin")) as http:
        answer = await http.post("/api/v1/members", json=NEW | {field: str(DEFAULT_ORGANISATION)})
    assert (answer.status_code, answer.json()["field"]) == (422, f"body.{field}")


async def test_guessing_passwords_is_slowed_down(front: Front) -> None:
    """After so many tries from one address: 429, with a time to wait."""
    async with front.client() as http:
        body = {"email": "ann@example.org", "password": "wrong"}
        statuses = [
            (await http.post("/api/v1/auth/refresh", json={"refresh_token": "x"})).status_code
            for _ in range(20)
        ]
        answer = await http.post("/api/v1/auth/sign-in", json=body)
    assert set(statuses) == {401}
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1


async def test_what_was_done_is_listed_and_checked(front: Front) -> None:
    """For administrators, of their own organisation; a changed row is found."""
    async with front.client(await front.member("admin")) as http:
        await http.post("/api/v1/members", json=NEW)
        entries = (await http.get("/api/v1/audit", params={"action": "member.add", "limit": 1})).json()
        assert entries[0]["data"]["email"] == NEW["email"]
        assert entries[0]["request_id"]
        whole = (await http.get("/api/v1/audit/verify")).json()
        assert (whole["checked"], whole["broken_at"]) == (2, None)
        async with transaction(front.system.database) as connection:
            await connection.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
            await connection.execute(text("UPDATE audit SET actor = 'x' WHERE position = 1"))
        assert (await http.get("/api/v1/audit/verify")).json()["broken_at"] == 1
    for role in ("viewer", "approver"):
        async with front.client(await front.member(role)) as http:
            assert (await http.get("/api/v1/audit")).status_code == 403
    other = await front.member("admin", organisation_id=await front.organisation())
    async with front.client(other) as http:
        assert [e["data"]["role"] for e in (await http.get("/api/v1/audit")).json()] == ["admin"]


async def test_each_user_has_a_rate(front: Front) -> None:
    """One user's burst is refused after a while; another's request is not."""
    async with front.client(await front.member("viewer")) as busy:
        statuses = [(await busy.get("/api/v1/auth/me")).status_code for _ in range(RATE + 1)]
        assert statuses == [200] * RATE + [429]
    async with front.client(await front.member("viewer")) as other:
        assert (await other.get("/api/v1/auth/me")).status_code == 200


async def test_readiness_tells_whether_work_gets_done(front: Front) -> None:
    """Without a worker, what waits for long is no progress; with one it is."""
    async with front.client() as http:
        assert (await http.get("/readyz")).json()["is_progressing"] is True
        await launched(front, "plain")
        async with transaction(front.system.database) as connection:
            await connection.execute(text("UPDATE runs SET queued_at = now() - interval '1 minute'"))
        waiting = (await http.get("/readyz")).json()
        assert (waiting["workers"], waiting["due"], waiting["is_progressing"]) == (0, 1, False)
        async with front.system.engine.worker(), asyncio.timeout(20):
            while (ready := (await http.get("/readyz")).json())["due"] or not ready["workers"]:
                await asyncio.sleep(0.05)
        assert ready["is_progressing"] is True


async def test_liveness_needs_no_credential(front: Front) -> None:
    """A probe has none."""
    async with front.client() as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/nothing")).json()["code"] == "not_found"
        assert (await http.get("/api/v1/openapi.json")).json()["info"]["title"] == "Phoenix"
