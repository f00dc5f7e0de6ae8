"""A project's code, checkpoints and forks over HTTP, and deleting it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text

from phoenix.api import code as module
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.storage.database import transaction
from phoenix.workspace.repository import GitWorkspace
from tests.integration.api.conftest import Front
from tests.integration.api.test_api_projects import launched, waiting
from tests.integration.api.world import member

API = "/api/v1/projects"
HOST_SECRET = "root:x:0:0"


async def written(front: Front, project_id: str, files: dict[str, bytes | Path]) -> str:
    """Let a project have delivered these files, or links, and return the commit."""
    workspace = GitWorkspace(front.system.folder / "projects" / project_id, "x")
    base = await workspace.prepare(None)
    tree = await workspace.worktree("w", base)
    for name, content in files.items():
        path = tree.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    commit = await workspace.commit("w", message="Write", parents=[base])
    async with transaction(front.system.database) as connection:
        await connection.execute(
            text(
                "INSERT INTO artifacts (project_id, digest, kind, body)"
                " VALUES (CAST(:project AS uuid), 'sha256:x', 'Delivery', CAST(:body AS jsonb))"
            ),
            {"project": project_id, "body": f'{{"commit": "{commit}"}}'},
        )
    return commit


async def test_the_delivery_is_read_as_diff_and_files(wide_front: Front) -> None:
    """By page, by name, and by commit; text as text, all else as bytes, and nothing as a page."""
    front = wide_front
    project_id = await launched(front)
    page = b"<script>alert(1)</script>"
    commit = await written(
        front,
        project_id,
        {"a.html": page, "b/c.bin": b"\x00\xff", "b/ö d.txt": b"x\n", "z.sh": b"#!/bin/sh\n"},
    )
    async with front.client(await front.member("viewer")) as http:
        path = f"{API}/{project_id}"
        diff = await http.get(f"{path}/diff")
        assert diff.headers["content-type"] == "text/plain; charset=utf-8"
        assert "+<script>alert(1)</script>" in diff.text
        seen, cursor = [], ""
        while cursor is not None:
            got = (await http.get(f"{path}/files", params={"limit": 2, "cursor": cursor})).json()
            seen += [(f["path"], f["kind"], f["bytes"]) for f in got["items"]]
            cursor = got["next"]
        assert seen == [
            ("a.html", "file", len(page)),
            ("b/c.bin", "file", 2),
            ("b/ö d.txt", "file", 2),
            ("z.sh", "file", 10),
        ]
        for name, kind in (("a.html", "text/plain; charset=utf-8"), ("b/c.bin", "application/octet-stream")):
            answer = await http.get(f"{path}/files/content", params={"path": name, "at": commit})
            assert answer.headers["content-type"] == kind
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-disposition"].startswith("attachment;")
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        named = await http.get(f"{path}/files/content", params={"path": "b/ö d.txt"})
        assert (named.content, named.headers["content-disposition"]) == (
            b"x\n",
            "attachment; filename*=UTF-8''%C3%B6%20d.txt",
        )


async def test_no_link_leads_out_of_the_code(wide_front: Front) -> None:
    """Links are named and not followed; paths that climb, and commits that are none, find nothing."""
    front = wide_front
    project_id = await launched(front)
    commit = await written(
        front,
        project_id,
        {"passwd": Path("/etc/passwd"), "up": Path("../../.."), "in/side": Path("../plain"), "plain": b"ok"},
    )
    async with front.client(await front.member("viewer")) as http:
        path = f"{API}/{project_id}"
        files = {f["path"]: f["kind"] for f in (await http.get(f"{path}/files")).json()["items"]}
        assert files == {"passwd": "link", "up": "link", "in/side": "link", "plain": "file"}
        for name in (
            *(
                "passwd",
                "up",
                "up/etc/passwd",
                "in/side",
                "in",
                "../plain",
                "/etc/passwd",
                "./plain",
                "plain/",
            ),
            *(".git/config", "*", ":/plain", "plain:x", "-p", "a" * 300),
        ):
            answer = await http.get(f"{path}/files/content", params={"path": name})
            assert answer.status_code == 404, name
            assert HOST_SECRET not in answer.text
        for at in (
            "HEAD",
            "main",
            "--all",
            "0" * 40,
            f"{commit}^",
            commit[:12],
            "build/1/T1",
            "refs/phoenix/base",
        ):
            for route in ("diff", "files", "files/content?path=plain"):
                sign = "&" if "?" in route else "?"
                answer = await http.get(f"{path}/{route}{sign}at={at.replace('^', '%5E')}")
                assert answer.status_code == 404, (at, route, answer.text)
        zero = await http.get(f"{path}/files/content", params={"path": "a\0b"})
        assert (zero.status_code, zero.json()["field"]) == (422, "query.path")


async def test_what_is_too_large_is_cut_or_refused(wide_front: Front, monkeypatch: Any) -> None:
    """A diff says that it was cut; a file says how large it is."""
    front = wide_front
    monkeypatch.setattr(module, "MOST_DIFF_BYTES", 1000)
    monkeypatch.setattr(module, "MOST_FILE_BYTES", 1000)
    project_id = await launched(front)
    await written(front, project_id, {"big.txt": b"line\n" * 1000})
    async with front.client(await front.member("viewer")) as http:
        diff = (await http.get(f"{API}/{project_id}/diff")).text
        assert "[diff cut after 1000 bytes]" in diff
        assert len(diff) < 1100
        answer = await http.get(f"{API}/{project_id}/files/content", params={"path": "big.txt"})
        assert (answer.status_code, "5000 bytes" in answer.json()["detail"]) == (422, True)


async def test_a_project_is_forked_at_a_gate(wide_front: Front) -> None:
    """With another value there; the same request again makes no second fork."""
    front = wide_front
    async with front.system.engine.worker():
        project_id = await launched(front)
        await waiting(front, await front.member("viewer"))
        async with front.client(await front.member("developer")) as http:
            path = f"{API}/{project_id}"
            page = (await http.get(f"{path}/checkpoints")).json()
            assert [m["asks"] for m in page["items"]][-1] == ["spec"]
            first = (await http.get(f"{path}/checkpoints", params={"limit": 1})).json()
            rest = (await http.get(f"{path}/checkpoints", params={"cursor": first["next"]})).json()
            assert first["items"] + rest["items"] == page["items"]
            assert (await http.get(f"{path}/checkpoints", params={"cursor": "x"})).status_code == 422
            at_gate = (await http.get(f"{path}/checkpoint", params={"at": "spec"})).json()
            assert at_gate["moment"] == page["items"][-1]
            assert (at_gate["value"]["text"], at_gate["requests"][0]["name"]) == ("hello", "spec")
            assert (await http.get(f"{path}/checkpoint")).json() == at_gate
            assert (await http.get(f"{path}/checkpoint", params={"at": "no"})).json()["field"] == "at"
            body = {
                "at": "spec",
                "title": "Other",
                "edit": {"text": "edited", "folder": str(front.system.folder), "done": False},
            }
            once = {"Idempotency-Key": "fork-1"}
            answers = await asyncio.gather(
                *(http.post(f"{path}/forks", json=body, headers=once) for _ in range(3))
            )
            assert {a.status_code for a in answers} == {202}, answers[0].text
            (fork_id,) = {a.json()["id"] for a in answers}
            assert answers[0].json()["forked_from"] == project_id
            assert len((await http.get(API)).json()["items"]) == 2
            run = await front.system.until(UUID(fork_id), "success")
            assert run.output is not None
            assert run.output["text"] == "EDITED"
            for wrong, status in (
                ({"at": "nowhere"}, 422),
                ({"at": "start", "edit": {}}, 409),
                ({"at": 1}, 422),
            ):
                refused = await http.post(f"{path}/forks", json=wrong)
                assert refused.status_code in (status, 422), refused.text
        async with transaction(front.system.database) as connection:
            query = "SELECT count(*) FROM audit WHERE action = 'project.fork'"
            assert (await connection.execute(text(query))).scalar_one() == 1
            assert (await connection.execute(text("SELECT count(*) FROM begun_forks"))).scalar_one() == 0


async def test_a_project_is_deleted_by_an_administrator(wide_front: Front) -> None:
    """With its code; not while it is worked on; then it answers as one that never was."""
    front = wide_front
    project_id = await launched(front)
    await written(front, project_id, {"a": b"a"})
    path = f"{API}/{project_id}"
    async with front.client(await front.member("approver")) as http:
        assert (await http.delete(path)).status_code == 403
    async with front.client(await front.member("admin")) as http:
        busy = await http.delete(path)
        assert (busy.status_code, busy.json()["code"]) == (409, "delete_refused")
        await http.post(f"{path}/cancel")
        assert (await http.delete(path)).status_code == 204
        assert (await http.get(path)).status_code == (await http.delete(path)).status_code == 404
        entries = (await http.get("/api/v1/audit", params={"action": "project.delete"})).json()
        assert [entry["object_id"] for entry in entries] == [project_id]
    assert not os.path.exists(front.system.folder / "projects" / project_id)  # noqa: PTH110


async def test_code_is_read_without_holding_a_connection(wide_front: Front) -> None:
    """More readers at once than there are connections."""
    front = wide_front
    project_id = await launched(front)
    await written(front, project_id, {"a": b"a"})
    who = await member(front, "viewer", DEFAULT_ORGANISATION)
    async with front.client(who.token()) as http, asyncio.timeout(60):
        answers = await asyncio.gather(*(http.get(f"{API}/{project_id}/files") for _ in range(40)))
    assert {a.status_code for a in answers} == {200}
