"""`phoenix up` as its user runs it: from a launch over HTTP to a delivered branch."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from httpx import AsyncClient

import phoenix
from phoenix.settings import Settings

DEMO = Path(phoenix.__file__).parent / "demo"
LONGEST_SECONDS = 240.0


@dataclass
class Up:
    """A running service."""

    process: asyncio.subprocess.Process
    url: str
    key: str
    """The first administrator's; empty when there was one already."""


@asynccontextmanager
async def up(settings: Settings, **more: str) -> AsyncIterator[Up]:
    """Run the service in a process of its own until it says where it serves."""
    assert settings.database_url is not None
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(settings.home),
        "PHOENIX_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "PHOENIX_LOCAL_SOURCES": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "phoenix.main"),
        env=environment | {"PHOENIX_PORT": "0"} | more,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said = ""
    try:
        async with asyncio.timeout(60):
            while (served := re.search(r"serving (http://\S+)", said)) is None:
                line = await process.stderr.readline()
                assert line, said
                said += line.decode()
        key = re.search(r"phx_key_\S+", said)
        reading = asyncio.create_task(process.stderr.read())
        yield Up(process, served[1], key[0] if key else "")
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def followed(http: AsyncClient, project_id: str) -> list[dict[str, Any]]:
    """Follow a project's events to its end, approving whatever is asked."""
    seen: list[dict[str, Any]] = []
    path = f"/api/v1/projects/{project_id}/events/stream"
    async with http.stream("GET", path) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line.removeprefix("data: "))
            seen.append(event)
            if event["kind"] == "run_waiting" and not event["data"]["key"]:
                await approve_all(http)
            if event["kind"] == "run_finished" and not event["data"]["key"]:
                break
    return seen


async def approve_all(http: AsyncClient) -> None:
    for approval in (await http.get("/api/v1/approvals")).json()["items"]:
        asked = approval["request"]
        body = {"verdict": "approve", "digest": asked["value_digest"]}
        answer = await http.post(f"/api/v1/approvals/{approval['id']}/decision", json=body)
        assert answer.status_code == 200, answer.text


async def test_a_project_is_delivered_over_http(settings: Settings) -> None:
    """Launched, followed, approved and fetched by a client that knows nothing but the API."""
    async with up(settings) as service, asyncio.timeout(LONGEST_SECONDS):
        headers = {"X-API-Key": service.key}
        async with AsyncClient(base_url=service.url, headers=headers, timeout=60) as http:
            order = {
                "requirement": (DEMO / "requirement.md").read_text(),
                "model": f"recorded:{DEMO / 'recording.jsonl'}",
                "approvals": "plan,delivery",
                "path": "full",
            }
            launched = await http.post("/api/v1/projects", json=order)
            assert launched.status_code == 202, launched.text
            project_id = launched.json()["id"]
            events = await followed(http, project_id)
            project = (await http.get(f"/api/v1/projects/{project_id}")).json()
            evidence = (await http.get(f"/api/v1/projects/{project_id}/documents/evidence")).json()
            audit = [e["data"]["by"] for e in events if e["kind"] == "approval_decided"]
    assert project["run"]["status"] == "success", project["run"]["error"]
    assert evidence["passed"] is True
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert "project_delivered" in [e["kind"] for e in events]
    assert audit.count("admin@localhost") == 2
    assert service.process.returncode == 0


async def test_the_first_key_is_given_once(settings: Settings) -> None:
    """A second start makes no other administrator."""
    async with up(settings) as first:
        assert first.key
    async with up(settings) as second:
        assert not second.key
        async with AsyncClient(base_url=second.url, headers={"X-API-Key": first.key}) as http:
            assert (await http.get("/api/v1/auth/me")).json()["role"] == "admin"
