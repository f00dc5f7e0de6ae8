"""Every route declares who may call it."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI

from phoenix.api.access import PUBLIC, policies
from phoenix.api.app import ROUTERS, bare_app

OPEN = {
    ("POST", "/api/v1/auth/sign-in"),
    ("POST", "/api/v1/auth/refresh"),
    ("GET", "/api/v1/auth/oidc/start"),
    ("GET", "/api/v1/auth/oidc/callback"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
}


def test_only_these_routes_are_public() -> None:
    """Whoever adds one has to say so here."""
    found = policies(bare_app(), ROUTERS)
    assert {place for place, policy in found.items() if policy == PUBLIC} == OPEN
    assert len(found) > len(OPEN) + 5


def test_a_route_without_a_policy_stops_the_start() -> None:
    """It cannot be forgotten, whether its router is known or not."""
    app, router = FastAPI(openapi_url=None), APIRouter()

    @router.get("/open")
    async def read() -> None:
        """Forgotten."""

    app.include_router(router, prefix="/api")
    for known in ([("/api", router)], []):
        with pytest.raises(RuntimeError, match="GET /api/open"):
            policies(app, known)
