"""One trace from an HTTP launch through a killed worker and another one to delivery."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from httpx import AsyncClient

from phoenix.domain.recorded import RecordedSpan, orphans
from phoenix.settings import Settings
from tests.e2e.receiver import Receiver, receiving
from tests.e2e.test_up import DEMO, up

LONGEST_SECONDS = 600.0
"""Three processes start in turn, and a dead one has to be noticed."""
REQUIREMENT = (DEMO / "requirement.md").read_text()


@asynccontextmanager
async def worker(settings: Settings, collector: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `phoenix worker` in a process of its own."""
    assert settings.database_url is not None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "phoenix", "worker"),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(settings.home),
            "PHOENIX_HOME": str(settings.home),
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "PHOENIX_OTLP_ENDPOINT": collector,
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def until(http: AsyncClient, project_id: str, kind: str, *, key: str | None = None) -> None:
    """Wait for an event of a project, of the run of a key where one is given."""
    seen = 0
    while True:
        path = f"/api/v1/projects/{project_id}/events"
        for event in (await http.get(path, params={"after": seen})).json():
            seen = event["seq"]
            if event["kind"] == kind and key in (None, event["data"].get("key")):
                return
        await asyncio.sleep(0.05)


async def recorded(http: AsyncClient, project_id: str) -> list[RecordedSpan]:
    """Return all spans of a project, over pages."""
    found: list[RecordedSpan] = []
    cursor = ""
    while True:
        params = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
        page = (await http.get(f"/api/v1/projects/{project_id}/spans", params=params)).json()
        found += [RecordedSpan.model_validate(item) for item in page["items"]]
        if page["next"] is None:
            return found
        cursor = page["next"]


async def closed(http: AsyncClient, project_id: str, collector: Receiver) -> list[RecordedSpan]:
    """Return all spans once each has ended and was sent."""
    while True:
        found = await recorded(http, project_id)
        sent = {span.id for span in collector.spans}
        if all(span.status != "open" and span.id in sent for span in found):
            return found
        await asyncio.sleep(0.5)


async def test_one_trace_from_an_http_launch_over_a_kill_to_delivery(settings: Settings) -> None:
    """One trace id, one tree and no orphan, in PostgreSQL as at the collector."""
    with receiving() as collector:
        more: dict[str, Any] = {"PHOENIX_WORK": "0", "PHOENIX_OTLP_ENDPOINT": collector.url}
        async with up(settings, **more) as service, asyncio.timeout(LONGEST_SECONDS):
            headers = {"X-API-Key": service.key}
            async with AsyncClient(base_url=service.url, headers=headers, timeout=60) as http:
                order = {
                    "requirement": REQUIREMENT,
                    "model": f"recorded:{DEMO / 'recording.jsonl'}",
                    "approvals": "auto",
                    "path": "full",
                }
                async with worker(settings, collector.url) as first:
                    launched = await http.post("/api/v1/projects", json=order)
                    assert launched.status_code == 202, launched.text
                    project_id = launched.json()["id"]
                    # Amid a task, when some of its spans are stored.
                    await until(http, project_id, "tool_called")
                    await asyncio.sleep(1)
                    first.kill()
                    await first.wait()
                async with worker(settings, collector.url):
                    await until(http, project_id, "run_finished", key="")
                    spans = await closed(http, project_id, collector)
                    project = (await http.get(f"/api/v1/projects/{project_id}")).json()
        assert project["run"]["status"] == "success", project["run"]["error"]
        trace = launched.headers["traceparent"].split("-")[1]
        assert project["project"]["traceparent"].split("-")[1] == trace
        _check_stored(spans, trace, project_id)
        _check_sent(collector, spans, trace, project_id)
        for body in collector.bodies:
            assert service.key.encode() not in body
            assert REQUIREMENT.strip().splitlines()[-1].encode() not in body


def _check_stored(spans: list[RecordedSpan], trace: str, project_id: str) -> None:
    assert {span.trace_id for span in spans} == {trace}
    assert orphans(spans) == []
    top = spans[0]
    assert (top.kind, top.name) == ("request", "POST /projects")
    kinds = {span.kind for span in spans}
    assert kinds >= {"request", "run", "turn", "step", "model", "tool"}
    cut = [span for span in spans if span.status == "interrupted"]
    assert {"turn", "step"} <= {span.kind for span in cut}
    # What was cut was done again, by another attempt of the same run.
    for span in cut:
        later = [other for other in spans if other.run_id == span.run_id and other.attempt > span.attempt]
        assert later, span
    root = next(span for span in spans if span.kind == "run" and span.parent_id == top.id)
    assert root.status == "ok"


def _check_sent(collector: Receiver, spans: list[RecordedSpan], trace: str, project_id: str) -> None:
    sent = collector.of(trace)
    assert set(sent) >= {span.id for span in spans}
    tops = [span for span in sent.values() if not span.parent]
    assert [span.name for span in tops] == ["POST /projects"]
    assert [span for span in sent.values() if span.parent and span.parent not in sent] == []
    # The service and both workers.
    assert len({span.instance for span in sent.values()}) == 3
    others = [span for span in collector.spans if span.trace != trace]
    assert not any(span.attributes.get("phoenix.project.id") == project_id for span in others)
