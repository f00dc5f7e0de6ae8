"""What is remembered, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.engine.memories import MemoryOptions
from tests.integration.api.conftest import Front

PLACE = "/api/v1/memory"
CSV = {"kind": "snippet", "text": "Read CSV files with utf-8-sig.", "language": "python", "tags": ["csv"]}


async def test_from_bringing_to_forgetting(wide_front: Front) -> None:
    """Brought once however often it is sent; searched, corrected under its version, forgotten for good."""
    memories = wide_front.state.memories
    async with wide_front.client(await wide_front.member("admin")) as http:
        for known in (0, 1):
            brought = await http.post(f"{PLACE}/import", json={"items": [CSV]})
            assert (brought.status_code, brought.json()["known"]) == (201, known), brought.text
        (item,) = (await http.get(PLACE)).json()["items"]
        assert (item["origin"], item["project_id"]) == ("foreign", None)
        assert item["agent"].endswith("@example.org")
        one = f"{PLACE}/{item['id']}"
        found = (await http.get(f"{PLACE}/search", params={"text": "a csv file", "kind": "snippet"})).json()
        assert [h["item"]["id"] for h in found["hits"]] == [item["id"]]
        other = await http.get(f"{PLACE}/search", params={"text": "a csv file", "kind": "pattern"})
        assert other.json()["hits"] == []

        tag = (await http.get(one)).headers["ETag"]
        changed = await http.patch(one, json={"text": "Bees make honey."}, headers={"If-Match": tag})
        assert (changed.status_code, changed.json()["version"]) == (200, 2)
        stale = await http.patch(one, json={"pinned": True}, headers={"If-Match": tag})
        assert (stale.status_code, stale.json()["code"]) == (412, "version_conflict")
        # The new vector is there by the time the change is answered.
        assert "by meaning" in str((await http.get(f"{PLACE}/search", params={"text": "honey"})).json())

        assert (await http.get(f"{PLACE}/report")).json()["said"].startswith("Too few projects")
        assert (await http.post(f"{PLACE}/rebuild")).json() == {"items": 1, "embedder": "hashed-1"}
        gone = await http.delete(one)
        assert gone.json() == {"ids": [item["id"]], "unremoved": ""}
        assert (await http.delete(one)).status_code == 404
        assert await memories.vectors.search(wide_front.root.organisation_id, "honey", limit=9) == []
        audit = (await http.get("/api/v1/audit")).json()
        actions = [e["action"] for e in audit if e["action"].startswith("memory")]
        assert sorted(set(actions)) == ["memory.change", "memory.forget", "memory.import", "memory.rebuild"]


async def test_limits_of_the_organisation_refuse_all_of_an_import(wide_front: Front) -> None:
    """429 with what to do; nothing of it is stored."""
    wide_front.state.memories.options = MemoryOptions(max_items=1)
    async with wide_front.client(await wide_front.member("admin")) as http:
        answer = await http.post(f"{PLACE}/import", json={"items": [CSV, CSV | {"text": "Another."}]})
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_reached")
        assert (await http.get(PLACE)).json()["items"] == []


async def test_pages_follow_each_other(wide_front: Front) -> None:
    """Every item once, newest first."""
    async with wide_front.client(await wide_front.member("admin")) as http:
        items = [CSV | {"text": f"Text {n}."} for n in range(5)]
        assert (await http.post(f"{PLACE}/import", json={"items": items})).status_code == 201
        seen, cursor = [], ""
        while cursor is not None:
            page = (await http.get(PLACE, params={"limit": 2, "cursor": cursor})).json()
            seen += [i["text"] for i in page["items"]]
            cursor = page["next"]
        assert sorted(seen) == [f"Text {n}." for n in range(5)]
        assert (await http.get(PLACE, params={"cursor": "!"})).status_code == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "secret", "text": "x"},
        {"kind": "snippet", "text": "  "},
        {"kind": "snippet", "text": "x" * 8001},
        {"kind": "snippet", "text": "x", "tags": ["two words"]},
        {"kind": "snippet", "text": "x", "language": "C plus"},
        {"kind": "snippet", "text": "x", "helped": 99},
        {"kind": "snippet", "text": "x", "project_id": "00000000-0000-0000-0000-000000000001"},
    ],
)
async def test_what_does_not_fit_is_refused(wide_front: Front, wrong: dict[str, Any]) -> None:
    """422 naming the member: nobody brings credit or a project with a text."""
    async with wide_front.client(await wide_front.member("admin")) as http:
        answer = await http.post(f"{PLACE}/import", json={"items": [wrong]})
    assert answer.status_code == 422, answer.text
    assert "items" in answer.text


async def test_an_import_has_its_limit(wide_front: Front) -> None:
    """One more than 200 is refused, and nothing of it is stored."""
    items = [CSV | {"text": f"Text {n}."} for n in range(201)]
    async with wide_front.client(await wide_front.member("admin")) as http:
        assert (await http.post(f"{PLACE}/import", json={"items": items})).status_code == 422
        assert (await http.get(PLACE)).json()["items"] == []
        assert (await http.post(f"{PLACE}/import", json={"items": items[:200]})).status_code == 201
        assert (await http.post(f"{PLACE}/import", json={"items": []})).status_code == 422
