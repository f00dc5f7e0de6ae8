"""Lists come in pages: in a stable order, each thing once, also when things are added meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient
from sqlalchemy import text

from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.storage import search
from phoenix.storage.database import transaction
from tests.integration.api.conftest import Front
from tests.integration.api.world import key_of, member, things

API = "/api/v1"
LISTS = ("members", "api-keys", "approvals", "projects")


async def pages(http: AsyncClient, path: str, *, limit: int = 2, **query: Any) -> list[list[dict[str, Any]]]:
    """Return all pages of a list."""
    found: list[list[dict[str, Any]]] = []
    following: str | None = ""
    while following is not None:
        answer = await http.get(path, params=query | {"limit": limit, "cursor": following})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["items"])
        following = answer.json()["next"]
        assert len(found) < 20, "it has no end"
    return found


def ids(found: list[list[dict[str, Any]]]) -> list[str]:
    """Return the ids on all pages."""
    return [one.get("id") or one["user"]["id"] for page in found for one in page]


async def test_members_come_by_their_addresses(wide_front: Front) -> None:
    """Five in pages of two; who joins behind the cursor is seen, who joins before it is not."""
    front = wide_front
    for role in ("viewer", "developer", "approver"):
        await member(front, role, DEFAULT_ORGANISATION)  # type: ignore[arg-type]
    token = await front.member("admin")
    async with front.client(token) as http:
        found = await pages(http, f"{API}/members")
        assert [len(page) for page in found] == [2, 2, 1]
        emails = [one["user"]["email"] for page in found for one in page]
        assert emails == sorted(set(emails))
        assert ids([(await http.get(f"{API}/members")).json()["items"]]) == ids(found)
        first = (await http.get(f"{API}/members", params={"limit": 2})).json()
        for email in ("0@example.org", "zz@example.org"):
            await http.post(f"{API}/members", json={"email": email, "role": "viewer"})
        rest = (await http.get(f"{API}/members", params={"cursor": first["next"]})).json()["items"]
        assert [one["user"]["email"] for one in rest] == [*emails[2:], "zz@example.org"]


async def test_keys_come_newest_first(wide_front: Front) -> None:
    """Also those that were made at one moment; of others only an administrator sees any."""
    front = wide_front
    viewer = await member(front, "viewer", DEFAULT_ORGANISATION)
    for _ in range(5):
        await key_of(front, viewer)
    async with transaction(front.system.database) as connection:
        query = "UPDATE api_keys SET created_at = '2026-01-01Z' WHERE user_id = :user"
        await connection.execute(text(query), {"user": viewer.opened.user_id})
    async with front.client(viewer.token()) as http:
        found = await pages(http, f"{API}/api-keys")
        assert [len(page) for page in found] == [2, 2, 1]
        assert len(set(ids(found))) == 5
        assert ids([(await http.get(f"{API}/api-keys")).json()["items"]]) == ids(found)
    async with front.client(await front.member("admin")) as http:
        everybody = await pages(http, f"{API}/api-keys")
        assert ids(everybody)[1:] == ids(found), "the first administrator's key is the newest"
    async with front.client(await front.member("developer")) as http:
        assert await pages(http, f"{API}/api-keys") == [[]]


async def test_approvals_come_oldest_first(wide_front: Front) -> None:
    """Those that one may decide are counted, not those that are looked at to find them."""
    front = wide_front
    for _ in range(5):
        await things(front, DEFAULT_ORGANISATION)
    async with front.client(await front.member("viewer")) as http:
        found = await pages(http, f"{API}/approvals")
        assert [len(page) for page in found] == [2, 2, 1]
        at = [one["created_at"] for page in found for one in page]
        assert (at, len(set(ids(found)))) == (sorted(at), 5)
        assert await pages(http, f"{API}/approvals", mine=True) == [[]]
    async with front.client(await front.member("approver")) as http:
        assert ids(await pages(http, f"{API}/approvals", mine=True)) == ids(found)


async def test_one_looks_for_ones_own_beyond_a_batch(
    wide_front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many wait for others, a page of one's own is not empty for that."""
    front = wide_front
    monkeypatch.setattr("phoenix.engine.approvals.MANY", 2)
    for _ in range(5):
        await things(front, DEFAULT_ORGANISATION)
    query = (
        "UPDATE approvals SET rule = jsonb_set(rule, '{role}', '\"admin\"')"
        " WHERE id <> (SELECT id FROM approvals ORDER BY created_at DESC, id DESC LIMIT 1)"
    )
    async with transaction(front.system.database) as connection:
        await connection.execute(text(query))
    async with front.client(await front.member("approver")) as http:
        everything = ids(await pages(http, f"{API}/approvals"))
        assert ids(await pages(http, f"{API}/approvals", mine=True)) == everything[-1:]


@pytest.mark.parametrize("name", LISTS)
async def test_a_page_has_bounds_and_takes_only_its_own_cursors(front: Front, name: str) -> None:
    """What is no cursor is refused by name, and never reaches the database."""
    async with front.client(await front.member("viewer")) as http:
        for limit in (0, 201, "x"):
            answer = await http.get(f"{API}/{name}", params={"limit": limit})
            assert (answer.status_code, answer.json()["field"]) == (422, "query.limit")
        wrong = ["%", "é", "/w==", search.place("a\0b"), "\0", "x" * 501]
        wrong += [search.place("2026-01-01 x"), search.place("x")] if name != "members" else []
        for cursor in wrong:
            answer = await http.get(f"{API}/{name}", params={"cursor": cursor})
            assert (answer.status_code, answer.json()["field"]) == (422, "query.cursor"), cursor
