"""The user who runs the process, and what commands ask of a service besides."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from httpx import AsyncClient
from pydantic import SecretStr

from phoenix.api.access import LocalUser, local_user
from phoenix.bootstrap import open_system
from phoenix.client.in_process import InProcess
from phoenix.door import open_door
from phoenix.settings import Settings
from tests.integration.api.conftest import Front
from tests.integration.api.test_api_projects import launched


def client(app: object, key: str) -> AsyncClient:
    return AsyncClient(transport=InProcess(app), base_url="http://phoenix", headers={"X-API-Key": key})  # type: ignore[arg-type]


@pytest.fixture
async def settings(migrated_database_url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", DATABASE_URL=SecretStr(migrated_database_url))  # type: ignore[call-arg]


async def test_the_local_user_comes_in_by_this_process_key_alone(settings: Settings) -> None:
    """As an administrator; no other key of that form is let in, and none to a service for others."""
    local = local_user("Ann Smith@home\u0000")
    async with open_system(settings, execution=False) as system:
        async with open_door(system, local=local) as (app, key):
            assert key is None
            async with client(app, local.key) as http:
                me = (await http.get("/api/v1/auth/me")).json()
            assert (me["email"], me["role"]) == ("ann-smith-home-@localhost", "admin")
            for wrong in (local_user("x").key, local.key[:-1], local.key + "x", "phx_local_"):
                async with client(app, wrong) as http:
                    assert (await http.get("/api/v1/auth/me")).status_code == 401
        async with open_door(system) as (app, key):
            # Nothing that the local user did has taken the first administrator's place.
            assert key is not None
            async with client(app, local.key) as http:
                assert (await http.get("/api/v1/auth/me")).status_code == 401


@pytest.mark.parametrize(
    "names",
    [
        {"model": "recorded:/x"},
        {"model": "chaos:0.1,seed=2:recorded:/x"},
        {"model": "chaos:0:chaos:0:recorded:/x"},
        {"model": "recorded:/x", "repository": "/no/such/folder"},
        {"model": "a:b", "repository": "/no/such/folder"},
    ],
    ids=["recording", "behind chaos", "behind two", "both", "folder"],
)
async def test_only_the_local_user_names_files(names: dict[str, str], settings: Settings) -> None:
    """To a service for others they are its own machine's, whatever stands before them."""
    order = {"requirement": "x", **names}
    local = local_user("ann")
    async with open_system(settings, execution=False) as system:
        async with open_door(system, local=local) as (app, _), client(app, local.key) as http:
            assert (await http.post("/api/v1/projects", json=order)).status_code == 202
        async with open_door(system) as (app, key), client(app, key or "") as http:
            assert (await http.post("/api/v1/projects", json=order)).status_code == 422


def test_names_that_are_no_addresses_are_made_ones() -> None:
    """Who runs a process may be called anything."""
    found: list[LocalUser] = [local_user(name) for name in ("", "root", "a b", "x" * 400)]
    assert [user.who.email for user in found[:3]] == ["local@localhost", "root@localhost", "a-b@localhost"]
    assert local_user("root").who.user_id == found[1].who.user_id
    assert local_user("root").key != found[1].key


async def test_projects_are_found_by_how_their_ids_begin(front: Front) -> None:
    """Also archived ones; never another organisation's; what is no beginning is refused."""
    first, second = await launched(front), await launched(front)
    async with front.client(await front.member("developer")) as http:
        await http.patch(f"/api/v1/projects/{first}", json={"archived": True})
        for prefix in (first, first[:8], first[:8].upper()):
            page = (await http.get("/api/v1/projects", params={"id": prefix})).json()
            assert [p["project"]["id"] for p in page["items"]] == [first]
        both = (await http.get("/api/v1/projects", params={"id": ""})).json()
        assert [p["project"]["id"] for p in both["items"]] == [second]
        for wrong in ("%", "_", "x", "0" * 40):
            assert (await http.get("/api/v1/projects", params={"id": wrong})).status_code == 422
        assert (await http.get("/api/v1/projects", params={"id": str(uuid4())})).json()["items"] == []
    stranger = await front.member("admin", organisation_id=await front.organisation())
    async with front.client(stranger) as http:
        assert (await http.get("/api/v1/projects", params={"id": first[:8]})).json()["items"] == []


async def test_workers_are_for_administrators(front: Front) -> None:
    """They are machines, which members need not know."""
    for role, status in (("viewer", 403), ("approver", 403), ("admin", 200)):
        async with front.client(await front.member(role)) as http:  # type: ignore[arg-type]
            answer = await http.get("/api/v1/workers")
            assert (answer.status_code, answer.json() if status == 200 else []) == (status, [])
