"""Requests are counted by the route that served them, never by a path with an id in it."""

from __future__ import annotations

import re
from uuid import uuid4

from phoenix.telemetry.metrics import REGISTRY
from tests.integration.api.conftest import Front

API = "/api/v1"
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}")


def counted(method: str, route: str, status: int) -> float:
    """Return how often that was counted."""
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("phoenix_http_requests_total", labels) or 0.0


def routes() -> set[str]:
    """Return the routes that anything was counted for."""
    return {
        sample.labels["route"]
        for family in REGISTRY.collect()
        if family.name == "phoenix_http_requests"
        for sample in family.samples
    }


async def test_requests_are_counted_by_route(front: Front) -> None:
    """Whatever the id, it is one route; what no route serves, and odd methods, are one each."""
    missing = "/projects/{project_id}"
    before = counted("GET", missing, 404), counted("GET", "none", 404)
    async with front.client(await front.member("viewer")) as http:
        for _ in range(3):
            assert (await http.get(f"{API}/projects/{uuid4()}")).status_code == 404
            assert (await http.get(f"/{uuid4()}")).status_code == 404
        assert (await http.request("BREW", f"{API}/projects")).status_code == 405
    assert counted("GET", missing, 404) == before[0] + 3
    assert counted("GET", "none", 404) == before[1] + 3
    assert [route for route in routes() if ID.search(route)] == []
